//! One partition of `__consumer_offsets` and the task that owns its groups.
//!
//! Jobs run one after the other; the records of all that were waiting go into one batch. A write is applied when it is
//! appended; a job is answered, with the receipt of the last batch, when whoever asked has seen that durable. When the
//! log ends, the state is dropped and everybody waiting is answered `NOT_COORDINATOR`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_coordinator::{
    Effects, GroupConfig, GroupRecord, GroupShard, JoinReply, Now, SyncReply, Ticket,
};
use highwater_kraft_meta::MetadataStore;
use highwater_partition_log::{Isolation, Origin, PartitionLog};
use highwater_protocol::records::{BatchBuilder, split_batches};
use highwater_runtime::WallClock;
use highwater_s3stream::{AppendReceipt, ObjectStreamStore, StreamStore};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::metrics::REBALANCES;

/// An answer, with what must be durable before it is given.
pub(super) type Answered<T> = (T, Option<AppendReceipt>);
type Completion = Box<dyn FnOnce(Option<AppendReceipt>) + Send>;

/// Something to be done with the groups of a shard.
pub(super) type Job = Box<dyn FnOnce(&mut Work) + Send>;

/// What a job works on.
pub(super) struct Work {
    pub(super) shard: GroupShard,
    pub(super) effects: Effects,
    pub(super) now: Now,
    completions: Vec<Completion>,
    joins: BTreeMap<Ticket, oneshot::Sender<Answered<JoinReply>>>,
    syncs: BTreeMap<Ticket, oneshot::Sender<Answered<SyncReply>>>,
    tickets: u64,
}

impl Work {
    /// Answers when the records of this round are appended.
    pub(super) fn complete<T: Send + 'static>(
        &mut self,
        answer: T,
        to: oneshot::Sender<Answered<T>>,
    ) {
        self.completions
            .push(Box::new(move |receipt| tell(to, (answer, receipt))));
    }

    /// A ticket for a join, answered through the effects.
    pub(super) fn join_ticket(&mut self, to: oneshot::Sender<Answered<JoinReply>>) -> Ticket {
        self.tickets += 1;
        self.joins.insert(Ticket(self.tickets), to);
        Ticket(self.tickets)
    }

    /// A ticket for a sync, answered through the effects.
    pub(super) fn sync_ticket(&mut self, to: oneshot::Sender<Answered<SyncReply>>) -> Ticket {
        self.tickets += 1;
        self.syncs.insert(Ticket(self.tickets), to);
        Ticket(self.tickets)
    }

    fn answer(&mut self, receipt: Option<&AppendReceipt>) {
        for completion in self.completions.drain(..) {
            completion(receipt.cloned());
        }
        for (ticket, reply) in self.effects.joins.drain(..) {
            if let Some(to) = self.joins.remove(&ticket) {
                tell(to, (reply, receipt.cloned()));
            }
        }
        for (ticket, reply) in self.effects.syncs.drain(..) {
            if let Some(to) = self.syncs.remove(&ticket) {
                tell(to, (reply, receipt.cloned()));
            }
        }
    }
}

fn tell<T>(to: oneshot::Sender<T>, answer: T) {
    if to.send(answer).is_err() {
        tracing::trace!("a client did not wait for its group's answer");
    }
}

/// What a shard's task needs.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) index: i32,
    pub(super) log: Arc<PartitionLog>,
    pub(super) streams: ObjectStreamStore,
    pub(super) metadata: Arc<dyn MetadataStore>,
    pub(super) config: GroupConfig,
    pub(super) clock: WallClock,
    pub(super) loaded: Arc<AtomicBool>,
}

/// Bytes of a batch of records; a record that is larger has one of its own.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes read at a time while loading.
const LOAD_BYTES: usize = 1 << 20;
/// The most that a batch may be once decompressed.
const RECORDS_BYTES_MAX: usize = 256 << 20;
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// Loads a shard, then runs its jobs until nobody can send any, or the log ends.
pub(super) async fn drive(parts: Parts, mut jobs: mpsc::Receiver<Job>) {
    let since = Instant::now();
    let mut work = Work {
        shard: GroupShard::new(parts.config.clone()),
        effects: Effects::default(),
        now: now(since, &parts.clock),
        completions: Vec::new(),
        joins: BTreeMap::new(),
        syncs: BTreeMap::new(),
        tickets: 0,
    };
    while let Err(error) = load(&parts, &mut work).await {
        tracing::error!(
            partition = parts.index,
            error,
            "groups cannot be loaded, it is tried again"
        );
        tokio::time::sleep(LOAD_RETRY).await;
        work.shard = GroupShard::new(parts.config.clone());
        work.now = now(since, &parts.clock);
    }
    parts.loaded.store(true, Ordering::Release);
    let mut receipt = None;
    loop {
        let wake = work.shard.wake_at();
        let due = since + Duration::from_millis(wake.unwrap_or(0));
        // cancellation safe: a job that is received is run
        tokio::select! {
            biased;
            // first: jobs may come without end
            () = tokio::time::sleep_until(due), if wake.is_some() => {
                work.now = now(since, &parts.clock);
                work.shard.tick(work.now, &mut work.effects);
            }
            job = jobs.recv() => match job {
                Some(job) => {
                    work.now = now(since, &parts.clock);
                    job(&mut work);
                }
                None => return,
            },
        }
        while work.effects.records.len() < 1000
            && let Ok(job) = jobs.try_recv()
        {
            job(&mut work);
        }
        let rebalances = std::mem::take(&mut work.effects.rebalances);
        metrics::counter!(REBALANCES).increment(rebalances);
        let records = std::mem::take(&mut work.effects.records);
        match append(&parts, records, work.now.wall_ms).await {
            Ok(Some(appended)) => receipt = Some(appended),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(partition = parts.index, error, "groups cannot be written");
                return;
            }
        }
        if receipt.as_ref().is_some_and(AppendReceipt::is_durable) {
            receipt = None;
        }
        work.answer(receipt.as_ref());
    }
}

fn now(since: Instant, clock: &WallClock) -> Now {
    Now {
        monotonic_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        wall_ms: clock.now_ms(),
    }
}

/// Replays the partition from its start to its end.
async fn load(parts: &Parts, work: &mut Work) -> Result<(), String> {
    let bounds = parts.log.bounds();
    let mut at = bounds.start;
    while at < bounds.confirmed {
        let read = parts
            .log
            .read_cold(at, LOAD_BYTES, true, Isolation::ReadUncommitted)
            .await
            .map_err(|error| error.to_string())?;
        let mut bytes = BytesMut::new();
        for part in &read.batches {
            bytes.extend_from_slice(part);
        }
        let batches = split_batches(&bytes.freeze()).map_err(|error| error.to_string())?;
        let Some((last, _)) = batches.last() else {
            return Err(format!("nothing is read offset={at}"));
        };
        at = last.next_offset();
        for (header, batch) in batches {
            let records = header
                .records(&batch, RECORDS_BYTES_MAX)
                .map_err(|error| error.to_string())?;
            if header.is_control() {
                continue;
            }
            for record in &records {
                let record = record.map_err(|error| error.to_string())?;
                let record = GroupRecord {
                    key: record.key.unwrap_or_default(),
                    value: record.value,
                };
                let replayed = work.shard.replay(&record, work.now);
                replayed.map_err(|error| error.to_string())?;
            }
        }
    }
    let image = parts.metadata.image();
    work.shard
        .drop_topics(|topic| image.topic(topic).is_some(), &mut work.effects);
    work.shard.loaded();
    Ok(())
}

/// Appends records in batches; answers the receipt of the last.
async fn append(
    parts: &Parts,
    records: Vec<GroupRecord>,
    timestamp: i64,
) -> Result<Option<AppendReceipt>, String> {
    let mut receipt = None;
    let mut batch = BatchBuilder::default();
    let mut bytes = 0;
    for record in records {
        let size = record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
        if !batch.is_empty() && bytes + size > BATCH_BYTES {
            let full = std::mem::take(&mut batch);
            receipt = append_one(parts, full).await?;
            bytes = 0;
        }
        batch.push(timestamp, Some(&record.key), record.value.as_deref());
        bytes += size;
    }
    if batch.is_empty() {
        return Ok(receipt);
    }
    append_one(parts, batch).await
}

async fn append_one(parts: &Parts, batch: BatchBuilder) -> Result<Option<AppendReceipt>, String> {
    let batch = batch.build().map_err(|error| error.to_string())?;
    let batch = parts
        .log
        .validate(&batch, i16::MAX, Origin::Coordinator)
        .await
        .map_err(|error| error.to_string())?;
    let permit = parts
        .streams
        .reserve(PartitionLog::append_bytes(&batch))
        .await
        .map_err(|error| error.to_string())?;
    let appended = parts
        .log
        .append(permit, batch)
        .map_err(|error| error.to_string())?;
    Ok(appended.receipt)
}
