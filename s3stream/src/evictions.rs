//! The eviction of batches from the log cache.
//!
//! [`Evictions`] owns the order in which uploaded batches are evicted, oldest upload first. The batches themselves lie
//! in the cache of their stream, and the uploads decide which of them are released for eviction (U6).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_runtime::ByteBudget;
use highwater_types::{StreamId, StreamOffset};

use crate::streams::Streams;

/// Evicts uploaded batches when their memory is needed.
#[derive(Debug)]
pub(crate) struct Evictions {
    /// The budget of the log cache.
    memory: ByteBudget,
    streams: Arc<Streams>,
    /// The evictable batches, oldest upload first: those of a stream that end at or below an offset.
    evictable: Mutex<VecDeque<(StreamId, StreamOffset)>>,
}

impl Evictions {
    pub(crate) fn new(memory: ByteBudget, streams: Arc<Streams>) -> Self {
        Self {
            memory,
            streams,
            evictable: Mutex::default(),
        }
    }

    /// Releases the uploaded batches of a stream for eviction, in steps that end at these offsets.
    pub(crate) fn release(&self, stream: StreamId, ends: impl IntoIterator<Item = StreamOffset>) {
        let evictable = self.evictable.lock();
        let mut evictable = evictable.unwrap_or_else(PoisonError::into_inner);
        evictable.extend(ends.into_iter().map(|end| (stream, end)));
    }

    /// Makes room for `bytes` below three quarters of the budget, so that a quarter stays free.
    pub(crate) fn make_room(&self, bytes: u64) {
        let kept = self.memory.limit() / 4 * 3;
        if self.memory.used() + bytes > kept {
            self.evict_to(kept.saturating_sub(bytes));
        }
    }

    /// Keeps a quarter of the budget free, or half of it if requests wait for memory.
    pub(crate) fn keep_free(&self, is_waited_for: bool) {
        let quarters = if is_waited_for { 2 } else { 3 };
        self.evict_to(self.memory.limit() / 4 * quarters);
    }

    fn evict_to(&self, bytes: u64) {
        self.evict_with(bytes, |stream, end| {
            if let Some(stream) = self.streams.get(stream) {
                stream.lock().cache.evict(end);
            }
        });
    }

    /// Evicts, oldest upload first, until at most `bytes` of the budget are used or no batch is evictable any more.
    fn evict_with(&self, bytes: u64, evict: impl Fn(StreamId, StreamOffset)) {
        while self.memory.used() > bytes {
            let next = {
                let evictable = self.evictable.lock();
                evictable
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front()
            };
            let Some((stream, end)) = next else { return };
            evict(stream, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::cache::{Cached, StreamCache};

    /// Two streams of ten batches of 10 bytes each, all uploaded, in a budget of 400.
    fn filled() -> (Evictions, RefCell<BTreeMap<StreamId, StreamCache>>) {
        let memory = ByteBudget::new(400);
        let evictions = Evictions::new(memory.clone(), Arc::default());
        let mut caches = BTreeMap::new();
        for stream in [StreamId(1), StreamId(2)] {
            let mut cache = StreamCache::default();
            for base in 0..10 {
                let permit = memory.try_acquire(10).expect("has room");
                cache.push(Cached::test(base, permit));
            }
            cache.unpin(10);
            caches.insert(stream, cache);
        }
        (evictions, RefCell::new(caches))
    }

    #[test]
    fn what_was_uploaded_first_is_evicted_first_and_no_more_than_is_needed() {
        let (evictions, caches) = filled();
        evictions.release(StreamId(1), [2, 5]);
        evictions.release(StreamId(2), [10]);
        let evict = |stream, end| {
            let mut caches = caches.borrow_mut();
            caches.get_mut(&stream).expect("is there").evict(end);
        };
        let firsts = || {
            let caches = caches.borrow();
            let firsts = caches.values().map(StreamCache::first);
            firsts.collect::<Vec<_>>()
        };
        evictions.evict_with(200, evict);
        assert_eq!(firsts(), [Some(0), Some(0)], "there is room");
        evictions.evict_with(190, evict);
        assert_eq!(firsts(), [Some(2), Some(0)]);
        evictions.evict_with(151, evict);
        assert_eq!(firsts(), [Some(5), Some(0)]);
        evictions.evict_with(0, evict);
        assert_eq!(firsts(), [Some(5), None], "the rest is not released");
        assert_eq!(evictions.memory.used(), 50);
    }

    #[test]
    fn a_stream_that_is_not_open_any_more_holds_up_no_eviction() {
        let (evictions, _caches) = filled();
        evictions.release(StreamId(3), [1, 2, 3]);
        let left = || evictions.evictable.lock().expect("is whole").len();
        evictions.make_room(100);
        evictions.keep_free(true);
        assert_eq!(left(), 3, "a quarter is free beside them, and half without");
        evictions.make_room(101);
        assert_eq!(left(), 0);
    }
}
