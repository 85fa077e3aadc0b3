//! The open object WAL: its port, and the state that it shares with its writer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_object_format::{SEAL_BYTES, Seal};
use highwater_object_storage::{IoClass, layout};
use highwater_runtime::{ByteBudget, BytePermit, until};
use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind, StreamOffset, WalPosition};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::batcher::{Batcher, Waiting};
use super::config::Batching;
use super::group::Filling;
use super::put::Putter;
use crate::end::End;
use crate::receipt::Watermark;
use crate::{
    AppendPermit, AppendReceipt, Leadership, Room, Share, StreamBatch, WalError, WriteAheadLog,
};

/// The state that the port, the writer and the trimmer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) epoch: NodeEpoch,
    state: Mutex<Appending>,
    /// Wakes the writer.
    pub(super) appended: Notify,
    pub(super) confirmed: Watermark,
    pub(super) end: watch::Sender<Option<End>>,
    /// The floor up to which objects are deleted.
    pub(super) floor: watch::Sender<WalPosition>,
    memory: ByteBudget,
    room: ByteBudget,
}

/// What the writer takes groups from.
#[derive(Debug)]
pub(super) struct Appending {
    pub(super) filling: Filling,
    pub(super) batcher: Batcher,
    is_closing: bool,
    pub(super) has_ended: bool,
    /// The room of the durable groups, which is held until they are trimmed.
    durable: VecDeque<(u64, BytePermit)>,
    /// The groups that are not acknowledged, each with the time of its first batch.
    waiting: VecDeque<(u64, Instant)>,
}

impl Appending {
    pub(super) fn waiting(&self) -> Waiting {
        match (self.filling.is_empty(), self.is_closing) {
            (true, _) => Waiting::Nothing,
            (false, false) => Waiting::Batches,
            (false, true) => Waiting::LastBatches,
        }
    }

    /// Whether everything that will ever be appended was taken by the writer.
    pub(super) fn is_finished(&self) -> bool {
        self.is_closing && self.filling.is_empty()
    }
}

impl Shared {
    pub(super) fn new(epoch: NodeEpoch, batching: Batching, memory: ByteBudget) -> Self {
        let batching = batching.bounded();
        Self {
            epoch,
            state: Mutex::new(Appending {
                filling: Filling::new(batching.group_bytes_max),
                batcher: Batcher::new(batching),
                is_closing: false,
                has_ended: false,
                durable: VecDeque::new(),
                waiting: VecDeque::new(),
            }),
            appended: Notify::new(),
            confirmed: Watermark::default(),
            end: watch::Sender::new(None),
            floor: watch::Sender::new(WalPosition { epoch, at: 0 }),
            memory,
            // its room is as large as the store; it is counted, and memory bounds what is not durable
            room: ByteBudget::new(u64::MAX),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Appending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the room of a durable group until it is trimmed.
    pub(super) fn hold(&self, number: u64, room: BytePermit) {
        let mut state = self.lock();
        state.waiting.pop_front_if(|(first, _)| *first <= number);
        state.durable.push_back((number, room));
    }

    /// Ends the log: nothing more is acknowledged (P10). Only the first end counts.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.has_ended {
            return;
        }
        state.has_ended = true;
        state.filling.clear();
        state.waiting.clear();
        drop(state);
        self.confirmed.end();
        self.end.send_replace(Some(end));
        // the writer may have been ended by another task
        self.appended.notify_one();
    }

    fn has_ended(&self) -> bool {
        let state = self.lock();
        state.has_ended || state.is_closing
    }

    async fn ending(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Stopped),
            Err(_no_sender) => End::Stopped,
        }
    }
}

/// An open object WAL.
#[derive(Debug)]
pub(super) struct ObjectWal {
    pub(super) shared: Arc<Shared>,
    pub(super) putter: Putter,
    pub(super) node: NodeId,
}

impl Drop for ObjectWal {
    /// A log that nobody can append to any more makes durable what was appended, and lets its tasks end.
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.appended.notify_one();
    }
}

#[async_trait]
impl WriteAheadLog for ObjectWal {
    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, WalError> {
        let shared = &self.shared;
        self.check()?;
        let memory = async {
            match share {
                Share::Common => shared.memory.acquire(bytes).await,
                Share::Reserve => shared.memory.acquire_reserved(bytes).await,
                Share::Unbounded => Ok(shared.memory.force(bytes)),
            }
        };
        // both arms are cancellation safe
        let memory = tokio::select! {
            memory = memory => memory.map_err(WalError::TooLarge)?,
            _end = shared.ending() => return Err(WalError::Ended),
        };
        self.check()?;
        let room = shared.room.force(bytes);
        Ok(AppendPermit { memory, room })
    }

    fn try_reserve(&self, bytes: u64) -> Option<AppendPermit> {
        let shared = &self.shared;
        self.check().ok()?;
        let memory = shared.memory.try_acquire(bytes)?;
        let room = shared.room.force(bytes);
        Some(AppendPermit { memory, room })
    }

    fn check(&self) -> Result<(), WalError> {
        match self.shared.has_ended() {
            true => Err(WalError::Ended),
            false => Ok(()),
        }
    }

    fn append(
        &self,
        permit: AppendPermit,
        of: &Leadership,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt {
        let shared = &self.shared;
        let mut state = shared.lock();
        if state.has_ended || state.is_closing {
            // no group has this number, so the receipt resolves with the end of the log
            return shared.confirmed.receipt(u64::MAX);
        }
        let number = state.filling.push(permit, of, base, batch);
        if state.waiting.back().is_none_or(|(last, _)| *last < number) {
            state.waiting.push_back((number, Instant::now()));
        }
        let bytes = batch.head.len() + batch.tail.len();
        state.batcher.appended(bytes as u64);
        drop(state);
        shared.appended.notify_one();
        shared.confirmed.receipt(number + 1)
    }

    fn oldest_append(&self) -> Option<Duration> {
        let state = self.shared.lock();
        state.waiting.front().map(|(_, since)| since.elapsed())
    }

    fn room(&self) -> Room {
        let used = self.shared.room.used();
        Room { used, limit: 0 }
    }

    fn trim(&self, floor: WalPosition) {
        if floor.epoch != self.shared.epoch {
            return;
        }
        let mut state = self.shared.lock();
        while let Some((_, room)) = state.durable.pop_front_if(|(number, _)| *number < floor.at) {
            drop(room);
        }
        drop(state);
        self.shared.floor.send_if_modified(|highest| {
            let is_higher = floor > *highest;
            *highest = floor.max(*highest);
            is_higher
        });
    }

    async fn ended(&self) -> Option<WalError> {
        self.shared.ending().await.error()
    }

    fn fence(&self, reason: String) {
        self.shared.end(End::Fenced { reason });
    }

    async fn look_for_seal(&self) {
        let epoch = self.shared.epoch;
        // puts in flight meet the seal themselves
        let number = self.shared.lock().filling.first();
        let key = layout::object(ObjectId {
            node: self.node,
            epoch,
            kind: ObjectKind::Wal,
            number,
        });
        let storage = &self.putter.storage;
        let read = storage.get_suffix(&key, SEAL_BYTES as u64, IoClass::Wal);
        // the group commit of this number may have been put meanwhile, and is no seal
        if let Ok(Ok((suffix, bytes))) = timeout(self.putter.repeats.deadline, read).await
            && Seal::is_seal(&suffix, bytes)
        {
            let reason = format!("it was sealed at {key}");
            self.shared.end(End::Fenced { reason });
        }
    }

    async fn shutdown(&self, deadline: Option<Instant>) -> Result<(), WalError> {
        let shared = &self.shared;
        shared.lock().is_closing = true;
        shared.appended.notify_one();
        // both arms are cancellation safe
        tokio::select! {
            biased;
            _end = shared.ending() => {}
            // puts that were sent may still be applied, and then belong to the epoch that is sealed (W7)
            () = until(deadline) => shared.end(End::Late { is_writing: false }),
        }
        shared.ending().await.error().map_or(Ok(()), Err)
    }
}
