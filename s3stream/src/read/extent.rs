//! Cuts a stream's part of an object into requests. This code is pure.

use highwater_object_format::BlockEntry;

/// About the bytes of one request when a part is read from end to end: fewer requests cost less, larger ones need more
/// memory.
const BYTES: u64 = 8 << 20;

/// Cuts a part into pieces of about the same size, always at the same places. A reader that reads a part from end to
/// end thus makes few requests, without small remnants between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents {
    bytes: u64,
}

impl Extents {
    /// Extents for a cache of so many bytes, a quarter of which is for blocks that are being loaded.
    pub(crate) fn of_cache(bytes: u64) -> Self {
        Self {
            bytes: BYTES.min(bytes / 16).max(1),
        }
    }

    /// The extents for a reader that may have only `bytes` read ahead.
    pub(crate) fn at_most(self, bytes: u64) -> Self {
        Self {
            bytes: self.bytes.min(bytes).max(1),
        }
    }

    /// The size of the largest extent: a quarter more than the usual size, and the rest of its last block.
    pub(crate) fn bytes_max(self) -> u64 {
        self.bytes / 2 * 3
    }

    /// The end of the extent that holds block `at` of a stream's part of an object.
    pub(crate) fn end(self, blocks: &[BlockEntry], at: usize) -> usize {
        let (Some(first), Some(last), Some(block)) =
            (blocks.first(), blocks.last(), blocks.get(at))
        else {
            return at;
        };
        let begin = |block: &BlockEntry| block.position.saturating_sub(first.position);
        let all = begin(last) + u64::from(last.bytes);
        // a little more than one extent is not cut in two
        let count = ((all + self.bytes / 4 * 3) / self.bytes).max(1);
        let each = all.div_ceil(count).max(1);
        let number = begin(block) / each;
        at + blocks[at..].partition_point(|block| begin(block) / each == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 512 << 10;

    fn part(count: u32) -> Vec<BlockEntry> {
        let block = |i: u32| BlockEntry {
            position: 72 + u64::from(i) * u64::from(BLOCK),
            bytes: BLOCK,
            base: i64::from(i) * 10,
            next: i64::from(i) * 10 + 10,
            max_timestamp: -1,
        };
        (0..count).map(block).collect()
    }

    fn lengths(extents: Extents, count: u32) -> Vec<usize> {
        let part = part(count);
        let mut lengths = Vec::new();
        let mut at = 0;
        while at < part.len() {
            let end = extents.end(&part, at);
            lengths.push(end - at);
            at = end;
        }
        lengths
    }

    #[test]
    fn extents_are_even_and_leave_no_remnant() {
        let extents = Extents::of_cache(128 << 20);
        assert_eq!(lengths(extents, 16), [16], "8 MiB");
        assert_eq!(lengths(extents, 17), [17]);
        assert_eq!(lengths(extents, 33), [17, 16]);
        assert_eq!(lengths(extents, 128), [16; 8]);
        assert_eq!(lengths(extents, 3), [3]);
        assert_eq!(lengths(extents.at_most(2 << 20), 16), [4; 4]);
    }

    #[test]
    fn an_extent_is_the_same_from_wherever_it_is_entered() {
        let extents = Extents::of_cache(128 << 20);
        let part = part(33);
        let ends: Vec<usize> = (0..33).map(|at| extents.end(&part, at)).collect();
        assert_eq!(ends, [[17; 17].as_slice(), [33; 16].as_slice()].concat());
    }

    #[test]
    fn two_of_the_largest_fit_what_may_be_loading() {
        for bytes in [1, 1 << 20, 8 << 20, 128 << 20, 1 << 40] {
            let largest = Extents::of_cache(bytes).bytes_max();
            assert!(largest <= bytes / 4 / 2, "{bytes}");
        }
    }

    #[test]
    fn a_block_that_is_larger_than_an_extent_is_one() {
        assert_eq!(lengths(Extents::of_cache(1 << 20), 3), [1; 3]);
    }
}
