//! The open disk WAL.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_disk_log::{DiskLog, Group, GroupReceiver, Part, Recovery, State};
use highwater_io::Threads;
use highwater_runtime::{ByteBudget, BytePermit, until};
use highwater_types::{NodeEpoch, StreamOffset, WalPosition};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::factory::of_log;
use super::record::{self, Meta};
use crate::end::End;
use crate::receipt::Watermark;
use crate::{
    AppendPermit, AppendReceipt, ConfirmedBatch, ConfirmedSink, Leadership, Room, Share,
    StreamBatch, WalError, WriteAheadLog,
};

#[derive(Debug)]
pub(super) struct DiskWal {
    log: DiskLog<Meta>,
    memory: ByteBudget,
    confirmer: Arc<Confirmer>,
    state: watch::Receiver<State>,
    /// Held by the next reservation to get files, so that later small reservations don't starve a large one.
    turn: tokio::sync::Mutex<()>,
    reserved_turn: tokio::sync::Mutex<()>,
}

/// Turns groups of the log into confirmed batches.
#[derive(Debug)]
struct Confirmer {
    epoch: NodeEpoch,
    above: Arc<dyn ConfirmedSink>,
    confirmed: Watermark,
    /// The groups that are durable and held back, because the sink may not show them now (D5).
    held_back: Mutex<Vec<Group<Meta>>>,
    ring: Mutex<Ring>,
    room: ByteBudget,
    memory: ByteBudget,
    /// How the log ended before its writer did.
    ended_early: watch::Sender<Option<End>>,
}

/// The room that the groups on disk hold until they are trimmed.
#[derive(Debug)]
struct Ring {
    groups: VecDeque<(u64, BytePermit)>,
    /// The sum of their room.
    held: u64,
    /// Bytes that are reserved and wait for files.
    waiting: u64,
    end: u64,
}

/// The outlook of a reservation that has no files yet.
enum Files {
    There,
    /// The log should make files for so many bytes in all.
    ToMake(u64),
    /// The disk is full, and even releasing all that can be released would not make enough room.
    Never,
}

impl DiskWal {
    pub(super) fn start(
        recovery: Recovery,
        epoch: NodeEpoch,
        threads: &dyn Threads,
        memory: ByteBudget,
        room: ByteBudget,
        above: Arc<dyn ConfirmedSink>,
    ) -> Arc<dyn WriteAheadLog> {
        let end = recovery.end();
        let confirmer = Arc::new(Confirmer {
            epoch,
            above,
            confirmed: Watermark::default(),
            held_back: Mutex::default(),
            ring: Mutex::new(Ring {
                groups: VecDeque::new(),
                held: 0,
                waiting: 0,
                end,
            }),
            room,
            memory: memory.clone(),
            ended_early: watch::Sender::new(None),
        });
        let receiver: Arc<dyn GroupReceiver<Meta>> = Arc::<Confirmer>::clone(&confirmer);
        let log = DiskLog::start(recovery, epoch.0, threads, "wal-writer", receiver);
        let state = log.state();
        Arc::new(Self {
            log,
            memory,
            confirmer,
            state,
            turn: tokio::sync::Mutex::default(),
            reserved_turn: tokio::sync::Mutex::default(),
        })
    }
}

/// How often a reservation looks, on a full disk, whether another reservation was given up, because nothing signals
/// that.
const LOOK: Duration = Duration::from_millis(100);

impl DiskWal {
    fn has_ended(&self) -> bool {
        self.state.borrow().ended.is_some() || self.confirmer.has_ended_early()
    }

    /// Resolves when the log has ended before its writer.
    async fn ended_early(&self) -> WalError {
        let mut end = self.confirmer.ended_early.subscribe();
        let end = end.wait_for(Option::is_some).await;
        let end = end.ok().and_then(|end| end.clone());
        end.and_then(End::error).unwrap_or(WalError::Ended)
    }

    /// Ends the log, whatever its writer still does. An end that came before stays.
    fn end_early(&self, end: End) {
        if self.state.borrow().ended.is_some() {
            return;
        }
        self.confirmer.ended_early.send_if_modified(|early| {
            let is_first = early.is_none();
            early.get_or_insert(end);
            is_first
        });
        self.confirmer.confirmed.end();
        self.log.close();
    }

    /// Waits until there are files for the reserved bytes beside those of earlier reservations (A1, D3). On a full disk
    /// it waits for files that uploads release.
    async fn wait_for_files(&self, bytes: u64, share: Share) -> Result<(), WalError> {
        let mut state = self.state.clone();
        let mut waiting = Waiting::new(&self.confirmer, bytes);
        let _turn = match share {
            Share::Reserve => self.reserved_turn.lock().await,
            _ => self.turn.lock().await,
        };
        loop {
            let is_full = {
                let state = state.borrow_and_update();
                if state.ended.is_some() {
                    return Err(WalError::Ended);
                }
                match waiting.files(&state) {
                    Files::There => return Ok(()),
                    Files::Never => return Err(WalError::Full),
                    Files::ToMake(promised) => self.log.request_room(promised),
                }
                state.full
            };
            let changed = state.changed();
            let changed = match is_full {
                true => timeout(LOOK, changed).await.unwrap_or(Ok(())),
                false => changed.await,
            };
            if changed.is_err() {
                return Err(WalError::Ended);
            }
        }
    }
}

/// A reservation that has no files yet. Its bytes do not count as promised until it has.
struct Waiting<'a> {
    confirmer: &'a Confirmer,
    bytes: u64,
}

impl<'a> Waiting<'a> {
    fn new(confirmer: &'a Confirmer, bytes: u64) -> Self {
        confirmer.ring().waiting += bytes;
        Self { confirmer, bytes }
    }

    fn files(&mut self, state: &State) -> Files {
        let mut ring = self.confirmer.ring();
        let promised = self.confirmer.promised(&ring);
        if state.room >= promised + self.bytes {
            ring.waiting -= std::mem::take(&mut self.bytes);
            Files::There
        } else if state.full && self.bytes > state.room + state.held {
            Files::Never
        } else {
            Files::ToMake(promised + ring.waiting)
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.confirmer.ring().waiting -= self.bytes;
    }
}

impl Confirmer {
    /// Turns one group into batches, and counts the bytes that it takes beyond the reservations.
    fn take(&self, group: Group<Meta>, batches: &mut Vec<ConfirmedBatch>) {
        let end = WalPosition {
            epoch: self.epoch,
            at: group.end,
        };
        let mut room = BytePermit::empty();
        let mut memory_bytes = 0;
        for (range, meta) in group.entries {
            let skip = record::HEADER_BYTES + meta.delta.len();
            room.merge(meta.room);
            memory_bytes += meta.memory.bytes();
            batches.push(ConfirmedBatch {
                stream: meta.stream,
                leader_epoch: meta.leader_epoch,
                base: meta.base,
                count: meta.count,
                max_timestamp: meta.max_timestamp,
                delta: meta.delta,
                roll: meta.roll,
                append_time: meta.append_time,
                bytes: group.memory.slice(range.start + skip..range.end),
                tail_crc: meta.tail_crc,
                end,
                memory: meta.memory,
            });
        }
        let padding = (group.memory.len() as u64).saturating_sub(memory_bytes);
        if let Some(last) = batches.last_mut()
            && padding > 0
        {
            last.memory.merge(self.memory.force(padding));
        }
        let mut ring = self.ring();
        let used = group.end - ring.end;
        if used > room.bytes() {
            room.merge(self.room.force(used - room.bytes()));
        }
        ring.end = group.end;
        ring.held += room.bytes();
        ring.groups.push_back((group.end, room));
    }
}

impl Confirmer {
    fn has_ended_early(&self) -> bool {
        self.ended_early.borrow().is_some()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were reserved, have files, and are not written yet.
    fn promised(&self, ring: &Ring) -> u64 {
        self.room.used().saturating_sub(ring.held + ring.waiting)
    }
}

impl Confirmer {
    fn held_back(&self) -> MutexGuard<'_, Vec<Group<Meta>>> {
        let held_back = self.held_back.lock();
        held_back.unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over and acknowledges durable groups, if that is allowed now. The lock is held meanwhile, so that the groups
    /// stay in their order.
    fn confirm(&self, mut held_back: MutexGuard<'_, Vec<Group<Meta>>>) {
        // P12, P15: the next start of this node finds them in the log
        if self.has_ended_early() {
            held_back.clear();
        }
        if held_back.is_empty() || !self.above.may_confirm() {
            return;
        }
        let groups = std::mem::take(&mut *held_back);
        let number = groups.last().map_or(0, |group| group.number);
        let mut batches = Vec::with_capacity(groups.iter().map(|group| group.entries.len()).sum());
        for group in groups {
            self.take(group, &mut batches);
        }
        self.above.confirmed(batches);
        self.confirmed.raise(number);
    }
}

impl GroupReceiver<Meta> for Confirmer {
    fn durable(&self, groups: Vec<Group<Meta>>) {
        let mut held_back = self.held_back();
        held_back.extend(groups);
        self.confirm(held_back);
    }

    fn ended(&self) {
        // P10: from here on nothing is handed over
        self.held_back().clear();
        self.confirmed.end();
    }
}

async fn take(budget: &ByteBudget, bytes: u64, share: Share) -> Result<BytePermit, WalError> {
    let taken = match share {
        Share::Common => budget.acquire(bytes).await,
        Share::Reserve => budget.acquire_reserved(bytes).await,
        Share::Unbounded => Ok(budget.force(bytes)),
    };
    taken.map_err(WalError::TooLarge)
}

#[async_trait]
impl WriteAheadLog for DiskWal {
    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, WalError> {
        if self.has_ended() {
            return Err(WalError::Ended);
        }
        let reserved = async {
            let memory = take(&self.memory, bytes, share).await?;
            let room = take(&self.confirmer.room, bytes, share).await?;
            if share != Share::Unbounded {
                self.wait_for_files(bytes, share).await?;
            }
            Ok(AppendPermit { memory, room })
        };
        // both arms are cancellation safe
        tokio::select! {
            biased;
            reserved = reserved => reserved,
            _error = self.ended_early() => Err(WalError::Ended),
        }
    }

    fn try_reserve(&self, bytes: u64) -> Option<AppendPermit> {
        let _turn = self.turn.try_lock().ok()?;
        if self.has_ended() {
            return None;
        }
        let state = self.state.borrow();
        let memory = self.memory.try_acquire(bytes)?;
        let room = self.confirmer.room.try_acquire(bytes)?;
        let mut waiting = Waiting::new(&self.confirmer, bytes);
        match waiting.files(&state) {
            Files::There => Some(AppendPermit { memory, room }),
            Files::ToMake(_) | Files::Never => None,
        }
    }

    fn check(&self) -> Result<(), WalError> {
        let has_ended = self.has_ended();
        let state = self.state.borrow();
        match () {
            () if has_ended => Err(WalError::Ended),
            () if state.full
                && state.held == 0
                && state.room <= self.confirmer.promised(&self.confirmer.ring()) =>
            {
                Err(WalError::Full)
            }
            () => Ok(()),
        }
    }

    fn append(
        &self,
        permit: AppendPermit,
        of: &Leadership,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt {
        let header = record::header(of, base, batch);
        let meta = Meta {
            stream: of.stream,
            leader_epoch: of.epoch,
            base,
            count: batch.count,
            max_timestamp: batch.max_timestamp,
            roll: batch.roll,
            append_time: batch.append_time,
            delta: batch.delta.clone(),
            tail_crc: batch.tail_crc,
            memory: permit.memory,
            room: permit.room,
        };
        let tail = Part {
            bytes: &batch.tail,
            crc: Some(batch.tail_crc),
        };
        let parts = [
            header[..].into(),
            batch.delta[..].into(),
            batch.head[..].into(),
            tail,
        ];
        let appended = self.log.append(&parts, meta);
        self.confirmer.confirmed.receipt(appended.group)
    }

    fn confirm(&self) {
        self.confirmer.confirm(self.confirmer.held_back());
    }

    fn room(&self) -> Room {
        let state = self.state.borrow();
        let (used, limit) = (self.confirmer.room.used(), self.confirmer.room.limit());
        // on a full disk the log has only the files that exist
        let limit = match state.full {
            true => limit.min(self.confirmer.ring().held + state.room),
            false => limit,
        };
        Room { used, limit }
    }

    fn trim(&self, floor: WalPosition) {
        // under one lock, so that returned room never counts as promised
        let mut ring = self.confirmer.ring();
        while let Some((_, room)) = ring.groups.pop_front_if(|(end, _)| *end <= floor.at) {
            ring.held -= room.bytes();
            drop(room);
        }
        drop(ring);
        self.log.trim(floor.at);
    }

    async fn ended(&self) -> Option<WalError> {
        // both arms are cancellation safe
        tokio::select! {
            biased;
            error = self.ended_early() => Some(error),
            error = self.log.ended() => error.map(of_log),
        }
    }

    fn fence(&self, reason: String) {
        self.end_early(End::Fenced { reason });
    }

    async fn shutdown(&self, deadline: Option<Instant>) -> Result<(), WalError> {
        // both arms are cancellation safe: the log stays closed
        tokio::select! {
            biased;
            ended = self.log.shutdown() => ended.map_err(of_log)?,
            () = until(deadline) => {
                // its thread may hang in a sync, and goes on when that returns
                let late = End::Late { is_writing: true };
                self.end_early(late.clone());
                return late.error().map_or(Ok(()), Err);
            }
        }
        match self.confirmer.has_ended_early() {
            true => Err(self.ended_early().await),
            false => Ok(()),
        }
    }
}
