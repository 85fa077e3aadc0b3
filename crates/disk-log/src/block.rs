//! Blocks: a header, and all or a part of a group.

use bytes::{Buf, BufMut};
use crc32fast::Hasher;

use crate::Seed;

/// Blocks begin at multiples of this.
pub(crate) const ALIGN: u64 = 4096;
/// The size of the largest block, including its header.
pub(crate) const BLOCK_MAX: u64 = 1 << 20;
pub(crate) const HEADER_BYTES: usize = 48;
/// "HWL" and the version of the format, as in the file of the seed.
const MAGIC: u32 = 0x4857_4c33;

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opening: u64,
    pub(crate) position: u64,
    pub(crate) synced: u64,
    pub(crate) body_bytes: u32,
    pub(crate) first: bool,
    pub(crate) last: bool,
    /// Whether the body begins at the next multiple of [`ALIGN`], so that it can be written from aligned memory. That
    /// is so for every block of a group except the first.
    pub(crate) sector: bool,
}

impl Header {
    /// Encodes the header with half of the seed, and with the CRC over the seed, the header and the body, whose
    /// checksum is given.
    pub(crate) fn encode(&self, seed: &Seed, body: &Hasher) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut fields = &mut header[..];
        fields.put_u32(MAGIC);
        fields.put_u32(0);
        fields.put_u64(self.opening);
        fields.put_u64(self.position);
        fields.put_u64(self.synced);
        fields.put_u32(self.body_bytes);
        fields.put_u32(
            u32::from(self.first) | u32::from(self.last) << 1 | u32::from(self.sector) << 2,
        );
        fields.put_slice(mark(seed));
        let crc = crc(seed, &header[8..], body);
        header[4..8].copy_from_slice(&crc.to_be_bytes());
        header
    }

    /// Decodes a header; `None` if it doesn't belong to the log with this seed. [`Header::check`] verifies the CRC.
    pub(crate) fn decode(seed: &Seed, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.get(..HEADER_BYTES)?;
        if &fields[MARK_AT..] != mark(seed) || fields.get_u32() != MAGIC {
            return None;
        }
        fields.advance(4);
        let (opening, position, synced) = (fields.get_u64(), fields.get_u64(), fields.get_u64());
        let (body_bytes, flags) = (fields.get_u32(), fields.get_u32());
        let header = Self {
            opening,
            position,
            synced,
            body_bytes,
            first: flags & 1 != 0,
            last: flags & 2 != 0,
            sector: flags & 4 != 0,
        };
        (header.bytes() <= BLOCK_MAX).then_some(header)
    }

    /// Whether the CRC over the seed, the header and the body is right.
    pub(crate) fn check(seed: &Seed, header: &[u8], body: &[u8]) -> bool {
        let stored = &header[4..8];
        stored == crc(seed, &header[8..HEADER_BYTES], &sum(body)).to_be_bytes()
    }

    /// The offset of the body in the block.
    pub(crate) fn body_at(&self) -> usize {
        if self.sector {
            SECTOR_BYTES
        } else {
            HEADER_BYTES
        }
    }

    /// The size on disk, with padding.
    pub(crate) fn bytes(&self) -> u64 {
        padded(self.body_at() as u64 + u64::from(self.body_bytes))
    }
}

/// The size of a header that fills a sector.
pub(crate) const SECTOR_BYTES: usize = highwater_io::DIRECT_BLOCK_BYTES;
const _: () = assert!(SECTOR_BYTES as u64 == ALIGN);

pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

/// The checksum of a body.
pub(crate) fn sum(body: &[u8]) -> Hasher {
    let mut sum = Hasher::new();
    sum.update(body);
    sum
}

/// The offset of one half of the seed in the header. The other half enters only the CRC.
const MARK_AT: usize = HEADER_BYTES - MARK_BYTES;
const MARK_BYTES: usize = 8;

fn mark(seed: &Seed) -> &[u8] {
    &seed[..MARK_BYTES]
}

fn crc(seed: &Seed, header: &[u8], body: &Hasher) -> u32 {
    let mut all = sum(seed);
    all.update(header);
    all.combine(body);
    all.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    // D1: the half of the seed that isn't in the header is verified by the CRC alone.
    #[test]
    fn a_block_made_without_all_of_the_seed_is_none() {
        let header = Header {
            opening: 1,
            position: 0,
            synced: 0,
            body_bytes: 4,
            first: true,
            last: true,
            sector: false,
        };
        let (seed, mut guessed) = ([7; 16], [7; 16]);
        guessed[MARK_BYTES] = 8;
        for (made_with, is_ours) in [(seed, true), (guessed, false)] {
            let encoded = header.encode(&made_with, &sum(b"body"));
            assert_eq!(Header::decode(&seed, &encoded), Some(header));
            assert_eq!(Header::check(&seed, &encoded, b"body"), is_ours);
        }
    }
}
