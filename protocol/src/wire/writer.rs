//! Encodes frames as lists of slices: small fields are copied together, records are added as slices.

use bytes::{BufMut, Bytes, BytesMut};
use highwater_types::Uuid;

use super::{StrBytes, TEXT_BYTES_MAX};
use crate::ApiKey;
use crate::records_field::Records;

/// Why a message can't be encoded: a length is too large for its field. The connection is closed, as in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text is longer than [`TEXT_BYTES_MAX`].
    #[error("text is too long bytes={0} limit={TEXT_BYTES_MAX}")]
    Text(usize),
    /// Bytes, a list, or the whole frame exceed 2 GiB.
    #[error("field or frame is too long length={0}")]
    Length(usize),
}

/// Encodes a frame. The first length that is too large for its field is remembered, and [`FrameWriter::finish`]
/// returns it as an error.
#[derive(Debug, Default)]
pub struct FrameWriter {
    parts: Vec<Bytes>,
    parts_bytes: usize,
    tail: BytesMut,
    refused: Option<EncodeError>,
    errors: Vec<(i16, u64)>,
}

const PREFIX_BYTES: usize = 4;

macro_rules! number {
    ($name:ident, $put:ident, $ty:ty, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(&mut self, value: $ty) {
            self.tail.$put(value);
        }
    };
}

impl FrameWriter {
    /// Encodes without a length and a header.
    #[must_use]
    pub fn bare() -> Self {
        Self::default()
    }

    /// Begins a response with its length, to be filled in, and its header. The header of ApiVersions is never
    /// flexible (KIP-511).
    #[must_use]
    pub fn response(key: ApiKey, flexible: bool, correlation_id: i32) -> Self {
        let mut out = Self {
            tail: BytesMut::with_capacity(256),
            ..Self::default()
        };
        out.tail.put_bytes(0, PREFIX_BYTES);
        out.i32(correlation_id);
        if flexible && key != ApiKey::ApiVersions {
            out.unsigned_varint(0);
        }
        out
    }

    /// Begins a request with its length, to be filled in, and its header.
    #[must_use]
    pub fn request(
        key: ApiKey,
        version: i16,
        flexible: bool,
        correlation_id: i32,
        client_id: &str,
    ) -> Self {
        let mut out = Self {
            tail: BytesMut::with_capacity(256),
            ..Self::default()
        };
        out.tail.put_bytes(0, PREFIX_BYTES);
        out.i16(key as i16);
        out.i16(version);
        out.i32(correlation_id);
        out.string(&StrBytes::from(client_id), false);
        if flexible {
            out.unsigned_varint(0);
        }
        out
    }

    /// The number of bytes so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.parts_bytes.saturating_add(self.tail.len())
    }

    /// Returns the frame, which begins with its length.
    ///
    /// # Errors
    /// [`EncodeError`] for the first length that was too large for its field.
    pub fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        let length = self.fitting(self.written().saturating_sub(PREFIX_BYTES));
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let prefix = length.to_be_bytes();
        if self.parts.is_empty() {
            self.tail[..PREFIX_BYTES].copy_from_slice(&prefix);
            return Ok(vec![self.tail.freeze()]);
        }
        let first = std::mem::take(&mut self.parts[0]);
        let mut first = BytesMut::from(first);
        first[..PREFIX_BYTES].copy_from_slice(&prefix);
        self.parts[0] = first.freeze();
        if !self.tail.is_empty() {
            self.parts.push(self.tail.freeze());
        }
        Ok(self.parts)
    }

    /// Returns a length in the type of its field. A length that is too large is remembered.
    fn fitting(&mut self, length: usize) -> i32 {
        i32::try_from(length).unwrap_or_else(|_cause| {
            self.refused.get_or_insert(EncodeError::Length(length));
            0
        })
    }

    /// Returns the encoded bytes, without a length.
    #[must_use]
    pub fn into_parts(mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.freeze());
        }
        self.parts
    }

    /// Adds bytes as a slice if there are many, and copies a few.
    fn link(&mut self, bytes: Bytes) {
        const COPIED_MAX: usize = 256;
        if bytes.len() <= COPIED_MAX {
            self.tail.put_slice(&bytes);
            return;
        }
        self.seal_tail();
        self.parts_bytes = self.parts_bytes.saturating_add(bytes.len());
        self.parts.push(bytes);
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.parts_bytes = self.parts_bytes.saturating_add(tail.len());
            self.parts.push(tail);
        }
    }

    number!(i8, put_i8, i8, "A signed byte.");
    number!(i16, put_i16, i16, "Two bytes, signed.");
    number!(u16, put_u16, u16, "Two bytes.");
    number!(i32, put_i32, i32, "Four bytes, signed.");
    number!(u32, put_u32, u32, "Four bytes.");
    number!(i64, put_i64, i64, "Eight bytes, signed.");
    number!(f64, put_f64, f64, "Eight bytes, IEEE 754.");

    /// Writes an error code; codes other than 0 are counted.
    pub fn error_code(&mut self, code: i16) {
        self.i16(code);
        if code == 0 {
            return;
        }
        match self.errors.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.errors.push((code, 1)),
        }
    }

    /// The error codes that were written, except 0, each with its number of occurrences.
    #[must_use]
    pub fn errors(&self) -> &[(i16, u64)] {
        &self.errors
    }

    /// Writes a boolean as a byte; 1 is true.
    pub fn bool(&mut self, value: bool) {
        self.i8(value.into());
    }

    /// Writes an id as 16 bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.tail.put_slice(&value.0);
    }

    /// Writes an unsigned number in one to five bytes.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8((value & 0x7f).to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value.to_le_bytes()[0]);
    }

    fn compact_length(&mut self, length: Option<usize>) {
        let encoded = length.map_or(0, |length| {
            self.fitting(length).cast_unsigned().saturating_add(1)
        });
        self.unsigned_varint(encoded);
    }

    fn length(&mut self, length: Option<usize>) {
        let length = length.map_or(-1, |length| self.fitting(length));
        self.i32(length);
    }

    /// Writes a nullable text. It may have [`TEXT_BYTES_MAX`] at most, in every version, as in Kafka.
    pub fn nullable_string(&mut self, text: Option<&StrBytes>, flexible: bool) {
        let length = text.map(|text| text.len());
        let short = length.map_or(Ok(-1), i16::try_from);
        if short.is_err() {
            let refused = EncodeError::Text(length.unwrap_or_default());
            self.refused.get_or_insert(refused);
        }
        if flexible {
            self.compact_length(length);
        } else {
            self.i16(short.unwrap_or_default());
        }
        if let Some(text) = text {
            self.tail.put_slice(text.as_bytes());
        }
    }

    /// Writes a text.
    pub fn string(&mut self, text: &StrBytes, flexible: bool) {
        self.nullable_string(Some(text), flexible);
    }

    /// Writes nullable bytes.
    pub fn nullable_bytes(&mut self, bytes: Option<&Bytes>, flexible: bool) {
        let length = bytes.map(Bytes::len);
        if flexible {
            self.compact_length(length)
        } else {
            self.length(length)
        }
        if let Some(bytes) = bytes {
            self.link(bytes.clone());
        }
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &Bytes, flexible: bool) {
        self.nullable_bytes(Some(bytes), flexible);
    }

    /// Writes nullable records, as slices without copying.
    pub fn nullable_records(&mut self, records: Option<&Records>, flexible: bool) {
        let length = records.map(Records::len);
        if flexible {
            self.compact_length(length)
        } else {
            self.length(length)
        }
        for part in records.into_iter().flat_map(Records::parts) {
            self.link(part.clone());
        }
    }

    /// Writes records, as slices without copying.
    pub fn records(&mut self, records: &Records, flexible: bool) {
        self.nullable_records(Some(records), flexible);
    }

    /// Writes a nullable list.
    pub fn nullable_array<T>(
        &mut self,
        list: Option<&[T]>,
        flexible: bool,
        mut one: impl FnMut(&mut Self, &T),
    ) {
        let length = list.map(<[T]>::len);
        if flexible {
            self.compact_length(length)
        } else {
            self.length(length)
        }
        for element in list.unwrap_or_default() {
            one(self, element);
        }
    }

    /// Writes a list.
    pub fn array<T>(&mut self, list: &[T], flexible: bool, one: impl FnMut(&mut Self, &T)) {
        self.nullable_array(Some(list), flexible, one);
    }

    /// Writes a nullable structure: a byte before it says whether it is null.
    pub fn nullable_struct<T>(&mut self, value: Option<&T>, one: impl FnOnce(&mut Self, &T)) {
        self.i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            one(self, value);
        }
    }

    /// Writes a tagged field with its size.
    pub fn tagged(&mut self, tag: u32, body: impl FnOnce(&mut Self)) {
        let mut field = Self::bare();
        body(&mut field);
        self.unsigned_varint(tag);
        let size = self.fitting(field.written());
        self.unsigned_varint(size.cast_unsigned());
        self.refused = self.refused.take().or(field.refused.take());
        for part in field.into_parts() {
            self.link(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_its_field_cannot_say_is_an_error_in_every_version() {
        for (bytes, flexible) in [(TEXT_BYTES_MAX, false), (TEXT_BYTES_MAX, true)] {
            let write = |bytes: usize, tagged: bool| {
                let text = StrBytes::from("x".repeat(bytes));
                let mut out = FrameWriter::response(ApiKey::Metadata, flexible, 1);
                match tagged {
                    true => out.tagged(0, |out| out.string(&text, flexible)),
                    false => out.string(&text, flexible),
                }
                out.finish()
            };
            for tagged in [false, true] {
                assert!(write(bytes, tagged).is_ok());
                assert_eq!(write(bytes + 1, tagged), Err(EncodeError::Text(bytes + 1)));
            }
        }
    }
}
