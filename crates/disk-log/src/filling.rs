//! The group being filled. An entry is copied once, into the aligned memory from which it is written and in which it
//! stays.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use crc32fast::Hasher;
use highwater_io::Segments;

use crate::block::{HEADER_BYTES, SECTOR_BYTES};

/// A part of an entry. If its CRC-32 was computed when the bytes were checked, the block's checksum is combined from
/// it instead of being computed from the copy: so a change of the memory in between is detected.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The bytes to copy.
    pub bytes: &'a [u8],
    /// Their CRC-32 (IEEE), if known.
    pub crc: Option<u32>,
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, crc: None }
    }
}

/// Combining checksums pays from this size on; for fewer bytes, which are in the cache after copying, a new checksum
/// is cheaper.
const COMBINED_BYTES_MIN: usize = 32 << 10;

/// A group of entries, with room for its first block's header before them.
pub(crate) struct Filling<M> {
    /// Begins at a multiple of a sector. Its capacity is the rest of its segment.
    pub(crate) memory: BytesMut,
    /// The range of each entry in the memory, and the value that was appended with it.
    pub(crate) entries: Vec<(Range<usize>, M)>,
    /// The end of the last entry; padding follows.
    pub(crate) end: usize,
    /// The checksum of all entries.
    pub(crate) crc: Hasher,
    /// The group's number, from 1.
    pub(crate) number: u64,
}

impl<M> Filling<M> {
    /// The first group of a log; it has no memory yet.
    pub(crate) fn first() -> Self {
        Self {
            memory: BytesMut::new(),
            entries: Vec::new(),
            end: 0,
            crc: Hasher::new(),
            number: 1,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an entry of `bytes` fits. Any entry fits into an empty group.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.is_empty() || self.end + bytes <= whole_sectors(self.memory.capacity())
    }

    /// Adds an entry that fits.
    pub(crate) fn push(
        &mut self,
        segments: &mut Segments,
        parts: &[Part<'_>],
        bytes: usize,
        meta: M,
    ) {
        if self.is_empty() {
            let needed = HEADER_BYTES + bytes;
            if needed > whole_sectors(self.memory.capacity()) {
                let left = std::mem::take(&mut self.memory);
                self.memory = segments.exchange(left, needed);
            }
            self.memory.put_bytes(0, HEADER_BYTES);
        }
        let from = self.memory.len();
        for part in parts {
            self.memory.put_slice(part.bytes);
            match part.crc {
                Some(crc) if part.bytes.len() >= COMBINED_BYTES_MIN => {
                    let known = Hasher::new_with_initial_len(crc, part.bytes.len() as u64);
                    self.crc.combine(&known);
                }
                _ => self.crc.update(part.bytes),
            }
        }
        self.end = self.memory.len();
        self.entries.push((from..self.end, meta));
    }

    /// Closes the group and returns it, padded to whole sectors. The next group begins where it ends.
    pub(crate) fn close(&mut self) -> Self {
        let padding = self.end.next_multiple_of(SECTOR_BYTES) - self.end;
        self.memory.put_bytes(0, padding);
        let rest = Self {
            memory: BytesMut::new(),
            entries: Vec::new(),
            end: 0,
            crc: Hasher::new(),
            number: self.number + 1,
        };
        let memory = self.memory.split();
        let left = std::mem::take(&mut self.memory);
        let mut closed = std::mem::replace(self, rest);
        self.memory = left;
        closed.memory = memory;
        closed
    }
}

fn whole_sectors(bytes: usize) -> usize {
    bytes - bytes % SECTOR_BYTES
}

#[cfg(test)]
mod tests {
    use highwater_io::SEGMENT_BYTES;

    use super::*;

    #[test]
    fn groups_lie_in_whole_sectors_of_aligned_memory() {
        let mut filling = Filling::first();
        let mut segments = Segments::default();
        let mut closed = Vec::new();
        for (number, bytes) in [10, 4048, 4049, 500_000, 600_000, 3_000_000, 1]
            .iter()
            .enumerate()
        {
            let entry = vec![7; *bytes];
            assert!(filling.is_empty() && filling.fits(*bytes));
            let parts = [entry[..1].into(), entry[1..].into()];
            filling.push(&mut segments, &parts, *bytes, number);
            assert!(filling.fits(0));
            closed.push(filling.close());
        }
        for (number, group) in closed.iter().enumerate() {
            assert_eq!(group.number, number as u64 + 1);
            assert_eq!(group.memory.as_ptr().addr() % SECTOR_BYTES, 0);
            assert_eq!(group.memory.len(), group.end.next_multiple_of(SECTOR_BYTES));
            assert_eq!(group.entries, [(HEADER_BYTES..group.end, number)]);
            assert!(
                group.memory[HEADER_BYTES..group.end]
                    .iter()
                    .all(|byte| *byte == 7)
            );
        }
    }

    #[test]
    fn a_sum_that_is_known_is_combined() {
        let bytes = [&[1; COMBINED_BYTES_MIN][..], &[2; 2 * COMBINED_BYTES_MIN]].concat();
        for (from, to) in [(0, 7), (7, COMBINED_BYTES_MIN), (9, 3 * COMBINED_BYTES_MIN)] {
            let known = Part {
                bytes: &bytes[from..to],
                crc: Some(crc32fast::hash(&bytes[from..to])),
            };
            let parts = [bytes[..from].into(), known, bytes[to..].into()];
            let mut filling = Filling::first();
            filling.push(&mut Segments::default(), &parts, bytes.len(), ());
            assert_eq!(filling.close().crc.finalize(), crc32fast::hash(&bytes));
        }
    }

    #[test]
    fn an_entry_that_does_not_fit_begins_another_group() {
        let mut filling = Filling::first();
        let entry = [1; 1000];
        filling.push(&mut Segments::default(), &[entry[..].into()], 1000, ());
        let room = SEGMENT_BYTES - HEADER_BYTES - 1000;
        assert!(filling.fits(room) && !filling.fits(room + 1));
        assert!(filling.close().memory.capacity() >= SECTOR_BYTES);
        assert!(
            filling.fits(3 * SEGMENT_BYTES),
            "an empty group takes anything"
        );
    }

    #[test]
    fn a_segment_is_filled_by_batches_of_a_power_of_two() {
        for batches in [2, 4, 8, 16] {
            let entry = vec![1; (1 << 20) / batches + 100];
            let mut filling = Filling::first();
            let mut segments = Segments::default();
            for _ in 0..batches {
                assert!(filling.fits(entry.len()));
                filling.push(&mut segments, &[entry[..].into()], entry.len(), ());
            }
            assert_eq!(segments.kept(), 0, "all fit into the first segment");
        }
    }
}
