//! Memory that logs fill with batches, which stay in it while the cache holds them.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::DIRECT_BLOCK_BYTES;
use crate::direct::{align, aligned};

/// The size of a segment; an entry that is larger gets memory of its own. The additional block is for headers: without
/// it two entries of half a mebibyte wouldn't fit, and half the segment would be wasted.
pub const SEGMENT_BYTES: usize = (1 << 20) + DIRECT_BLOCK_BYTES;

/// Segments of which slices are held, from the oldest on, except that segments which are held for long move back. A
/// segment is reused when none of it is held any more. A log that is appended to and trimmed at the same rate thus
/// needs no new memory, which the kernel would have to clear.
#[derive(Debug, Default)]
pub struct Segments(VecDeque<BytesMut>);

/// How many of the oldest segments are tried: they are released nearly in the order in which they were filled.
const LOOKED_AT: usize = 8;

impl Segments {
    /// Takes back a segment that is filled, and returns empty memory with room for `bytes`, which begins at a multiple
    /// of [`DIRECT_BLOCK_BYTES`].
    pub fn exchange(&mut self, left: BytesMut, bytes: usize) -> BytesMut {
        // a segment without any capacity left is freed with its last slice; if it were kept here, memory would never
        // shrink
        if left.capacity() > 0 {
            self.0.push_back(left);
        }
        if bytes > SEGMENT_BYTES {
            return aligned(bytes.next_multiple_of(DIRECT_BLOCK_BYTES));
        }
        for _ in 0..LOOKED_AT.min(self.0.len()) {
            let Some(mut used) = self.0.pop_front() else {
                break;
            };
            // succeeds if no slice of the segment is held; then all of the segment is free
            if !used.try_reclaim(SEGMENT_BYTES + DIRECT_BLOCK_BYTES) {
                // move it back: a segment that is held for long must not hide free ones
                self.0.push_back(used);
            } else if used.capacity() < 2 * SEGMENT_BYTES {
                return align(used);
            }
        }
        aligned(SEGMENT_BYTES)
    }

    /// The number of segments that were taken back and not given out since.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::BufMut;

    use super::*;

    #[test]
    fn a_segment_is_used_again_when_nothing_of_it_is_held() {
        let mut segments = Segments::default();
        let mut memory = BytesMut::new();
        let (mut places, mut held) = (BTreeSet::new(), VecDeque::new());
        for _ in 0..100 {
            if memory.capacity() < 900_000 {
                memory = segments.exchange(memory, 900_000);
            }
            assert_eq!(memory.as_ptr().addr() % DIRECT_BLOCK_BYTES, 0);
            memory.put_bytes(1, 900_000);
            let entry = memory.split().freeze();
            places.insert(entry.as_ptr().addr());
            held.push_back(entry.slice(100..200));
            if held.len() > 5 {
                held.pop_front();
            }
        }
        let kept = segments.kept();
        assert!(
            places.len() <= 7 && (5..=7).contains(&kept),
            "{} places and {kept} segments while 5 entries are held",
            places.len(),
        );
        assert!(held.iter().all(|slice| slice.iter().all(|byte| *byte == 1)));
    }
}
