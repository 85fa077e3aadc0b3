//! The recent batches of one stream, in order of their offsets; those that are not uploaded are pinned.

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
    /// The WAL position just after it.
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
    /// How many at the front are uploaded, and may be evicted.
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

    /// Whole batches from the one that holds `from`; `None` when it is not in memory.
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

    /// The base offset of the first batch from the one that holds `from` on whose largest timestamp reaches `at`; `None`
    /// when `from` is not in memory.
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

    /// Lets what ends at or below `end` be evicted; answers how many bytes are newly so.
    pub(crate) fn unpin(&mut self, end: StreamOffset) -> usize {
        let before = self.uploaded;
        let mut bytes = 0;
        while let Some(batch) = self
            .batches
            .get(self.uploaded)
            .filter(|batch| batch.next <= end)
        {
            bytes += batch.bytes.len();
            self.uploaded += 1;
        }
        if self.uploaded > before { bytes } else { 0 }
    }

    /// Evicts uploaded batches that end at or below `end`.
    pub(crate) fn evict(&mut self, end: StreamOffset) {
        while self.uploaded > 0 && self.batches.front().is_some_and(|batch| batch.next <= end) {
            self.batches.pop_front();
            self.uploaded -= 1;
        }
    }
}
