//! One partition of `__consumer_offsets` and the task that owns its groups.
//!
//! What only reads is done at once. What may write waits in line until the log has room for it, out of the coordinators'
//! reserve (M2), and is refused after its deadline: a store that takes nothing stops commits and rebalances, never
//! heartbeats or reads. The records of all that were waiting go into one batch. A write is applied when it is appended;
//! the client is answered when that is durable. Where an append fails after its state has moved, the groups are loaded
//! again; requests that waited are answered `NOT_COORDINATOR`, as they are when the task ends.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use highwater_coordinator::{GroupConfig, GroupRecord, Now};
use highwater_kraft_meta::MetadataStore;
use highwater_partition_log::{Origin, PartitionLog};
use highwater_protocol::ErrorCode;
use highwater_protocol::records::BatchBuilder;
use highwater_runtime::WallClock;
use highwater_s3stream::{
    AppendPermit, AppendReceipt, ObjectStreamStore, Share, StreamError, StreamStore,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::load::load;
use super::work::{Job, Work, Writing};
use crate::metrics::REBALANCES;

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
    /// From when the groups' monotonic time counts.
    pub(super) since: Instant,
}

/// What a round of writes reserves before it begins, and about what it writes at most.
const ROUND_BYTES: u64 = 64 << 10;
/// Records of a round, about.
const ROUND_RECORDS: usize = 1000;
/// Bytes of a batch of records; a record that is larger has one of its own.
const BATCH_BYTES: usize = 256 << 10;
/// Writes that may wait for room.
const LINE_MAX: usize = 1024;
/// Before what failed is tried again.
const REST: Duration = Duration::from_secs(1);

type Reserving<'a> = Pin<Box<dyn Future<Output = Result<AppendPermit, StreamError>> + Send + 'a>>;

/// The time now.
pub(super) fn now(parts: &Parts) -> Now {
    Now {
        monotonic_ms: u64::try_from(parts.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        wall_ms: parts.clock.now_ms(),
    }
}

/// Loads a shard, then runs its jobs until nobody can send any; loads it again where an append failed.
pub(super) async fn drive(parts: Parts, mut jobs: mpsc::Receiver<Job>) {
    while !jobs.is_closed() {
        let mut work = Work::new(parts.config.clone(), now(&parts));
        if let Err(error) = load(&parts, &mut work).await {
            tracing::error!(
                partition = parts.index,
                error,
                "groups cannot be loaded, it is tried again"
            );
            tokio::time::sleep(REST).await;
            continue;
        }
        parts.loaded.store(true, Ordering::Release);
        let mut running = Running {
            parts: &parts,
            work,
            line: VecDeque::new(),
            room: None,
            rests_until: None,
        };
        if let Err(error) = running.run(&mut jobs).await {
            parts.loaded.store(false, Ordering::Release);
            tracing::error!(
                partition = parts.index,
                error,
                "groups cannot be written, they are loaded again"
            );
            drop(running);
            tokio::time::sleep(REST).await;
        }
    }
}

/// A loaded shard at work.
struct Running<'a> {
    parts: &'a Parts,
    work: Work,
    /// Writes that wait for room, with their deadlines, which come in order.
    line: VecDeque<(Instant, Writing)>,
    room: Option<Reserving<'a>>,
    /// Since room was refused: it is not asked for before.
    rests_until: Option<Instant>,
}

impl Running<'_> {
    /// Runs jobs; ends when nobody can send any, or with the reason why the state is of no use any more.
    async fn run(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Result<(), String> {
        loop {
            self.refuse_late();
            let wake = self.ask_for_room();
            // cancellation safe: room is asked for until it is there, a job that is received is run
            tokio::select! {
                biased;
                reserved = reserved(&mut self.room), if self.room.is_some() => {
                    self.room = None;
                    match reserved {
                        Ok(permit) => self.round(permit, jobs).await?,
                        Err(error) => self.refused(&error),
                    }
                }
                job = jobs.recv() => match job {
                    Some(job) => self.take(job),
                    None => return Ok(()),
                },
                () = at(wake) => {}
            }
        }
    }

    /// Sees to it that room is asked for when there is something to write; answers when to look again.
    fn ask_for_room(&mut self) -> Option<Instant> {
        let time = Instant::now();
        self.rests_until.take_if(|until| *until <= time);
        let due = self.work.shard.wake_at();
        let due = due.map(|at| self.parts.since + Duration::from_millis(at));
        let writes = !self.line.is_empty()
            || !self.work.effects.records.is_empty()
            || due.is_some_and(|due| due <= time);
        let late = self.line.front().map(|(deadline, _)| *deadline);
        if !writes {
            self.room = None;
            return due;
        }
        if let Some(until) = self.rests_until {
            return late.map(|late| late.min(until)).or(Some(until));
        }
        if self.room.is_none() {
            let streams = &self.parts.streams;
            self.room = Some(Box::pin(streams.reserve(ROUND_BYTES, Share::Reserve)));
        }
        late
    }

    fn refuse_late(&mut self) {
        let time = Instant::now();
        while let Some((_, job)) = self.line.pop_front_if(|(deadline, _)| *deadline <= time) {
            job(Err(ErrorCode::CoordinatorNotAvailable));
        }
    }

    /// The store or the disk is full: writes that wait are refused, and room is asked for again later.
    fn refused(&mut self, error: &StreamError) {
        tracing::warn!(partition = self.parts.index, %error, "groups cannot be written for now");
        self.rests_until = Some(Instant::now() + REST);
        for (_, job) in self.line.drain(..) {
            job(Err(ErrorCode::CoordinatorNotAvailable));
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Read(job) => {
                self.work.now = now(self.parts);
                job(&mut self.work);
            }
            Job::Write(_, job) if self.line.len() >= LINE_MAX || self.rests_until.is_some() => {
                job(Err(ErrorCode::CoordinatorNotAvailable));
            }
            Job::Write(deadline, job) => self.line.push_back((deadline, job)),
        }
    }

    /// Does what waits and what is due, and appends what came of it.
    async fn round(
        &mut self,
        permit: AppendPermit,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<(), String> {
        while let Ok(job) = jobs.try_recv() {
            self.take(job);
        }
        let work = &mut self.work;
        work.now = now(self.parts);
        work.shard.tick(work.now, &mut work.effects);
        let (mut seen, mut bytes) = (0, 0);
        while seen < ROUND_RECORDS
            && bytes < ROUND_BYTES
            && let Some((_, job)) = self.line.pop_front()
        {
            job(Ok(work));
            let fresh = work.effects.records[seen..].iter();
            bytes += fresh.map(|record| size(record) as u64).sum::<u64>();
            seen = work.effects.records.len();
        }
        let rebalances = std::mem::take(&mut work.effects.rebalances);
        metrics::counter!(REBALANCES).increment(rebalances);
        let records = std::mem::take(&mut work.effects.records);
        let appended = append(self.parts, records, work.now.wall_ms, permit).await?;
        self.work.appended(appended);
        Ok(())
    }
}

async fn reserved(room: &mut Option<Reserving<'_>>) -> Result<AppendPermit, StreamError> {
    match room {
        Some(room) => room.await,
        None => std::future::pending().await,
    }
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

fn size(record: &GroupRecord) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len)
}

/// Appends records in batches; answers the receipt of the last.
async fn append(
    parts: &Parts,
    records: Vec<GroupRecord>,
    timestamp: i64,
    mut permit: AppendPermit,
) -> Result<Option<AppendReceipt>, String> {
    let mut receipt = None;
    let mut batch = BatchBuilder::default();
    let mut bytes = 0;
    for record in records {
        let size = size(&record);
        if !batch.is_empty() && bytes + size > BATCH_BYTES {
            let full = std::mem::take(&mut batch);
            receipt = append_one(parts, full, &mut permit).await?;
            bytes = 0;
        }
        batch.push(timestamp, Some(&record.key), record.value.as_deref());
        bytes += size;
    }
    if batch.is_empty() {
        return Ok(receipt);
    }
    append_one(parts, batch, &mut permit).await
}

async fn append_one(
    parts: &Parts,
    batch: BatchBuilder,
    permit: &mut AppendPermit,
) -> Result<Option<AppendReceipt>, String> {
    let batch = batch.build().map_err(|error| error.to_string())?;
    let batch = parts
        .log
        .validate(&batch, i16::MAX, Origin::Coordinator)
        .await
        .map_err(|error| error.to_string())?;
    let bytes = PartitionLog::append_bytes(&batch);
    let own = if permit.bytes() >= bytes {
        permit.split(bytes)
    } else {
        // its state has moved: it is appended whatever it takes
        let reserved = parts.streams.reserve(bytes, Share::Unbounded).await;
        reserved.map_err(|error| error.to_string())?
    };
    let appended = parts
        .log
        .append(own, batch)
        .map_err(|error| error.to_string())?;
    Ok(appended.receipt)
}
