//! The recent batches of one stream, in the order of their offsets. This code is pure.
//!
//! The cache owns the batches and the memory that they hold. Batches that are not uploaded are pinned;
//! [`Evictions`](crate::evictions::Evictions) decides when uploaded ones are evicted.

use std::collections::VecDeque;

use bytes::Bytes;
use highwater_runtime::BytePermit;
use highwater_types::{StreamOffset, Timestamp, WalPosition};

use crate::{FetchLimit, Fetched};

/// One batch.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) base: StreamOffset,
    pub(crate) next: StreamOffset,
    /// The WAL position just after the batch.
    pub(crate) end: WalPosition,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) roll: bool,
    pub(crate) append_time: Timestamp,
    pub(crate) delta: Bytes,
    pub(crate) bytes: Bytes,
    pub(crate) tail_crc: u32,
    pub(crate) _permit: BytePermit,
}

/// The batches of one stream without a gap.
#[derive(Debug, Default)]
pub(crate) struct StreamCache {
    batches: VecDeque<Cached>,
    /// The number of batches at the front that are uploaded and may be evicted.
    uploaded: usize,
}

impl StreamCache {
    pub(crate) fn push(&mut self, batch: Cached) {
        self.batches.push_back(batch);
    }

    /// The first offset in memory.
    pub(crate) fn first(&self) -> Option<StreamOffset> {
        self.batches.front().map(|batch| batch.base)
    }

    /// Whole batches from the one that holds `from` on; `None` when that batch is not in memory.
    pub(crate) fn read(&self, from: StreamOffset, limit: FetchLimit) -> Option<Fetched> {
        let mut found = Fetched::default();
        let mut bytes = 0;
        let batches = self.from(from)?;
        for batch in batches.take_while(|batch| batch.base < limit.before) {
            let fits = bytes + batch.bytes.len() <= limit.bytes;
            let first = found.batches.is_empty() && limit.at_least_one;
            if !(fits || first) {
                found.is_cut = true;
                break;
            }
            bytes += batch.bytes.len();
            found.batches.push(batch.bytes.clone());
        }
        Some(found)
    }

    /// The base offset of the first batch whose largest timestamp is `at` or later, from the batch that holds `from`
    /// on; `None` when `from` is not in memory.
    pub(crate) fn first_at(
        &self,
        from: StreamOffset,
        at: Timestamp,
    ) -> Option<Option<StreamOffset>> {
        let mut batches = self.from(from)?;
        let found = batches.find(|batch| batch.max_timestamp >= at);
        Some(found.map(|batch| batch.base))
    }

    /// The batches from the one that holds `from` on; `None` when it is not in memory.
    fn from(&self, from: StreamOffset) -> Option<impl Iterator<Item = &Cached>> {
        if self.first().is_none_or(|first| from < first) {
            return None;
        }
        let at = self.batches.partition_point(|batch| batch.next <= from);
        Some(self.batches.range(at..))
    }

    /// The batches that are not uploaded.
    pub(crate) fn pinned(&self) -> impl Iterator<Item = &Cached> {
        self.batches.range(self.uploaded..)
    }

    /// Lets the batches that end at or below `end` be evicted.
    pub(crate) fn unpin(&mut self, end: StreamOffset) {
        let pinned = self.pinned();
        self.uploaded += pinned.take_while(|batch| batch.next <= end).count();
    }

    /// Evicts uploaded batches that end at or below `end`.
    pub(crate) fn evict(&mut self, end: StreamOffset) {
        while self.uploaded > 0 && self.batches.front().is_some_and(|batch| batch.next <= end) {
            self.batches.pop_front();
            self.uploaded -= 1;
        }
    }
}

#[cfg(test)]
impl Cached {
    /// A batch for tests, of one record and ten bytes. The bytes are its offset, which is its timestamp too, and the
    /// WAL position after it is ten times the offset after it.
    pub(crate) fn test(base: StreamOffset, permit: BytePermit) -> Self {
        let at = base.unsigned_abs();
        let fill = u8::try_from(base).expect("few");
        Self {
            base,
            next: base + 1,
            end: WalPosition {
                epoch: highwater_types::NodeEpoch(1),
                at: (at + 1) * 10,
            },
            max_timestamp: base,
            roll: false,
            append_time: base,
            delta: Bytes::copy_from_slice(&[fill]),
            bytes: Bytes::from(vec![fill; 10]),
            tail_crc: 0,
            _permit: permit,
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_runtime::ByteBudget;

    use super::*;

    /// Batches 5 to 9.
    fn cache(memory: &ByteBudget) -> StreamCache {
        let mut cache = StreamCache::default();
        for base in 5..10 {
            let permit = memory.try_acquire(10).expect("has room");
            cache.push(Cached::test(base, permit));
        }
        cache
    }

    /// The offsets that a read finds, and whether the byte limit cut it short.
    fn read(
        cache: &StreamCache,
        from: StreamOffset,
        (bytes, before, at_least_one): (usize, StreamOffset, bool),
    ) -> Option<(Vec<u8>, bool)> {
        let limit = FetchLimit {
            bytes,
            before,
            at_least_one,
        };
        let found = cache.read(from, limit)?;
        let offsets = found.batches.iter().map(|bytes| bytes[0]).collect();
        Some((offsets, found.is_cut))
    }

    #[test]
    fn a_read_takes_whole_batches_within_its_limit() {
        let cache = cache(&ByteBudget::new(50));
        assert_eq!(read(&cache, 4, (100, 100, true)), None, "not in memory");
        let all = Some((vec![5, 6, 7, 8, 9], false));
        assert_eq!(read(&cache, 5, (50, 100, false)), all);
        let two = Some((vec![6, 7], true));
        assert_eq!(read(&cache, 6, (29, 100, false)), two);
        // no batch is left below the bound, so that nothing was cut
        assert_eq!(read(&cache, 6, (29, 8, false)), Some((vec![6, 7], false)));
        assert_eq!(read(&cache, 7, (9, 100, true)), Some((vec![7], true)));
        assert_eq!(read(&cache, 7, (9, 100, false)), Some((vec![], true)));
        assert_eq!(read(&cache, 10, (9, 100, true)), Some((vec![], false)));
        assert_eq!(
            read(&StreamCache::default(), 0, (100, 100, true)),
            None,
            "an empty cache knows of no tail"
        );
    }

    #[test]
    fn a_time_is_looked_up_from_an_offset_on() {
        let cache = cache(&ByteBudget::new(50));
        assert_eq!(cache.first_at(4, 0), None, "not in memory");
        assert_eq!(cache.first_at(5, 7), Some(Some(7)));
        assert_eq!(cache.first_at(8, 7), Some(Some(8)));
        assert_eq!(cache.first_at(5, 10), Some(None));
    }

    // U6
    #[test]
    fn a_batch_is_evicted_once_it_is_uploaded_and_its_memory_is_free_then() {
        let memory = ByteBudget::new(50);
        let mut cache = cache(&memory);
        let pinned = |cache: &StreamCache| cache.pinned().map(|batch| batch.base).next();
        cache.evict(10);
        assert_eq!((cache.first(), memory.used()), (Some(5), 50), "all pinned");
        cache.unpin(7);
        assert_eq!(pinned(&cache), Some(7));
        cache.unpin(6);
        assert_eq!(pinned(&cache), Some(7), "it stays uploaded");
        cache.evict(6);
        assert_eq!((cache.first(), memory.used()), (Some(6), 40));
        cache.evict(10);
        assert_eq!((cache.first(), memory.used()), (Some(7), 30));
        cache.unpin(10);
        assert_eq!(pinned(&cache), None);
        cache.evict(10);
        assert_eq!((cache.first(), memory.used()), (None, 0));
    }
}
