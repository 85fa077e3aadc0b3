//! What an upload takes of each stream.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use highwater_object_format::{BatchEntry, ObjectWriter, SummedBytes};
use highwater_types::{StreamOffset, Timestamp, WalPosition};

use super::summed;
use crate::StreamError;
use crate::folding::Deltas;
use crate::store::Shared;
use crate::stream::ObjectStream;

/// Batches that are encoded in one go: well under a millisecond.
const BATCHES_AT_ONCE: usize = 32;

/// One batch of an upload.
#[derive(Debug)]
struct Batch {
    entry: BatchEntry,
    delta: Bytes,
    roll: bool,
    append_time: Timestamp,
    body: SummedBytes,
}

/// One stream's share of an upload.
#[derive(Debug)]
pub(super) struct Share {
    stream: Arc<ObjectStream>,
    batches: Vec<Batch>,
    checkpoint: Option<Bytes>,
    entries: Vec<(StreamOffset, Bytes)>,
    open_from: Option<StreamOffset>,
}

impl Share {
    /// What a stream has before a position of the WAL, if it has something, with a checkpoint where one is due (F2).
    pub(super) fn of(
        shared: &Shared,
        stream: Arc<ObjectStream>,
        before: WalPosition,
    ) -> Option<Self> {
        let mut deltas = Deltas::new();
        let mut batches = Vec::new();
        let state = stream.lock();
        for batch in state.cache.pinned().take_while(|batch| batch.end <= before) {
            let entry = BatchEntry {
                base: batch.base,
                count: u32::try_from(batch.next - batch.base).unwrap_or(u32::MAX),
                bytes: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
                max_timestamp: batch.max_timestamp,
            };
            if !batch.delta.is_empty() {
                deltas.push((batch.base..batch.next, batch.delta.clone()));
            }
            batches.push(Batch {
                entry,
                delta: batch.delta.clone(),
                roll: batch.roll,
                append_time: batch.append_time,
                body: summed(batch.bytes.clone(), batch.tail_crc),
            });
        }
        let (folding, start) = (state.folding.clone(), state.bounds.start);
        drop(state);
        if batches.is_empty() {
            return None;
        }
        let mut share = Self {
            stream,
            batches,
            checkpoint: None,
            entries: Vec::new(),
            open_from: None,
        };
        if folding.is_due(start, Some(&deltas))
            && let Some(folded) = folding.fold(&*shared.parts.fold, deltas)
        {
            let first = share.first();
            let entries = folded.entries.into_iter();
            share.entries = entries
                .filter(|entry| entry.at >= first)
                .map(|entry| (entry.at, entry.body))
                .collect();
            share.open_from = folded.open_from;
            share.checkpoint = Some(folded.checkpoint);
        }
        Some(share)
    }

    fn first(&self) -> StreamOffset {
        self.batches.first().map_or(0, |batch| batch.entry.base)
    }

    /// Writes it into an object.
    pub(super) async fn write(
        &self,
        shared: &Shared,
        writer: &mut ObjectWriter,
    ) -> Result<(), StreamError> {
        let label = self.stream.label.clone();
        writer.begin_stream(self.stream.id, label, self.stream.epoch, self.first());
        for batches in self.batches.chunks(BATCHES_AT_ONCE) {
            for batch in batches {
                let (delta, body) = (batch.delta.clone(), batch.body.clone());
                writer.push_batch(batch.entry, delta, batch.roll, batch.append_time, body);
            }
            // requests go before uploads
            tokio::task::yield_now().await;
        }
        let (checkpoint, entries) = (self.checkpoint.clone(), self.entries.clone());
        let leader_epochs = shared.metadata.leader_epochs(self.stream.id).await?;
        writer.end_stream(checkpoint, entries, self.open_from, leader_epochs);
        Ok(())
    }

    /// U6: called when the node's own image shows the claim.
    pub(super) fn release(self, shared: &Shared) {
        let Some(last) = self.batches.last() else {
            return;
        };
        let end = last.entry.next();
        let mut state = self.stream.lock();
        state.uploaded = end;
        match self.checkpoint {
            Some(checkpoint) => state.folding.checkpointed(checkpoint, end, true),
            None => {
                let deltas = self.batches.iter().filter(|batch| !batch.delta.is_empty());
                let deltas =
                    deltas.map(|batch| (batch.entry.base..batch.entry.next(), batch.delta.clone()));
                state.folding.claimed(deltas, end);
            }
        }
        state.cache.unpin(end);
        drop(state);
        let mut evictable = shared
            .evictable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // a few steps for each stream, so that eviction frees no more than is needed
        for batch in self.batches.iter().step_by(64).skip(1) {
            evictable.push_back((self.stream.id, batch.entry.base));
        }
        evictable.push_back((self.stream.id, end));
    }
}
