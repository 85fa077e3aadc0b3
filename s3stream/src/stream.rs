//! One open stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_object_format::{BatchEntry, RollPart};
use highwater_types::{LeaderEpoch, StreamId, StreamOffset, StreamRange, Timestamp};
use highwater_wal::ConfirmedBatch;
use tokio::sync::watch;

use crate::cache::{Cached, StreamCache};
use crate::rolls::{self, Roll};
use crate::store::Shared;
use crate::{
    AppendPermit, AppendReceipt, FetchLimit, Stream, StreamBatch, StreamBounds, StreamError,
};

#[derive(Debug)]
pub(crate) struct ObjectStream {
    pub(crate) id: StreamId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) label: Bytes,
    pub(crate) shared: Arc<Shared>,
    state: Mutex<State>,
    bounds: watch::Sender<StreamBounds>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) bounds: StreamBounds,
    pub(crate) cache: StreamCache,
    pub(crate) rolls: Vec<Roll>,
    /// The end of what is uploaded and seen in the image.
    pub(crate) uploaded: StreamOffset,
    /// The last checkpoint and the deltas since, up to `uploaded` (F2).
    pub(crate) checkpoint: Option<Bytes>,
    pub(crate) deltas: Vec<(StreamRange, Bytes)>,
}

impl ObjectStream {
    pub(crate) fn new(
        id: StreamId,
        epoch: LeaderEpoch,
        label: Bytes,
        shared: Arc<Shared>,
        state: State,
    ) -> Self {
        let bounds = watch::Sender::new(state.bounds);
        Self {
            id,
            epoch,
            label,
            shared,
            state: Mutex::new(state),
            bounds,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes batches that became durable, in order; readers are told once for all of them.
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
        let part = RollPart::of_batch(&entry, batch.append_time, batch.roll);
        rolls::extend(&mut self.rolls, &part, next);
        self.bounds.confirmed = next;
        self.cache.push(Cached {
            base: batch.base,
            next,
            max_timestamp: batch.max_timestamp,
            roll: batch.roll,
            append_time: batch.append_time,
            delta: batch.delta,
            bytes: batch.bytes,
            tail_crc: batch.tail_crc,
            _permit: batch.permit,
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
        let wal = self.shared.wal();
        let mut state = self.lock();
        assert_eq!(base, state.bounds.next, "appends are contiguous");
        state.bounds.next = base + StreamOffset::from(batch.count);
        // under the stream's lock, so that the order of the log is the order of offsets
        wal.append(permit, self.id, self.epoch, base, batch)
    }

    fn fetch_cached(&self, from: StreamOffset, limit: FetchLimit) -> Option<Vec<Bytes>> {
        let state = self.lock();
        if from >= state.bounds.confirmed {
            return Some(Vec::new());
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
            return Ok(cached);
        }
        self.shared
            .reader
            .read(&*self.shared.metadata, self.id, from, limit)
            .await
    }

    async fn offset_for_time(&self, at: Timestamp) -> Result<Option<StreamOffset>, StreamError> {
        let start = self.bounds().start;
        let uploaded = self.lock().uploaded;
        let reader = &self.shared.reader;
        let found = reader
            .first_at(&*self.shared.metadata, self.id, start..uploaded, at)
            .await?;
        if found.is_some() {
            return Ok(found);
        }
        let state = self.lock();
        let mut cached = state.cache.all().filter(|batch| batch.base >= uploaded);
        Ok(cached
            .find(|batch| batch.max_timestamp >= at)
            .map(|batch| batch.base))
    }

    async fn max_timestamp(&self) -> Result<Option<(Timestamp, StreamOffset)>, StreamError> {
        let largest = self.rolls().iter().map(|roll| roll.max_timestamp).max();
        let Some(largest) = largest.filter(|largest| *largest >= 0) else {
            return Ok(None);
        };
        let found = self.offset_for_time(largest).await?;
        Ok(found.map(|offset| (largest, offset)))
    }

    async fn trim(&self, start: StreamOffset) -> Result<(), StreamError> {
        self.shared.metadata.trim(self.id, start).await?;
        let bounds = {
            let mut state = self.lock();
            state.bounds.start = state.bounds.start.max(start);
            let start = state.bounds.start;
            state.rolls.retain(|roll| roll.end > start);
            state.bounds
        };
        self.bounds.send_replace(bounds);
        Ok(())
    }

    fn rolls(&self) -> Vec<Roll> {
        self.lock().rolls.clone()
    }

    fn bounds(&self) -> StreamBounds {
        self.lock().bounds
    }

    fn watch_bounds(&self) -> watch::Receiver<StreamBounds> {
        self.bounds.subscribe()
    }
}
