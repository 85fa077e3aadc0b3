//! Kafka's identifiers.

use std::fmt;
use std::str::FromStr;

/// A 128-bit id. Its text form is Kafka's: URL-safe base64 without padding, 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// The error for a text that is not a [`Uuid`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseUuidError;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// The id that means "no id" in Kafka's protocol.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the id that means "no id".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut out = [0u8; 22];
        for (i, slot) in out.iter_mut().enumerate() {
            // 21 groups of six bits, then the remaining two bits, followed by zeroes
            let group = if i < 21 {
                bits >> (122 - 6 * i)
            } else {
                bits << 4
            };
            *slot = ALPHABET[(group & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&out).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut bits = 0u128;
        for (i, byte) in text.bytes().enumerate() {
            let value = ALPHABET
                .iter()
                .position(|&a| a == byte)
                .ok_or(ParseUuidError)?;
            let value = value as u128;
            if i < 21 {
                bits |= value << (122 - 6 * i);
            } else if value & 15 == 0 {
                bits |= value >> 4;
            } else {
                return Err(ParseUuidError);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id of 22 characters of URL-safe base64")
    }
}

impl std::error::Error for ParseUuidError {}

/// Kafka's id of a topic (KIP-516).
pub type TopicId = Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}
pub(crate) use number;

number! {
    /// Kafka's `node.id`; at least 0.
    NodeId(i32)
}
number! {
    /// The index of a partition in its topic; at least 0.
    PartitionIndex(i32)
}
number! {
    /// One leadership of a partition, as Kafka numbers it. It never decreases.
    LeaderEpoch(i32)
}
number! {
    /// The id of a producer; at least 0, and never assigned twice.
    ProducerId(i64)
}
number! {
    /// The epoch of a producer id; at least 0.
    ProducerEpoch(i16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_kafka_prints_them() {
        // expected values from org.apache.kafka.common.Uuid: new Uuid(0x0123456789abcdefL, 0x1011121314151617L)
        let id = Uuid(0x0123_4567_89ab_cdef_1011_1213_1415_1617_u128.to_be_bytes());
        assert_eq!(id.to_string(), "ASNFZ4mrze8QERITFBUWFw");
        assert_eq!("ASNFZ4mrze8QERITFBUWFw".parse(), Ok(id));
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(
            "AAAAAAAAAAAAAAAAAAAAAB".parse::<Uuid>(),
            Err(ParseUuidError)
        );
        assert_eq!("short".parse::<Uuid>(), Err(ParseUuidError));
    }
}
