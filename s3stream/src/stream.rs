//! An open stream.
//!
//! [`ObjectStream`] owns the state of a stream: its bounds, the batches in its cache, its rolls, and the state from
//! which its next checkpoint is folded. It appends to the log and reads objects through its ports, and knows neither
//! uploads nor other streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_object_format::{BatchEntry, RollPart};
use highwater_types::{LeaderEpoch, StreamId, StreamOffset, Timestamp};
use highwater_wal::{ConfirmedBatch, Leadership};
use tokio::sync::watch;

use crate::attached_wal::AttachedWal;
use crate::cache::{Cached, StreamCache};
use crate::folding::Folding;
use crate::read::ObjectReader;
use crate::rolls::{self, Roll};
use crate::{
    AppendPermit, AppendReceipt, FetchLimit, Fetched, OpenStream, Stream, StreamBatch,
    StreamBounds, StreamError, StreamMetadata,
};

/// The ports of a stream. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StreamPorts {
    pub(crate) wal: AttachedWal,
    pub(crate) metadata: Arc<dyn StreamMetadata>,
    pub(crate) reader: ObjectReader,
}

#[derive(Debug)]
pub(crate) struct ObjectStream {
    pub(crate) id: StreamId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) label: Bytes,
    /// The same, as the log takes it.
    leadership: Leadership,
    ports: StreamPorts,
    state: Mutex<State>,
    bounds: watch::Sender<StreamBounds>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) bounds: StreamBounds,
    pub(crate) cache: StreamCache,
    pub(crate) rolls: Vec<Roll>,
    /// The end of the batches that are uploaded and whose claims the image shows.
    pub(crate) uploaded: StreamOffset,
    /// The state from which the next checkpoint is folded, up to `uploaded` (F2).
    pub(crate) folding: Folding,
    /// Whether the stream was opened again or handed over, so that nothing may be appended here any more (C1).
    pub(crate) is_closed: bool,
}

impl ObjectStream {
    pub(crate) fn new(opened: &OpenStream, ports: StreamPorts, state: State) -> Self {
        let bounds = watch::Sender::new(state.bounds);
        Self {
            id: opened.id,
            epoch: opened.epoch,
            label: opened.label.clone(),
            leadership: Leadership {
                stream: opened.id,
                epoch: opened.epoch,
                label: opened.label.clone(),
            },
            ports,
            state: Mutex::new(state),
            bounds,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the stream if everything appended to it is uploaded; returns whether it is closed.
    pub(crate) fn close_if_uploaded(&self) -> bool {
        let mut state = self.lock();
        state.is_closed |= state.uploaded >= state.bounds.next;
        state.is_closed
    }

    /// Whether it is closed, so that all its batches are uploaded.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Wakes the watchers of the bounds although these are unchanged.
    pub(crate) fn tell(&self) {
        self.bounds.send_modify(|_as_it_was| {});
    }

    /// Takes over the start from the metadata; never moves it down.
    pub(crate) fn trimmed(&self, start: StreamOffset) {
        let mut state = self.lock();
        if start > state.bounds.start {
            state.bounds.start = start;
            rolls::forget(&mut state.rolls, start);
            self.bounds.send_replace(state.bounds);
        }
    }

    /// Records that batches became durable, in order; readers are woken once for all of them.
    pub(crate) fn confirm(&self, batches: Vec<ConfirmedBatch>) {
        let bounds = {
            let mut state = self.lock();
            for batch in batches {
                state.confirm(batch);
            }
            state.bounds
        };
        self.bounds.send_replace(bounds);
    }
}

impl State {
    fn confirm(&mut self, batch: ConfirmedBatch) {
        let next = batch.base + StreamOffset::from(batch.count);
        let entry = BatchEntry {
            base: batch.base,
            count: batch.count,
            bytes: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
            max_timestamp: batch.max_timestamp,
        };
        let part = RollPart::from_batch(&entry, batch.append_time, batch.roll);
        rolls::extend(&mut self.rolls, &part, next);
        rolls::forget(&mut self.rolls, self.bounds.start);
        self.bounds.confirmed = next;
        self.cache.push(Cached {
            base: batch.base,
            next,
            end: batch.end,
            max_timestamp: batch.max_timestamp,
            roll: batch.roll,
            append_time: batch.append_time,
            delta: batch.delta,
            bytes: batch.bytes,
            tail_crc: batch.tail_crc,
            _permit: batch.memory,
        });
    }
}

#[async_trait]
impl Stream for ObjectStream {
    fn append(
        &self,
        permit: AppendPermit,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt {
        let wal = self.ports.wal.get();
        let mut state = self.lock();
        assert!(!state.is_closed, "the stream was closed");
        assert_eq!(base, state.bounds.next, "appends are contiguous");
        state.bounds.next = base + StreamOffset::from(batch.count);
        // under the stream's lock, so that the log has the batches in the order of their offsets
        wal.append(permit, &self.leadership, base, batch)
    }

    fn fetch_cached(&self, from: StreamOffset, limit: FetchLimit) -> Option<Fetched> {
        let state = self.lock();
        if from >= state.bounds.confirmed {
            return Some(Fetched::default());
        }
        state.cache.read(from, limit)
    }

    async fn fetch(
        &self,
        from: StreamOffset,
        limit: FetchLimit,
    ) -> Result<Vec<Bytes>, StreamError> {
        let start = self.bounds().start;
        if from < start {
            return Err(StreamError::OutOfRange {
                stream: self.id,
                offset: from,
            });
        }
        if let Some(cached) = self.fetch_cached(from, limit) {
            return Ok(cached.batches);
        }
        let (reader, metadata) = (&self.ports.reader, &*self.ports.metadata);
        reader.read(metadata, self.id, from, limit).await
    }

    async fn offset_for_time(
        &self,
        from: StreamOffset,
        at: Timestamp,
    ) -> Result<Option<StreamOffset>, StreamError> {
        let mut from = from.max(self.bounds().start);
        loop {
            let uploaded = {
                let state = self.lock();
                if let Some(found) = state.cache.first_at(from, at) {
                    return Ok(found);
                }
                state.uploaded
            };
            if uploaded <= from {
                return Ok(None);
            }
            let (reader, metadata) = (&self.ports.reader, &*self.ports.metadata);
            let found = reader.first_at(metadata, self.id, from..uploaded, at);
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
            // the next batches were uploaded and evicted meanwhile, or are in the cache
            from = uploaded;
        }
    }

    async fn max_timestamp(&self) -> Result<Option<(Timestamp, StreamOffset)>, StreamError> {
        let largest = self.rolls().iter().map(|roll| roll.max_timestamp).max();
        let Some(largest) = largest else {
            return Ok(None);
        };
        if let Some(found) = self.offset_for_time(0, largest).await? {
            return Ok(Some((largest, found)));
        }
        // the batch with the roll's largest timestamp is deleted: a binary search finds the largest one that is left
        let Some(mut found) = self.offset_for_time(0, Timestamp::MIN).await? else {
            return Ok(None);
        };
        let (mut there, mut not_there) = (Timestamp::MIN, largest);
        while there.midpoint(not_there) > there {
            let between = there.midpoint(not_there);
            match self.offset_for_time(0, between).await? {
                Some(base) => (there, found) = (between, base),
                None => not_there = between,
            }
        }
        Ok(Some((there, found)))
    }

    async fn trim(&self, start: StreamOffset) -> Result<(), StreamError> {
        let metadata = &self.ports.metadata;
        metadata.trim(self.id, self.epoch, start).await?;
        self.trimmed(start);
        Ok(())
    }

    fn forget_state(&self, before: Timestamp, left_bytes: usize) {
        self.lock().folding.forget(before, left_bytes);
    }

    fn rolls(&self) -> Vec<Roll> {
        self.lock().rolls.clone()
    }

    fn has_bytes(&self, from: StreamOffset, bytes: u64) -> bool {
        rolls::has_bytes(&self.lock().rolls, from, bytes)
    }

    fn bounds(&self) -> StreamBounds {
        self.lock().bounds
    }

    fn watch_bounds(&self) -> watch::Receiver<StreamBounds> {
        self.bounds.subscribe()
    }
}
