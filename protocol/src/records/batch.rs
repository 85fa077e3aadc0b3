//! The header of a batch, read in place.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;

use super::walk::walk_decoded;
use super::{Codec, Decoder, Records, walk};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes that the broker writes anew: base offset, length, leader epoch. Kafka's CRC does not cover them.
pub const HEAD_BYTES: usize = 16;
/// Bytes before what the length field counts.
const LENGTH_FROM: usize = 12;
/// Where the CRC's cover begins.
const CRC_FROM: usize = 21;
const MAGIC: i8 = 2;

/// Whose clock stamped the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// Why bytes are no sound batch. The client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It ends before its length says.
    #[error("record batch ends too early bytes={0}")]
    Truncated(usize),
    /// Its length is less than a header.
    #[error("record batch length is impossible length={0}")]
    Length(i32),
    /// An old or unknown format. Kafka's `UNSUPPORTED_FOR_MESSAGE_FORMAT` for old ones.
    #[error("record batch format is not served magic={0}")]
    Magic(i8),
    /// The checksum is wrong. Kafka's `CORRUPT_MESSAGE`.
    #[error("record batch checksum is wrong stored={stored} computed={computed}")]
    Crc {
        /// In the batch.
        stored: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// The codec is unknown.
    #[error("compression codec is unknown codec={0}")]
    Codec(u8),
}

/// A batch's header, by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Its first offset.
    pub base_offset: i64,
    /// Bytes of the whole batch.
    pub bytes: usize,
    /// The leader epoch it was appended under.
    pub leader_epoch: i32,
    /// CRC-32C of what follows it.
    pub crc: u32,
    /// Codec, timestamp type, flags.
    pub attributes: i16,
    /// The last record's offset, less the first's.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to.
    pub base_timestamp: i64,
    /// The largest timestamp, as it says.
    pub max_timestamp: i64,
    /// -1 for none.
    pub producer_id: i64,
    /// -1 for none.
    pub producer_epoch: i16,
    /// -1 for none.
    pub base_sequence: i32,
    /// How many records, as it says.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch that `bytes` begin with, and checks that it is whole.
    ///
    /// # Errors
    /// [`BatchError`]; the CRC is not looked at.
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

    /// Checks the CRC of a whole batch.
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

    /// The codec of its records.
    ///
    /// # Errors
    /// [`BatchError::Codec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let code = self.attributes.to_be_bytes()[1] & 7;
        Codec::from_code(code).ok_or(BatchError::Codec(code))
    }

    /// Whose clock stamped it.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 8 == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }

    /// Whether it holds a marker.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }

    /// Just after its last offset.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
            .saturating_add(1)
    }

    /// Its last sequence; after 2147483647 comes 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence).saturating_add(self.last_offset_delta.into());
        // of 31 bits, and no batch has as many records
        i32::try_from(last & i64::from(i32::MAX)).unwrap_or(0)
    }

    /// A decoder of its records, of at most `limit` bytes.
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

    /// Visits every record of a whole batch without building it, decompressing in a window: offset delta, timestamp delta,
    /// whether it has a key. Proves every length.
    ///
    /// # Errors
    /// What decompression answers, and [`RecordError::Malformed`](super::RecordError::Malformed) where a length lies,
    /// where records are missing, or where bytes are left over.
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

    /// Its records, decompressed where need be, within `limit` bytes.
    ///
    /// # Errors
    /// What decompression answers.
    pub fn records(&self, batch: &Bytes, limit: usize) -> Result<Records, super::RecordError> {
        Records::open(self, batch, limit)
    }
}

/// The head that the broker writes over the first 16 bytes of a batch.
///
/// # Panics
/// When a batch is over 2 GiB, which no limit of ours allows.
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

/// A copy of a batch with another timestamp type and largest timestamp, and its CRC anew.
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

/// Writes length and CRC of a whole batch.
pub(super) fn seal(batch: &mut BytesMut) {
    let length =
        i32::try_from(batch.len().saturating_sub(LENGTH_FROM)).expect("batches are below 2 GiB");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

impl BatchHeader {
    /// A copy of the batch stamped by the broker's clock, or with its largest timestamp put right.
    #[must_use]
    pub fn restamped(&self, batch: &[u8], kind: TimestampType, max_timestamp: i64) -> Bytes {
        restamp(&batch[..self.bytes], kind, max_timestamp)
    }

    /// The batch anew around its compressed records, under another codec: everything else stays as it is.
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

    /// Writes a header; length and CRC come with [`seal`].
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

/// The batches that lie one after the other in `bytes`; one that is cut short ends them.
///
/// # Errors
/// [`BatchError`] of the first that is unsound.
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
