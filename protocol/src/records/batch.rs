//! The header of a record batch.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;

use super::walk::walk_decoded;
use super::{Codec, Decoder, Records, walk};

/// The size of a batch's header; the records follow.
pub const BATCH_HEADER_BYTES: usize = 61;
/// The number of bytes that the broker overwrites: base offset, length, leader epoch. Kafka's CRC doesn't cover them.
pub const HEAD_BYTES: usize = 16;
/// The length field counts the bytes from here on.
const LENGTH_FROM: usize = 12;
/// The CRC covers the bytes from here on.
const CRC_FROM: usize = 21;
const MAGIC: i8 = 2;

/// Which clock the records' timestamps are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's clock.
    #[default]
    CreateTime,
    /// The broker's clock.
    LogAppendTime,
}

/// Why bytes are not a valid batch. It is the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("record batch ends too early bytes={0}")]
    Truncated(usize),
    /// The length is less than that of a header.
    #[error("record batch length is impossible length={0}")]
    Length(i32),
    /// The format is old or unknown. Kafka answers `UNSUPPORTED_FOR_MESSAGE_FORMAT` for an old one.
    #[error("record batch format is not supported magic={0}")]
    Magic(i8),
    /// The checksum is wrong. Kafka answers `CORRUPT_MESSAGE`.
    #[error("record batch checksum is wrong stored={stored} computed={computed}")]
    Crc {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The codec is unknown.
    #[error("compression codec is unknown codec={0}")]
    Codec(u8),
}

/// The fields of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The base offset.
    pub base_offset: i64,
    /// The size of the whole batch.
    pub bytes: usize,
    /// The leader epoch in which it was appended.
    pub leader_epoch: i32,
    /// The CRC-32C of the bytes after this field.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// The offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// The timestamp to which the records' timestamps are relative.
    pub base_timestamp: i64,
    /// The largest timestamp according to the header.
    pub max_timestamp: i64,
    /// The producer id, or -1.
    pub producer_id: i64,
    /// The producer epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
    /// The number of records according to the header.
    pub count: i32,
}

impl BatchHeader {
    /// Decodes the header of the batch at the beginning of `bytes`, and checks that the batch is complete. The CRC
    /// isn't checked.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let truncated = BatchError::Truncated(bytes.len());
        if bytes.len() <= LENGTH_FROM + 4 {
            return Err(truncated);
        }
        let length = i32_at(bytes, 8);
        let magic = i8::from_be_bytes([bytes[16]]);
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let whole = usize::try_from(length).map_err(|_cause| BatchError::Length(length))?;
        let whole = whole.saturating_add(LENGTH_FROM);
        if whole < BATCH_HEADER_BYTES {
            return Err(BatchError::Length(length));
        }
        if bytes.len() < whole {
            return Err(truncated);
        }
        Ok(Self {
            base_offset: i64_at(bytes, 0),
            bytes: whole,
            leader_epoch: i32_at(bytes, 12),
            crc: u32::from_be_bytes(four(bytes, 17)),
            attributes: i16::from_be_bytes([bytes[21], bytes[22]]),
            last_offset_delta: i32_at(bytes, 23),
            base_timestamp: i64_at(bytes, 27),
            max_timestamp: i64_at(bytes, 35),
            producer_id: i64_at(bytes, 43),
            producer_epoch: i16::from_be_bytes([bytes[51], bytes[52]]),
            base_sequence: i32_at(bytes, 53),
            count: i32_at(bytes, 57),
        })
    }

    /// Checks the CRC of a complete batch.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let computed = crc(&batch[CRC_FROM..self.bytes]);
        if computed == self.crc {
            return Ok(());
        }
        Err(BatchError::Crc {
            stored: self.crc,
            computed,
        })
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::Codec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let code = self.attributes.to_be_bytes()[1] & 7;
        Codec::from_code(code).ok_or(BatchError::Codec(code))
    }

    /// Which clock the records' timestamps are from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 8 == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }

    /// Whether the batch holds a transaction marker.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
            .saturating_add(1)
    }

    /// The sequence of the last record. Sequences continue with 0 after 2147483647.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence).saturating_add(self.last_offset_delta.into());
        // a sequence has 31 bits, and no batch has so many records that it wraps twice
        i32::try_from(last & i64::from(i32::MAX)).unwrap_or(0)
    }

    /// A decoder of the records, which yields at most `limit` bytes.
    ///
    /// # Errors
    /// [`RecordError`](super::RecordError).
    pub fn decoder<'a>(
        &self,
        batch: &'a [u8],
        limit: usize,
    ) -> Result<Decoder<'a>, super::RecordError> {
        let body = &batch[BATCH_HEADER_BYTES..self.bytes];
        Ok(Decoder::new(self.codec()?, body, limit)?)
    }

    /// Visits every record of a complete batch without building it, with its offset delta, its timestamp delta and
    /// whether it has a key. The records are decompressed piece by piece, and every length is checked.
    ///
    /// # Errors
    /// Errors of decompression; [`RecordError::Malformed`](super::RecordError::Malformed) if a length is wrong,
    /// records are missing or bytes are left over.
    pub fn walk(
        &self,
        batch: &[u8],
        limit: usize,
        mut visit: impl FnMut(i32, i64, bool),
    ) -> Result<(), super::RecordError> {
        match self.codec()? {
            Codec::None => walk(&batch[BATCH_HEADER_BYTES..self.bytes], self.count, visit),
            _ => walk_decoded(self.decoder(batch, limit)?, self.count, &mut visit),
        }
    }

    /// The records of the batch, decompressed into at most `limit` bytes.
    ///
    /// # Errors
    /// Errors of decompression.
    pub fn records(&self, batch: &Bytes, limit: usize) -> Result<Records, super::RecordError> {
        Records::open(self, batch, limit)
    }
}

/// The head that the broker writes over the first 16 bytes of a batch.
///
/// # Panics
/// When the batch exceeds 2 GiB, which no limit allows.
#[must_use]
pub fn head(base_offset: i64, batch_bytes: usize, leader_epoch: i32) -> [u8; HEAD_BYTES] {
    let length =
        i32::try_from(batch_bytes.saturating_sub(LENGTH_FROM)).expect("batches are below 2 GiB");
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[8..12].copy_from_slice(&length.to_be_bytes());
    head[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    head
}

/// Copies a batch with another timestamp type and largest timestamp, and with a new CRC.
pub(super) fn restamp(batch: &[u8], kind: TimestampType, max_timestamp: i64) -> Bytes {
    let mut out = BytesMut::from(batch);
    let flag = match kind {
        TimestampType::CreateTime => 0,
        TimestampType::LogAppendTime => 8,
    };
    out[22] = (out[22] & !8) | flag;
    out[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(&mut out);
    out.freeze()
}

/// Fills in the length and the CRC of a complete batch.
pub(super) fn seal(batch: &mut BytesMut) {
    let length =
        i32::try_from(batch.len().saturating_sub(LENGTH_FROM)).expect("batches are below 2 GiB");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

impl BatchHeader {
    /// Copies the batch with another timestamp type and largest timestamp.
    #[must_use]
    pub fn restamped(&self, batch: &[u8], kind: TimestampType, max_timestamp: i64) -> Bytes {
        restamp(&batch[..self.bytes], kind, max_timestamp)
    }

    /// Builds the batch around compressed records in another codec. All other fields stay as they are.
    #[must_use]
    pub fn rebuilt(&self, records: &[u8], codec: Codec) -> Bytes {
        let header = Self {
            attributes: (self.attributes & !7) | i16::from(codec as u8),
            ..*self
        };
        let mut out = BytesMut::with_capacity(BATCH_HEADER_BYTES.saturating_add(records.len()));
        header.put(&mut out);
        out.put_slice(records);
        seal(&mut out);
        out.freeze()
    }

    /// Encodes the header. Length and CRC are filled in by [`seal`].
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_i64(self.base_offset);
        out.put_i32(0);
        out.put_i32(self.leader_epoch);
        out.put_i8(MAGIC);
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.count);
    }
}

/// A batch without records, as compaction leaves one (Kafka's `DefaultRecordBatch.writeEmptyHeader`): a reader goes on
/// behind its last offset.
#[must_use]
pub fn empty_batch(base_offset: i64, last_offset_delta: i32, leader_epoch: i32) -> Bytes {
    let header = BatchHeader {
        base_offset,
        bytes: BATCH_HEADER_BYTES,
        leader_epoch,
        crc: 0,
        attributes: 0,
        last_offset_delta,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 0,
    };
    let mut out = BytesMut::with_capacity(BATCH_HEADER_BYTES);
    header.put(&mut out);
    seal(&mut out);
    out.freeze()
}

/// Splits `bytes` into batches. A batch that is cut short at the end is ignored.
///
/// # Errors
/// [`BatchError`] of the first invalid batch.
pub fn split_batches(bytes: &Bytes) -> Result<Vec<(BatchHeader, Bytes)>, BatchError> {
    let mut batches = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let header = match BatchHeader::read(&rest) {
            Err(BatchError::Truncated(_)) if !batches.is_empty() => break,
            other => other?,
        };
        batches.push((header, rest.split_to(header.bytes)));
    }
    Ok(batches)
}

fn crc(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).expect("the algorithm has 32 bits")
}

fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..][..4]);
    four
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(four(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..][..8]);
    i64::from_be_bytes(eight)
}
