//! The records of a batch, which are decoded in place.

use bytes::Bytes;

use super::walk::Cursor;
use super::{BATCH_HEADER_BYTES, BatchError, BatchHeader, Codec, CompressionError, decompress};

/// Why records can't be decoded. It is the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A length in the record is wrong, or the record ends too early.
    #[error("record is malformed at_byte={0}")]
    Malformed(usize),
    /// The batch is invalid.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch can't be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// One record. Its offset and timestamp are relative to those of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp less the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers in order, including duplicates.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its key as bytes: Kafka doesn't check that it is UTF-8.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The records of one batch, after decompression.
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

    /// Iterates over the records, from the first on; an error ends the iteration.
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

/// Iterates over records.
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
        self.left = self.left.saturating_sub(1);
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

/// The number of headers for which memory is reserved ahead. A longer list grows while its headers are read.
const HEADERS_RESERVED_MAX: usize = 16;

impl Cursor<'_> {
    #[inline]
    fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.varlong()?).ok()
    }

    /// Reads a length and returns the range of its bytes; the inner `None` stands for null.
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

    /// The end of the record that begins here.
    #[inline]
    fn end(&mut self) -> Option<usize> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.at
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len())
    }

    fn record(&mut self, body: &Bytes) -> Option<Record> {
        let end = self.end()?;
        self.at = self.at.saturating_add(1);
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
