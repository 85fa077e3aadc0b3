//! Records within a batch, read in place.

use bytes::Bytes;

use super::{BATCH_HEADER_BYTES, BatchError, BatchHeader, Codec, CompressionError, decompress};

/// Why records can't be read. The client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A length in it lies, or it ends too early.
    #[error("record is malformed at_byte={0}")]
    Malformed(usize),
    /// The batch around it is unsound.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch can't be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// One record; offset and timestamp are relative to its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset less the batch's.
    pub offset_delta: i32,
    /// Its timestamp less the batch's.
    pub timestamp_delta: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers: in order, duplicates and all.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its key, raw: Kafka does not check that it is UTF-8.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The records of one batch, decompressed.
#[derive(Debug, Clone)]
pub struct Records {
    body: Bytes,
    count: i32,
}

impl Records {
    pub(super) fn open(
        header: &BatchHeader,
        batch: &Bytes,
        limit: usize,
    ) -> Result<Self, RecordError> {
        let body = batch.slice(BATCH_HEADER_BYTES..header.bytes);
        let body = match header.codec()? {
            Codec::None => body,
            codec => decompress(codec, &body, limit)?,
        };
        Ok(Self {
            body,
            count: header.count,
        })
    }

    /// Iterates from the first; ends after an error.
    #[must_use]
    pub fn iter(&self) -> RecordsIter {
        RecordsIter {
            body: self.body.clone(),
            at: 0,
            left: self.count,
        }
    }

    /// The decompressed bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl IntoIterator for &Records {
    type Item = Result<Record, RecordError>;
    type IntoIter = RecordsIter;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Records one by one.
#[derive(Debug)]
pub struct RecordsIter {
    body: Bytes,
    at: usize,
    left: i32,
}

impl Iterator for RecordsIter {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let mut cursor = Cursor {
            bytes: &self.body,
            at: self.at,
        };
        let record = cursor.record(&self.body);
        match &record {
            Some(_) => self.at = cursor.at,
            None => self.left = 0,
        }
        Some(record.ok_or(RecordError::Malformed(cursor.at)))
    }
}

/// Visits every record without building it: offset delta, timestamp delta, whether it has a key. Proves every length.
///
/// # Errors
/// [`RecordError::Malformed`] where a length lies, where records are missing, or where bytes are left over.
pub fn walk(
    body: &[u8],
    count: i32,
    mut visit: impl FnMut(i32, i64, bool),
) -> Result<(), RecordError> {
    let mut cursor = Cursor { bytes: body, at: 0 };
    for _ in 0..count {
        let seen = cursor.skim().ok_or(RecordError::Malformed(cursor.at))?;
        visit(seen.offset_delta, seen.timestamp_delta, seen.has_key);
    }
    if cursor.at == body.len() {
        Ok(())
    } else {
        Err(RecordError::Malformed(cursor.at))
    }
}

/// Headers reserved ahead; beyond it the list grows as they are really there.
const HEADERS_RESERVED_MAX: usize = 16;

struct Seen {
    offset_delta: i32,
    timestamp_delta: i64,
    has_key: bool,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

impl Cursor<'_> {
    #[inline]
    fn varlong(&mut self) -> Option<i64> {
        // nearly all are of one or two bytes
        let left = self.bytes.get(self.at..)?;
        match *left {
            [one, ..] if one < 0x80 => {
                self.at += 1;
                Some(unzigzag(u64::from(one)))
            }
            [one, two, ..] if two < 0x80 => {
                self.at += 2;
                Some(unzigzag(u64::from(one & 0x7f) | u64::from(two) << 7))
            }
            _ => self.long_varlong(),
        }
    }

    #[cold]
    fn long_varlong(&mut self) -> Option<i64> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
        Some(unzigzag(value))
    }

    #[inline]
    fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.varlong()?).ok()
    }

    /// A length and what it counts; `None` inside for null.
    #[inline]
    fn field(&mut self) -> Option<Option<(usize, usize)>> {
        let length = self.varint()?;
        if length == -1 {
            return Some(None);
        }
        let length = usize::try_from(length).ok()?;
        let from = self.at;
        let to = from
            .checked_add(length)
            .filter(|to| *to <= self.bytes.len())?;
        self.at = to;
        Some(Some((from, to)))
    }

    /// Where the record that begins here must end.
    #[inline]
    fn end(&mut self) -> Option<usize> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.at
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len())
    }

    #[inline]
    fn skim(&mut self) -> Option<Seen> {
        let end = self.end()?;
        self.at += 1;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let has_key = self.field()?.is_some();
        self.field()?;
        let headers = self.varint()?;
        if headers < 0 {
            return None;
        }
        for _ in 0..headers {
            self.field()??;
            self.field()?;
        }
        (self.at == end).then_some(Seen {
            offset_delta,
            timestamp_delta,
            has_key,
        })
    }

    fn record(&mut self, body: &Bytes) -> Option<Record> {
        let end = self.end()?;
        self.at += 1;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let slice = |range: (usize, usize)| body.slice(range.0..range.1);
        let key = self.field()?.map(slice);
        let value = self.field()?.map(slice);
        let count = usize::try_from(self.varint()?).ok()?;
        let mut headers = Vec::with_capacity(count.min(HEADERS_RESERVED_MAX));
        for _ in 0..count {
            let key = slice(self.field()??);
            headers.push(RecordHeader {
                key,
                value: self.field()?.map(slice),
            });
        }
        (self.at == end).then_some(Record {
            offset_delta,
            timestamp_delta,
            key,
            value,
            headers,
        })
    }
}
