//! Data blocks: complete batches of one stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use highwater_types::{StreamId, StreamOffset, Timestamp};

use crate::FormatError;

const MAGIC: &[u8; 4] = b"HWDB";
pub(crate) const VERSION: u16 = 1;
const HEADER_BYTES: usize = 36;
const CRC_AT: usize = 32;
const ENTRY_BYTES: usize = 20;
const PART: &str = "data block";

/// A batch in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEntry {
    /// Its base offset.
    pub base: StreamOffset,
    /// The number of offsets it takes.
    pub count: u32,
    /// Its size in bytes.
    pub bytes: u32,
    /// Its largest timestamp, or -1.
    pub max_timestamp: Timestamp,
}

impl BatchEntry {
    /// The offset after its last one.
    #[must_use]
    pub fn next(&self) -> StreamOffset {
        self.base.saturating_add(self.count.into())
    }
}

/// A batch's bytes, with a checksum that was computed before over the last part of them.
#[derive(Debug, Clone)]
pub struct SummedBytes {
    /// The whole batch.
    pub bytes: Bytes,
    /// Where the part begins that the checksum covers.
    pub summed_from: usize,
    /// The CRC-32 (IEEE) of that part.
    pub crc: u32,
}

impl From<Bytes> for SummedBytes {
    fn from(bytes: Bytes) -> Self {
        Self {
            summed_from: 0,
            crc: crc32fast::hash(&bytes),
            bytes,
        }
    }
}

impl SummedBytes {
    fn add_to(&self, sum: &mut Hasher) {
        let (fresh, summed) = self.bytes.split_at(self.summed_from);
        sum.update(fresh);
        sum.combine(&Hasher::new_with_initial_len(self.crc, summed.len() as u64));
    }
}

/// The place and the offsets of a block, as its directory lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Its position in the object.
    pub position: u64,
    /// Its size in bytes, with its header.
    pub bytes: u32,
    /// Its first offset.
    pub base: StreamOffset,
    /// The offset after its last one.
    pub next: StreamOffset,
    /// Its largest timestamp, or -1.
    pub max_timestamp: Timestamp,
}

/// A block that was read back and verified.
#[derive(Debug, Clone)]
pub struct DataBlock {
    /// Its batches, in order.
    pub batches: Vec<BatchEntry>,
    /// The bytes of its batches, one after the other.
    pub body: Bytes,
}

/// Encodes the header and the table of a block. The body is sent after them without being copied.
pub(crate) fn encode(stream: StreamId, batches: &[BatchEntry], body: &[SummedBytes]) -> Bytes {
    let base = batches.first().map_or(0, |batch| batch.base);
    let body_bytes: usize = body.iter().map(|part| part.bytes.len()).sum();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + batches.len() * ENTRY_BYTES);
    out.put_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    out.put_u64(stream.0);
    out.put_i64(base);
    out.put_u32(u32::try_from(batches.len()).expect("a block has few batches"));
    out.put_u32(u32::try_from(body_bytes).expect("a block is below 4 GiB"));
    out.put_u32(0);
    for batch in batches {
        out.put_u32(u32::try_from(batch.base - base).expect("a block spans below 2^32 offsets"));
        out.put_u32(batch.count);
        out.put_u32(batch.bytes);
        out.put_i64(batch.max_timestamp);
    }
    let mut hasher = Hasher::new();
    hasher.update(&out[..CRC_AT]);
    hasher.update(&out[HEADER_BYTES..]);
    for part in body {
        part.add_to(&mut hasher);
    }
    out[CRC_AT..HEADER_BYTES].copy_from_slice(&hasher.finalize().to_be_bytes());
    out.freeze()
}

impl DataBlock {
    /// Decodes the block that a directory lists, and verifies all of it (I9).
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &Bytes, stream: StreamId, entry: &BlockEntry) -> Result<Self, FormatError> {
        let truncated = FormatError::Truncated { part: PART };
        if bytes.len() < HEADER_BYTES {
            return Err(truncated);
        }
        let mut fields = bytes.slice(..HEADER_BYTES);
        if &fields.split_to(4)[..] != MAGIC {
            return Err(FormatError::Magic { part: PART });
        }
        let version = fields.get_u16();
        if version != VERSION {
            return Err(FormatError::Version {
                part: PART,
                version,
            });
        }
        fields.advance(2);
        let (own_stream, base) = (fields.get_u64(), fields.get_i64());
        let count = usize::try_from(fields.get_u32()).unwrap_or(usize::MAX);
        let body_bytes = usize::try_from(fields.get_u32()).unwrap_or(usize::MAX);
        let stored = fields.get_u32();
        let table = count
            .checked_mul(ENTRY_BYTES)
            .and_then(|table| table.checked_add(HEADER_BYTES));
        let whole = table.and_then(|table| table.checked_add(body_bytes));
        if whole != Some(bytes.len()) {
            return Err(truncated);
        }
        let table = table.unwrap_or_default();
        let mut hasher = Hasher::new();
        hasher.update(&bytes[..CRC_AT]);
        hasher.update(&bytes[HEADER_BYTES..]);
        if hasher.finalize() != stored {
            return Err(FormatError::Checksum { part: PART });
        }
        if own_stream != stream.0 || base != entry.base {
            return Err(FormatError::Mismatch { part: PART });
        }
        let mut rows = bytes.slice(HEADER_BYTES..table);
        let mut batches = Vec::with_capacity(count);
        let (mut next, mut left) = (base, body_bytes);
        while rows.has_remaining() {
            let batch = BatchEntry {
                base: base.saturating_add(rows.get_u32().into()),
                count: rows.get_u32(),
                bytes: rows.get_u32(),
                max_timestamp: rows.get_i64(),
            };
            let rest = usize::try_from(batch.bytes)
                .ok()
                .and_then(|bytes| left.checked_sub(bytes));
            match rest {
                Some(rest) if batch.base >= next => (next, left) = (batch.next(), rest),
                _ => return Err(FormatError::Mismatch { part: PART }),
            }
            batches.push(batch);
        }
        if left != 0 || next != entry.next {
            return Err(FormatError::Mismatch { part: PART });
        }
        Ok(Self {
            batches,
            body: bytes.slice(table..),
        })
    }
}
