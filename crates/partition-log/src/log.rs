//! One partition's log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use highwater_protocol::records::{BatchHeader, head};
use highwater_runtime::{WallClock, WorkPool};
use highwater_s3stream::{
    AppendPermit, AppendReceipt, FetchLimit, HEAD_BYTES, OpenedStream, Roll, Stream, StreamBatch,
    StreamBounds, StreamError, record_bytes,
};
use highwater_types::{LeaderEpoch, StreamOffset, Timestamp};
use tokio::sync::watch;

use crate::active::Active;
use crate::find::{decoded_bytes_max, decoding_bytes, find_record};
use crate::producer_state::{ProducerBatch, ProducerState};
use crate::producers::{Forgotten, Producers};
use crate::validate::{Check, Origin, ValidatedBatch};
use crate::{AppendError, LogConfig, LogContext, ReadError};

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kafka's isolation levels")]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// What an append did.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The batch's first offset.
    pub base_offset: StreamOffset,
    /// The broker's time, or -1 where the producer's counts.
    pub log_append_time_ms: Timestamp,
    /// The log start offset.
    pub log_start_offset: StreamOffset,
    /// Resolves when the batch is durable; none for a repeat whose original is.
    pub receipt: Option<AppendReceipt>,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadOutcome {
    /// Whole batches.
    pub batches: Vec<Bytes>,
    /// The high watermark.
    pub high_watermark: StreamOffset,
    /// The last stable offset.
    pub last_stable_offset: StreamOffset,
    /// The log start offset.
    pub log_start_offset: StreamOffset,
    /// Aborted transactions in range, for a reader of committed records.
    pub aborted: Option<Vec<(i64, StreamOffset)>>,
    /// Whether the next batch is in memory too, and only the limit kept it back.
    pub is_cut: bool,
}

/// What ListOffsets asks for (KAFKA-BEHAVIOUR 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kafka's special timestamps")]
pub enum OffsetQuery {
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    LatestTiered,
    EarliestPendingUpload,
    AtTime(Timestamp),
}

/// An offset with its time; -1 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: StreamOffset,
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The leader epoch that wrote it.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// One open partition log.
#[derive(Debug)]
pub struct PartitionLog {
    stream: Arc<dyn Stream>,
    leader_epoch: LeaderEpoch,
    leader_epochs: Vec<(LeaderEpoch, StreamOffset)>,
    config: RwLock<Arc<LogConfig>>,
    clock: WallClock,
    pool: WorkPool,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    producers: Producers,
    /// Receipts of batches that may not be durable yet, by first offset: a repeat waits for its original.
    pending: BTreeMap<StreamOffset, AppendReceipt>,
    active: Active,
}

impl PartitionLog {
    /// Rebuilds the log's state from what its stream holds (F4).
    ///
    /// # Errors
    /// When a checkpoint or a delta is of a version that is not known.
    pub fn open(
        opened: OpenedStream,
        leader_epoch: LeaderEpoch,
        leader_epochs: Vec<(LeaderEpoch, StreamOffset)>,
        config: LogConfig,
        context: LogContext,
    ) -> Result<Arc<Self>, StreamError> {
        let checkpoint = opened.checkpoint.as_ref().map(|(_, state)| state);
        let unreadable = || StreamError::Damaged {
            key: format!("{:?}", opened.stream),
            reason: "producer state is of a version that is not known".to_owned(),
        };
        let known = ProducerState::rebuild(checkpoint, &opened.deltas).ok_or_else(unreadable)?;
        let state = State {
            producers: Producers::new(known, context.producers),
            pending: BTreeMap::new(),
            active: Active::opened(&opened.rolls),
        };
        let log = Self {
            stream: opened.stream,
            leader_epoch,
            leader_epochs,
            config: RwLock::new(Arc::new(config)),
            clock: context.clock,
            pool: context.pool,
            seed: context.seed,
            state: Mutex::new(state),
        };
        log.expire_producers();
        Ok(Arc::new(log))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings in effect.
    #[must_use]
    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of its batches, with what is deleted of a roll that is not all deleted, or is the active one.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.lock();
        let rolls = self.stream.rolls();
        let counted = state.active.counted(rolls, self.stream.bounds().start);
        counted.iter().map(|roll| roll.bytes).sum()
    }

    /// Changes the settings.
    pub fn set_config(&self, config: LogConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Checks records; takes no lock. What must be decompressed is checked in the pool, within its memory (I11).
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn validate(
        &self,
        records: &Bytes,
        version: i16,
        origin: Origin,
    ) -> Result<ValidatedBatch, AppendError> {
        let (config, now_ms) = (self.config(), self.clock.now_ms());
        let check = Check {
            version,
            origin,
            config,
            now_ms,
        };
        check.within(&self.pool, records).await
    }

    /// What must be reserved for a batch.
    #[must_use]
    pub fn append_bytes(batch: &ValidatedBatch) -> u64 {
        record_bytes(batch.bytes.len())
    }

    /// Appends a batch, or finds that it is a repeat. Never waits; a refusal changes nothing (A1).
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(
        &self,
        permit: AppendPermit,
        batch: ValidatedBatch,
    ) -> Result<Appended, AppendError> {
        let ValidatedBatch {
            header,
            bytes,
            tail_crc,
            max_timestamp,
            max_timestamp_at,
            log_append_time,
        } = batch;
        let config = self.config();
        let now = self.clock.now_ms();
        let producer = (header.producer_id >= 0).then(|| ProducerBatch {
            producer: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            append_time: now,
        });
        let mut state = self.lock();
        let bounds = self.stream.bounds();
        let log_append_time_ms = log_append_time.unwrap_or(-1);
        let log_start_offset = bounds.start;
        let done = |base_offset, receipt| Appended {
            base_offset,
            log_append_time_ms,
            log_start_offset,
            receipt,
        };
        if let Some(producer) = &producer
            && let Some(base) = state.producers.check(producer)?
        {
            return Ok(done(base, state.pending.get(&base).cloned()));
        }
        let base = bounds.next;
        let count = u32::try_from(header.count).expect("the count was checked");
        let next = Roll {
            base,
            end: base.saturating_add(count.into()),
            bytes: bytes.len() as u64,
            max_timestamp,
            first_timestamp: max_timestamp,
            first_append: now,
            last_append: now,
        };
        let largest = self.appends(base.saturating_add(max_timestamp_at.into()), max_timestamp);
        let stored = StreamBatch {
            count,
            max_timestamp,
            head: head(base, bytes.len(), self.leader_epoch.0),
            tail: bytes.slice(HEAD_BYTES..),
            tail_crc,
            delta: producer
                .as_ref()
                .map(ProducerBatch::encode)
                .unwrap_or_default(),
            roll: state
                .active
                .appended(next, largest, bounds, &config, self.seed),
            append_time: now,
        };
        let receipt = self.stream.append(permit, base, &stored);
        if let Some(producer) = &producer {
            let range = base..next.end;
            if let Some(forgotten) = state.producers.add(producer, &range) {
                let Forgotten { before, left_bytes } = forgotten;
                self.stream.forget_state(before, left_bytes);
            }
            state.pending = state.pending.split_off(&bounds.confirmed);
            state.pending.insert(base, receipt.clone());
        }
        Ok(done(base, Some(receipt)))
    }

    /// A record of this leadership.
    fn appends(&self, offset: StreamOffset, timestamp: Timestamp) -> FoundOffset {
        FoundOffset {
            offset,
            timestamp,
            leader_epoch: Some(self.leader_epoch),
        }
    }

    /// The bounds now.
    #[must_use]
    pub fn bounds(&self) -> StreamBounds {
        self.stream.bounds()
    }

    /// Changes with the high watermark and the start.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<StreamBounds> {
        self.stream.watch_bounds()
    }

    /// The bounds as an outcome without records.
    #[must_use]
    pub fn nothing(&self, isolation: Isolation) -> ReadOutcome {
        outcome(self.stream.bounds(), Vec::new(), isolation)
    }

    /// Reads from memory (KAFKA-BEHAVIOUR 17).
    ///
    /// # Errors
    /// [`ReadError::NeedsObjects`] when it is not there.
    pub fn read(
        &self,
        from: StreamOffset,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<ReadOutcome, ReadError> {
        let bounds = self.check_range(from)?;
        if from >= bounds.confirmed {
            return Ok(outcome(bounds, Vec::new(), isolation));
        }
        let limit = FetchLimit {
            bytes: max_bytes,
            before: bounds.confirmed,
            at_least_one,
        };
        let fetched = self
            .stream
            .fetch_cached(from, limit)
            .ok_or(ReadError::NeedsObjects)?;
        Ok(ReadOutcome {
            is_cut: fetched.is_cut,
            ..outcome(bounds, fetched.batches, isolation)
        })
    }

    /// Reads from objects where it must.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_cold(
        &self,
        from: StreamOffset,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<ReadOutcome, ReadError> {
        let bounds = self.check_range(from)?;
        let limit = FetchLimit {
            bytes: max_bytes,
            before: bounds.confirmed,
            at_least_one,
        };
        let batches = self
            .stream
            .fetch(from, limit)
            .await
            .map_err(ReadError::Stream)?;
        Ok(outcome(bounds, batches, isolation))
    }

    fn check_range(&self, from: StreamOffset) -> Result<StreamBounds, ReadError> {
        let bounds = self.stream.bounds();
        if from < bounds.start || from > bounds.next {
            return Err(ReadError::OutOfRange { offset: from });
        }
        Ok(bounds)
    }

    /// Looks up an offset (KAFKA-BEHAVIOUR 21).
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list_offsets(
        &self,
        query: OffsetQuery,
        _isolation: Isolation,
    ) -> Result<FoundOffset, ReadError> {
        let bounds = self.stream.bounds();
        let at = |offset| FoundOffset {
            offset,
            timestamp: -1,
            leader_epoch: self.epoch_of(offset),
        };
        let none = FoundOffset {
            offset: -1,
            timestamp: -1,
            leader_epoch: None,
        };
        match query {
            OffsetQuery::Latest => Ok(FoundOffset {
                leader_epoch: Some(self.leader_epoch),
                ..at(bounds.confirmed)
            }),
            OffsetQuery::Earliest | OffsetQuery::EarliestLocal => Ok(at(bounds.start)),
            OffsetQuery::LatestTiered | OffsetQuery::EarliestPendingUpload => Ok(none),
            OffsetQuery::MaxTimestamp => Ok(self.largest().await?.unwrap_or(none)),
            OffsetQuery::AtTime(time) => {
                let found = self.first_at(bounds.start, time).await?;
                Ok(found.unwrap_or(none))
            }
        }
    }

    /// The first record of the largest timestamp: as in Kafka also where it is deleted and its roll, the active one, is not.
    async fn largest(&self) -> Result<Option<FoundOffset>, ReadError> {
        loop {
            let start = {
                let state = self.lock();
                let bounds = self.stream.bounds();
                if let Some(deleted) = state.active.deleted_largest(bounds) {
                    return Ok(Some(deleted));
                }
                bounds.start
            };
            let found = self.largest_left().await;
            // else what was looked at may have been deleted meanwhile
            if self.stream.bounds().start == start {
                return found;
            }
        }
    }

    async fn largest_left(&self) -> Result<Option<FoundOffset>, ReadError> {
        let largest = self.stream.max_timestamp().await;
        let Some((largest, batch)) = largest.map_err(ReadError::Stream)? else {
            return Ok(None);
        };
        let (found, _) = self.first_record(batch, batch, largest).await?;
        Ok(found)
    }

    /// The first record from `from` on whose timestamp reaches `time`.
    async fn first_at(
        &self,
        mut from: StreamOffset,
        time: Timestamp,
    ) -> Result<Option<FoundOffset>, ReadError> {
        loop {
            let batch = self.stream.offset_for_time(from, time).await;
            let Some(batch) = batch.map_err(ReadError::Stream)? else {
                return Ok(None);
            };
            let (found, next) = self.first_record(batch, from, time).await?;
            if found.is_some() {
                return Ok(found);
            }
            // what the batch has of that time lies below `from`
            from = next.max(from.saturating_add(1));
        }
    }

    /// The first record from `from` on of the batch at `base` whose timestamp reaches `time`, and where the batch ends.
    async fn first_record(
        &self,
        base: StreamOffset,
        from: StreamOffset,
        time: Timestamp,
    ) -> Result<(Option<FoundOffset>, StreamOffset), ReadError> {
        let start = self.stream.bounds().start;
        let limit = FetchLimit {
            bytes: 1,
            before: base.saturating_add(1),
            at_least_one: true,
        };
        let mut next = base.saturating_add(1);
        let read = self
            .stream
            .fetch(base.max(start), limit)
            .await
            .map_err(ReadError::Stream)?;
        let batches = read.into_iter().next().unwrap_or_default();
        if let Ok(header) = BatchHeader::read(&batches) {
            next = header.next_offset();
        }
        let held = decoding_bytes(&batches);
        let decoded_bytes_max = decoded_bytes_max(held, self.pool.bytes_max());
        let find = move || find_record(&batches, time, from, decoded_bytes_max);
        let found = match held {
            0 => find(),
            bytes => self.pool.run(bytes, find).await,
        };
        Ok((found?, next))
    }

    fn epoch_of(&self, offset: StreamOffset) -> Option<LeaderEpoch> {
        let mut known = self.leader_epochs.iter().rev();
        known
            .find(|(_, first)| *first <= offset)
            .map(|(epoch, _)| *epoch)
    }

    /// The end of a leader epoch (KAFKA-BEHAVIOUR 22).
    #[must_use]
    pub fn end_offset_for_epoch(&self, asked: LeaderEpoch) -> (Option<LeaderEpoch>, StreamOffset) {
        if asked == self.leader_epoch {
            return (Some(asked), self.stream.bounds().confirmed);
        }
        let above = self.leader_epochs.iter().find(|(epoch, _)| *epoch > asked);
        let below = self
            .leader_epochs
            .iter()
            .rev()
            .find(|(epoch, _)| *epoch <= asked);
        match (below, above) {
            (_, None) => (None, -1),
            (None, Some((_, first))) => (Some(asked), *first),
            (Some((epoch, _)), Some((_, first))) => (Some(*epoch), *first),
        }
    }

    /// Removes records below an offset, durably (KAFKA-BEHAVIOUR 9); -1 for all that are durable. Answers the new start.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn delete_records(&self, before: StreamOffset) -> Result<StreamOffset, ReadError> {
        if !self.config().delete {
            return Err(ReadError::NotDeletable);
        }
        let bounds = self.stream.bounds();
        let before = if before == -1 {
            bounds.confirmed
        } else {
            before
        };
        if before < 0 || before > bounds.confirmed {
            return Err(ReadError::OutOfRange { offset: before });
        }
        if before > bounds.start {
            self.stream.trim(before).await.map_err(ReadError::Stream)?;
        }
        Ok(self.stream.bounds().start)
    }

    /// Forgets producers that are idle for `producer.id.expiration.ms`, here and in the next checkpoint (F5).
    fn expire_producers(&self) {
        let idle_ms = self.config().producer_expiration_ms;
        let before = self.clock.now_ms().saturating_sub(idle_ms);
        // as Kafka, that long is too long
        let before = before.saturating_add(1);
        let Forgotten { before, left_bytes } = self.lock().producers.forget(before);
        self.stream.forget_state(before, left_bytes);
    }

    /// Removes whole rolls that retention gives up, oldest first (F6), and forgets idle producers.
    ///
    /// # Errors
    /// What the trim answers.
    pub async fn clean(&self) -> Result<(), StreamError> {
        let config = self.config();
        let now = self.clock.now_ms();
        self.expire_producers();
        if !config.delete {
            return Ok(());
        }
        let (start, to) = {
            let mut state = self.lock();
            let (rolls, bounds) = (self.stream.rolls(), self.stream.bounds());
            (
                bounds.start,
                state.active.retain(rolls, bounds, &config, now),
            )
        };
        if let Some(to) = to.filter(|to| *to > start) {
            self.stream.trim(to).await?;
        }
        Ok(())
    }
}

fn outcome(bounds: StreamBounds, batches: Vec<Bytes>, isolation: Isolation) -> ReadOutcome {
    ReadOutcome {
        batches,
        high_watermark: bounds.confirmed,
        last_stable_offset: bounds.confirmed,
        log_start_offset: bounds.start,
        aborted: (isolation == Isolation::ReadCommitted).then(Vec::new),
        is_cut: false,
    }
}
