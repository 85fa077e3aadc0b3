//! Decodes a frame without copying it. No length is trusted: each is checked against the bytes that are left.

use bytes::{Buf, Bytes};
use highwater_types::Uuid;

use super::StrBytes;
use super::text::{TEXT_BYTES_MAX, decode_text};
use crate::records_field::Records;

/// Why a frame can't be decoded. It is the client's fault, and the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends too early, or a length in it is too large.
    #[error("frame ends too early wanted={wanted} left={left}")]
    Truncated {
        /// The number of bytes needed.
        wanted: usize,
        /// The number of bytes left.
        left: usize,
    },
    /// A length is below -1, or -1 where null is not allowed.
    #[error("length is negative length={0}")]
    NegativeLength(i64),
    /// A variable-length number doesn't end.
    #[error("varint is too long")]
    Varint,
    /// A text is longer than [`TEXT_BYTES_MAX`], before or after bytes that aren't UTF-8 are replaced.
    #[error("text is too long bytes={0} limit={TEXT_BYTES_MAX}")]
    Text(usize),
    /// Bytes are left after the message.
    #[error("bytes are left after the message bytes={0}")]
    LeftOver(usize),
    /// A list has too many elements, or a structure too many tagged fields.
    #[error("too many elements count={count} limit={limit}")]
    TooMany {
        /// Their number.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The lists of a message would take much more memory than its frame.
    #[error("lists take too much memory bytes={bytes} left={left}")]
    Wide {
        /// The memory that the elements of a list take.
        bytes: usize,
        /// The memory that lists may still take.
        left: usize,
    },
    /// The message has no such version.
    #[error("version is unknown version={0}")]
    Version(i16),
}

/// Reads a frame from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Reader {
    buf: Bytes,
    lists: Lists,
}

/// The number of elements in a frame's lists, and what is still allowed.
#[derive(Debug, Clone, Copy)]
struct Lists {
    elements: usize,
    elements_max: usize,
    bytes_left: usize,
}

/// The number of elements for which memory is reserved ahead. A longer list grows while its elements are read.
const RESERVED_MAX: usize = 256;
/// The limit for the elements of a list. Source: `MessageUtil.MAX_ARRAY_LENGTH`, Kafka 4.4.
const LIST_MAX: usize = 1_000_000;
/// The memory that the elements of all lists may take for each byte of the frame. A structure may be one byte in the
/// frame; a text of one character takes two bytes in the frame and 32 in memory.
const LIST_BYTES_PER_BYTE: usize = 16;
/// Memory that the elements may take in addition, so that small frames aren't limited.
const LIST_BYTES_FREE: usize = 64 << 10;
/// The limit for the tagged fields of a structure. Source: `MessageUtil.MAX_TAGGED_FIELD_COUNT`, Kafka 4.4.
const TAGGED_FIELDS_MAX: usize = 10_000;

macro_rules! number {
    ($name:ident, $get:ident, $ty:ty, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Errors
        /// [`DecodeError::Truncated`].
        pub fn $name(&mut self) -> Result<$ty, DecodeError> {
            self.want(size_of::<$ty>())?;
            Ok(self.buf.$get())
        }
    };
}

impl Reader {
    /// Reads `buf` from its beginning.
    #[must_use]
    pub fn new(buf: Bytes) -> Self {
        Self::with_elements_max(buf, usize::MAX)
    }

    /// Reads `buf` with a limit for the number of elements in all lists together.
    #[must_use]
    pub fn with_elements_max(buf: Bytes, elements_max: usize) -> Self {
        let bytes = buf.len().saturating_mul(LIST_BYTES_PER_BYTE);
        let lists = Lists {
            elements: 0,
            elements_max,
            bytes_left: bytes.saturating_add(LIST_BYTES_FREE),
        };
        Self { buf, lists }
    }

    /// The number of elements read so far, of all lists.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.lists.elements
    }

    /// The number of bytes left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.buf.len()
    }

    /// The bytes that are left.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.buf
    }

    /// Fails if any bytes are left.
    ///
    /// # Errors
    /// [`DecodeError::LeftOver`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.buf.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::LeftOver(self.buf.len()))
        }
    }

    fn want(&self, wanted: usize) -> Result<(), DecodeError> {
        let left = self.buf.len();
        if wanted <= left {
            Ok(())
        } else {
            Err(DecodeError::Truncated { wanted, left })
        }
    }

    number!(i8, get_i8, i8, "A signed byte.");
    number!(i16, get_i16, i16, "Two bytes, signed.");
    number!(u16, get_u16, u16, "Two bytes.");
    number!(i32, get_i32, i32, "Four bytes, signed.");
    number!(u32, get_u32, u32, "Four bytes.");
    number!(i64, get_i64, i64, "Eight bytes, signed.");
    number!(f64, get_f64, f64, "Eight bytes, IEEE 754.");

    /// Reads a byte as a boolean; 0 is false.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Reads 16 bytes as an id.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.want(16)?;
        let mut id = [0; 16];
        self.buf.copy_to_slice(&mut id);
        Ok(Uuid(id))
    }

    /// Reads an unsigned number of one to five bytes.
    ///
    /// # Errors
    /// [`DecodeError::Varint`] if it has more than 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.i8()?.cast_unsigned();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_cause| DecodeError::Varint);
            }
        }
        Err(DecodeError::Varint)
    }

    /// Returns the next `length` bytes, which share the frame's memory.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.want(length)?;
        Ok(self.buf.split_to(length))
    }

    /// A compact length is stored plus one; 0 stands for null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let encoded = self.unsigned_varint()?;
        let length = encoded.checked_sub(1);
        Ok(length.map(|length| usize::try_from(length).unwrap_or(usize::MAX)))
    }

    fn length(length: i32) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length)
                .map(Some)
                .map_err(|_cause| DecodeError::NegativeLength(length.into())),
        }
    }

    /// Reads a nullable text of at most [`TEXT_BYTES_MAX`]. Bytes that aren't UTF-8 are replaced, as in Java.
    ///
    /// # Errors
    /// A wrong length, or a text that is too long: `MessageDataGenerator` of Kafka 4.4 refuses such a text in every
    /// version.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<StrBytes>, DecodeError> {
        let length = if flexible {
            self.compact_length()?
        } else {
            Self::length(self.i16()?.into())?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length > TEXT_BYTES_MAX {
            return Err(DecodeError::Text(length));
        }
        let text = decode_text(&self.slice(length)?);
        if text.len() > TEXT_BYTES_MAX {
            return Err(DecodeError::Text(text.len()));
        }
        Ok(Some(text))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// As [`Self::nullable_string`], and for null.
    pub fn string(&mut self, flexible: bool) -> Result<StrBytes, DecodeError> {
        self.nullable_string(flexible)?
            .ok_or(DecodeError::NegativeLength(-1))
    }

    /// Reads the number of bytes or elements that follow; `None` for null.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn count(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        match flexible {
            true => self.compact_length(),
            false => Self::length(self.i32()?),
        }
    }

    /// Reads nullable bytes.
    ///
    /// # Errors
    /// A wrong length.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let length = self.count(flexible)?;
        length.map(|length| self.slice(length)).transpose()
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// A wrong length, or null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?
            .ok_or(DecodeError::NegativeLength(-1))
    }

    /// Reads nullable records.
    ///
    /// # Errors
    /// A wrong length.
    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records>, DecodeError> {
        Ok(self.nullable_bytes(flexible)?.map(Records::from))
    }

    /// Reads records.
    ///
    /// # Errors
    /// A wrong length, or null.
    pub fn records(&mut self, flexible: bool) -> Result<Records, DecodeError> {
        Ok(Records::from(self.bytes(flexible)?))
    }

    /// Accounts for a list before its elements are read. Each element takes at least one byte of the frame.
    fn lists(&mut self, count: usize, element_bytes: usize) -> Result<(), DecodeError> {
        self.want(count)?;
        at_most(count, LIST_MAX)?;
        let elements = self.lists.elements.saturating_add(count);
        at_most(elements, self.lists.elements_max)?;
        let bytes = count.saturating_mul(element_bytes);
        let left = self.lists.bytes_left;
        let bytes_left = left.checked_sub(bytes);
        self.lists.bytes_left = bytes_left.ok_or(DecodeError::Wide { bytes, left })?;
        self.lists.elements = elements;
        Ok(())
    }

    /// Reads a nullable list.
    ///
    /// # Errors
    /// A wrong length, more elements than allowed, or the error of an element.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        mut one: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.count(flexible)? else {
            return Ok(None);
        };
        self.lists(count, size_of::<T>())?;
        let mut list = Vec::with_capacity(count.min(RESERVED_MAX));
        for _ in 0..count {
            list.push(one(self)?);
        }
        Ok(Some(list))
    }

    /// Reads a list.
    ///
    /// # Errors
    /// As [`Self::nullable_array`], and for null.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        one: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, one)?
            .ok_or(DecodeError::NegativeLength(-1))
    }

    /// Reads a nullable structure: a byte before it says whether it is null.
    ///
    /// # Errors
    /// The error of the structure.
    pub fn nullable_struct<T>(
        &mut self,
        one: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 {
            Ok(None)
        } else {
            one(self).map(Some)
        }
    }

    /// Reads tagged fields (KIP-482). `known` decodes a field and returns true if it knows the tag; other fields are
    /// skipped.
    ///
    /// # Errors
    /// A wrong size, more than ten thousand fields, the error of `known`, or a known field with bytes left over.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        at_most(
            usize::try_from(count).unwrap_or(usize::MAX),
            TAGGED_FIELDS_MAX,
        )?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let mut field = Self {
                buf: self.slice(size)?,
                lists: self.lists,
            };
            if known(tag, &mut field)? {
                field.finish()?;
            }
            self.lists = field.lists;
        }
        Ok(())
    }
}

fn at_most(count: usize, limit: usize) -> Result<(), DecodeError> {
    if count <= limit {
        Ok(())
    } else {
        Err(DecodeError::TooMany { count, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(count: usize) -> Result<usize, DecodeError> {
        let mut frame = u32::try_from(count).expect("few").to_be_bytes().to_vec();
        frame.resize(4 + count, 7);
        let list = Reader::new(frame.into()).array(false, Reader::i8)?;
        Ok(list.len())
    }

    #[test]
    fn lists_and_tagged_fields_are_as_many_as_kafka_takes() {
        assert_eq!(list(LIST_MAX), Ok(LIST_MAX));
        let (count, limit) = (LIST_MAX + 1, LIST_MAX);
        assert_eq!(list(count), Err(DecodeError::TooMany { count, limit }));
        // 10001 fields, each with tag 0 and no bytes
        let mut frame = vec![0x91, 0x4e];
        frame.resize(2 + 2 * 10_001, 0);
        let tagged = Reader::new(frame.into()).tagged_fields(|_, _| Ok(false));
        let (count, limit) = (10_001, TAGGED_FIELDS_MAX);
        assert_eq!(tagged, Err(DecodeError::TooMany { count, limit }));
    }

    // I11: one byte in the frame takes 32 bytes of memory.
    #[test]
    fn lists_take_no_more_memory_than_their_frame_lets_them() {
        let texts = |count: usize, rest: usize| {
            let mut frame = u32::try_from(count).expect("few").to_be_bytes().to_vec();
            frame.resize(4 + count + rest, 1);
            let mut reader = Reader::new(frame.into());
            let texts = reader.array(false, |r| r.string(true));
            texts.map(|texts| texts.len())
        };
        assert_eq!(texts(2000, 0), Ok(2000), "a small frame isn't limited");
        let wide = texts(100_000, 0);
        assert!(matches!(wide, Err(DecodeError::Wide { .. })), "{wide:?}");
        assert_eq!(texts(100_000, 100_000), Ok(100_000));
    }

    // M3
    #[test]
    fn all_lists_together_have_no_more_elements_than_they_may() {
        // three lists of two elements, the last list in a tagged field
        let frame = [3, 7, 7, 3, 7, 7, 1, 0, 3, 3, 7, 7];
        let read = |elements_max| {
            let mut reader = Reader::with_elements_max(frame[..].to_vec().into(), elements_max);
            reader.array(true, Reader::i8)?;
            reader.array(true, Reader::i8)?;
            reader.tagged_fields(|_, field| field.array(true, Reader::i8).map(|_| true))?;
            Ok(reader.elements())
        };
        assert_eq!(read(6), Ok(6));
        let (count, limit) = (6, 5);
        assert_eq!(read(5), Err(DecodeError::TooMany { count, limit }));
    }
}
