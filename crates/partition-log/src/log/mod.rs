//! One partition's log. This file opens it, keeps its settings, validates and appends batches; `read.rs` reads
//! batches, `lookup.rs` finds offsets, `retention.rs` removes records. Decisions that need no I/O are in the pure
//! modules of this crate.

mod lookup;
mod read;
mod retention;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use highwater_protocol::records::{BatchHeader, head};
use highwater_runtime::{WallClock, WorkPool};
use highwater_s3stream::{
    AppendPermit, AppendReceipt, HEAD_BYTES, OpenedStream, Roll, Stream, StreamBatch, StreamBounds,
    StreamError, record_bytes,
};
use highwater_types::{LeaderEpoch, StreamOffset, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::active::Active;
use crate::epochs::LeaderEpochs;
use crate::find::FoundOffset;
use crate::lost::Lost;
use crate::producer_state::{ProducerBatch, ProducerState};
use crate::producers::{Forgotten, Producers};
use crate::validate::{Check, Origin, ValidatedBatch};
use crate::{AppendError, LogConfig, LogContext};

pub use lookup::OffsetQuery;

/// The result of an append.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The batch's first offset.
    pub base_offset: StreamOffset,
    /// The broker's time if the topic has LogAppendTime, else -1.
    pub log_append_time_ms: Timestamp,
    /// The log start offset.
    pub log_start_offset: StreamOffset,
    /// Resolves when the batch is durable. A repeated batch has none if its original is durable already.
    pub receipt: Option<AppendReceipt>,
}

/// What producer state has to know of a batch; `None` for one without a producer id.
fn producer_batch(header: &BatchHeader, now: Timestamp) -> Option<ProducerBatch> {
    (header.producer_id >= 0).then(|| ProducerBatch {
        producer: header.producer_id,
        epoch: header.producer_epoch,
        first_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        append_time: now,
    })
}

/// One open partition log.
#[derive(Debug)]
pub struct PartitionLog {
    stream: Arc<dyn Stream>,
    epochs: LeaderEpochs,
    config: RwLock<Arc<LogConfig>>,
    clock: WallClock,
    pool: WorkPool,
    seed: u64,
    lost: Lost,
    state: Mutex<State>,
    /// Since when appends are stopped, if they are. It changes under the lock of the state.
    handing_over: watch::Sender<Option<Instant>>,
    work: AtomicU64,
}

/// The work of a batch that is appended, or of a read that finds records, apart from its bytes. A request costs about as
/// much processor time as so many bytes.
const OPERATION_BYTES: u64 = 16 << 10;

#[derive(Debug)]
struct State {
    producers: Producers,
    /// Receipts of batches that may not be durable yet, by base offset: a repeated batch waits for its original.
    pending: BTreeMap<StreamOffset, AppendReceipt>,
    active: Active,
}

impl PartitionLog {
    /// Opens the log, rebuilding its state from its stream's checkpoint and deltas (F4).
    ///
    /// # Errors
    /// When a checkpoint or a delta has an unknown version.
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
            reason: "the producer state has an unknown version".to_owned(),
        };
        let known = ProducerState::rebuild(checkpoint, &opened.deltas).ok_or_else(unreadable)?;
        let state = State {
            producers: Producers::new(known, context.producers),
            pending: BTreeMap::new(),
            active: Active::opened(&opened.rolls),
        };
        let log = Self {
            stream: opened.stream,
            epochs: LeaderEpochs::new(leader_epoch, leader_epochs),
            config: RwLock::new(Arc::new(config)),
            clock: context.clock,
            pool: context.pool,
            seed: context.seed,
            lost: Lost::new(opened.lost),
            state: Mutex::new(state),
            handing_over: watch::Sender::new(None),
            work: AtomicU64::new(0),
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

    /// The size of the log's batches in bytes. Deleted batches count while their roll isn't wholly deleted or is the
    /// active one.
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

    /// Checks a batch, without any lock. A batch that must be decompressed is checked on the pool's threads and
    /// within its memory (I11).
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

    /// The bytes that must be reserved to append a batch.
    #[must_use]
    pub fn append_bytes(batch: &ValidatedBatch) -> u64 {
        record_bytes(batch.bytes.len())
    }

    /// Appends a batch, or recognises that it repeats a known one. Never waits. A batch that is appended takes its
    /// [`Self::append_bytes`] out of the permit; one that is refused, or a repeat, changes nothing (A1), the permit
    /// included.
    ///
    /// # Errors
    /// [`AppendError`].
    ///
    /// # Panics
    /// When the permit has less than that.
    pub fn append(
        &self,
        permit: &mut AppendPermit,
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
        let producer = producer_batch(&header, now);
        let mut state = self.lock();
        if self.is_handing_over() {
            return Err(AppendError::HandingOver);
        }
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
            && let Some(base) = state.producers.check(producer, &self.lost)?
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
        let largest = self.found(base.saturating_add(max_timestamp_at.into()), max_timestamp);
        let stored = StreamBatch {
            count,
            max_timestamp,
            head: head(base, bytes.len(), self.epochs.current().0),
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
        let own = permit.split(record_bytes(bytes.len()));
        let receipt = self.stream.append(own, base, &stored);
        self.count(next.bytes);
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

    /// Counts a read that found records and was answered.
    pub fn count_read(&self, bytes: usize) {
        self.count(bytes as u64);
    }

    fn count(&self, bytes: u64) {
        let work = bytes.saturating_add(OPERATION_BYTES);
        self.work.fetch_add(work, Ordering::Relaxed);
    }

    /// The work since the log was opened: bytes of batches, appended and read, and 16 KiB more for each append and each
    /// read. Only grows.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work.load(Ordering::Relaxed)
    }

    /// Refuses every append from now on with [`AppendError::HandingOver`], because the stream is to be closed (C1).
    pub fn stop_appends(&self) {
        let _state = self.lock();
        self.handing_over.send_replace(Some(Instant::now()));
    }

    /// Takes appends again: the partition stays here, and its stream was not closed.
    pub fn go_on(&self) {
        let _state = self.lock();
        self.handing_over.send_replace(None);
    }

    /// Whether appends are refused because the partition is being handed over, or was.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.handing_over_since().is_some()
    }

    /// Since when that is so.
    #[must_use]
    pub fn handing_over_since(&self) -> Option<Instant> {
        *self.handing_over.borrow()
    }

    /// Waits while the partition is being handed over, for ever if it is not taken back. Cancellation safe.
    pub async fn until_kept(&self) {
        let mut watched = self.handing_over.subscribe();
        // the sender lives as long as the log
        drop(watched.wait_for(Option::is_none).await);
    }

    /// A record that this leader appends.
    fn found(&self, offset: StreamOffset, timestamp: Timestamp) -> FoundOffset {
        FoundOffset {
            offset,
            timestamp,
            leader_epoch: Some(self.epochs.current()),
        }
    }

    /// The current bounds.
    #[must_use]
    pub fn bounds(&self) -> StreamBounds {
        self.stream.bounds()
    }

    /// A watch of the bounds: it changes with the high watermark and the log start.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<StreamBounds> {
        self.stream.watch_bounds()
    }

    /// The largest known leader epoch up to the requested one, and the offset where it ended (KAFKA-BEHAVIOUR 22).
    #[must_use]
    pub fn end_offset_for_epoch(&self, asked: LeaderEpoch) -> (Option<LeaderEpoch>, StreamOffset) {
        let high_watermark = self.stream.bounds().confirmed;
        self.epochs.end_offset(asked, high_watermark)
    }
}
