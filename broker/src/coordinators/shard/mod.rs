//! A coordinator: the task that owns the state machine of one partition of an internal topic.
//!
//! A job that only reads runs at once. A job that may write waits in line until the log has room for it, from the
//! coordinators' reserve (M2), and is refused after its deadline. So a store that takes nothing stops commits and
//! rebalances, but never heartbeats or reads. The records of all waiting jobs go into as few batches as possible, and
//! those of one request into one batch. A write changes the state when it is appended, and is answered when it is
//! durable.
//!
//! If an append fails or a call panics, the state is loaded again from the log. Jobs whose records were not appended by
//! then are answered `NOT_COORDINATOR`, and jobs that come in the meantime `COORDINATOR_LOAD_IN_PROGRESS`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use highwater_coordinator::{Coordinator, CoordinatorRecord, Now};
use highwater_partition_log::{AppendError, Origin, PartitionLog};
use highwater_protocol::ErrorCode;
use highwater_protocol::records::BatchBuilder;
use highwater_runtime::{SeededRng, WallClock, catch_panic, until};
use highwater_s3stream::{
    AppendPermit, AppendReceipt, ObjectStreamStore, Share, StreamError, StreamStore,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::Host;
use super::load::load;
use super::packing::Packing;
use super::rests::Rests;
use super::work::{Act, Job, Work};
use crate::metrics;

/// The driver of a partition's state machine.
#[derive(Debug)]
pub(super) struct Driver<H: Host> {
    pub(super) host: Arc<H>,
    pub(super) index: i32,
    pub(super) log: Arc<PartitionLog>,
    pub(super) streams: ObjectStreamStore,
    pub(super) clock: WallClock,
    pub(super) rng: SeededRng,
    /// A lock that the partition's driver holds while it runs: the next driver loads only when nothing of the previous
    /// one is under way.
    pub(super) turn: Arc<Mutex<()>>,
    /// The start of the state machine's monotonic time.
    pub(super) since: Instant,
}

/// The bytes that a round of writes reserves before it begins; it writes about as much at most.
const ROUND_BYTES: u64 = 64 << 10;
/// The most jobs of a round.
const ROUND_JOBS: usize = 1000;
/// The most writes that wait for room.
const LINE_MAX: usize = 1024;
/// The wait before room is requested again after a refusal.
const ROOM_REST: Duration = Duration::from_secs(1);

type Reserving<'a> = Pin<Box<dyn Future<Output = Result<AppendPermit, StreamError>> + Send + 'a>>;

/// The current time.
pub(super) fn now<H: Host>(driver: &Driver<H>) -> Now {
    Now {
        monotonic_ms: u64::try_from(driver.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        wall_ms: driver.clock.now_ms(),
    }
}

/// Loads a shard and runs its jobs until it is retired. Loads it again whenever its state can't be trusted any more.
pub(super) async fn drive<H: Host>(
    driver: Driver<H>,
    mut jobs: mpsc::Receiver<Job<H::Machine>>,
    retired: oneshot::Receiver<Infallible>,
) {
    // This future may be dropped at any wait: the records that it appended are in the log, and no others follow.
    tokio::select! {
        biased;
        _retired = retired => {}
        never = keep_running(&driver, &mut jobs) => match never {},
    }
}

async fn keep_running<H: Host>(
    driver: &Driver<H>,
    jobs: &mut mpsc::Receiver<Job<H::Machine>>,
) -> Infallible {
    let _turn = refusing(jobs, driver.turn.lock()).await;
    let mut rests = Rests::new(driver.rng.clone());
    loop {
        let begun = Instant::now();
        let ended = catch_panic(live(driver, jobs)).await;
        let error = ended.map_or_else(
            |panic| {
                metrics::count_panic("none");
                format!("panicked: {panic}")
            },
            |Err(error)| error,
        );
        tracing::error!(
            topic = H::TOPIC,
            partition = driver.index,
            error,
            "coordinator failed and is loaded again"
        );
        let rest = tokio::time::sleep(rests.after(begun.elapsed()));
        refusing(jobs, rest).await;
    }
}

/// Runs a future, and refuses all jobs meanwhile.
async fn refusing<M: Coordinator, T>(
    jobs: &mut mpsc::Receiver<Job<M>>,
    doing: impl Future<Output = T>,
) -> T {
    let mut doing = pin!(doing);
    loop {
        // Cancellation safe: the future lives outside, and a received job is answered.
        tokio::select! {
            biased;
            done = &mut doing => return done,
            Some(job) = jobs.recv() => job.refuse(ErrorCode::CoordinatorLoadInProgress),
        }
    }
}

/// Loads the state machine and runs jobs on it; returns the reason why it can't be used any more.
async fn live<H: Host>(
    driver: &Driver<H>,
    jobs: &mut mpsc::Receiver<Job<H::Machine>>,
) -> Result<Infallible, String> {
    let mut work = Work::new(driver.host.empty(), now(driver));
    let loaded = refusing(jobs, load(driver, &mut work)).await;
    loaded.map_err(|error| format!("it cannot be loaded: {error}"))?;
    let mut running = Running {
        driver,
        work,
        line: VecDeque::new(),
        room: None,
        rests_until: None,
    };
    running.run(jobs).await
}

/// A loaded shard that runs jobs.
struct Running<'a, H: Host> {
    driver: &'a Driver<H>,
    work: Work<H::Machine>,
    /// Writes that wait for room, with their deadlines in ascending order.
    line: VecDeque<(Instant, Act<H::Machine>)>,
    room: Option<Reserving<'a>>,
    /// Set after room was refused: room is not requested before this time.
    rests_until: Option<Instant>,
}

impl<H: Host> Running<'_, H> {
    /// Runs jobs; returns the reason why the state machine can't be used any more.
    async fn run(
        &mut self,
        jobs: &mut mpsc::Receiver<Job<H::Machine>>,
    ) -> Result<Infallible, String> {
        loop {
            self.refuse_late();
            let wake = self.ask_for_room();
            // Cancellation safe: room is requested until it is there, and a received job is run.
            tokio::select! {
                biased;
                reserved = reserved(&mut self.room), if self.room.is_some() => {
                    self.room = None;
                    match reserved {
                        Ok(permit) => self.round(permit, jobs).await?,
                        Err(error) => self.refused(&error),
                    }
                }
                Some(job) = jobs.recv() => self.take(job)?,
                () = until(wake) => {}
            }
        }
    }

    /// Requests room if there is something to write; returns the time of the next check.
    fn ask_for_room(&mut self) -> Option<Instant> {
        let time = Instant::now();
        self.rests_until.take_if(|until| *until <= time);
        let due = self.work.machine.wake_at();
        let due = due.map(|at| self.driver.since + Duration::from_millis(at));
        let writes = !self.line.is_empty()
            || !self.work.effects.is_empty()
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
            let streams = &self.driver.streams;
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

    /// The store or the disk is full: refuses the writes that wait, and requests room again later.
    fn refused(&mut self, error: &StreamError) {
        tracing::warn!(
            topic = H::TOPIC,
            partition = self.driver.index,
            %error,
            "coordinator cannot write its records"
        );
        self.rests_until = Some(Instant::now() + ROOM_REST);
        for (_, job) in self.line.drain(..) {
            job(Err(ErrorCode::CoordinatorNotAvailable));
        }
    }

    fn take(&mut self, job: Job<H::Machine>) -> Result<(), String> {
        match job {
            Job::Read(act) => {
                self.work.now = now(self.driver);
                act(Ok(&mut self.work));
                return self.work.check();
            }
            Job::Write(_, act) if self.line.len() >= LINE_MAX || self.rests_until.is_some() => {
                act(Err(ErrorCode::CoordinatorNotAvailable));
            }
            Job::Write(deadline, act) => self.line.push_back((deadline, act)),
        }
        Ok(())
    }

    /// Runs the jobs that wait and the timers that are due, and appends their records.
    async fn round(
        &mut self,
        permit: AppendPermit,
        jobs: &mut mpsc::Receiver<Job<H::Machine>>,
    ) -> Result<(), String> {
        for _ in 0..jobs.len() {
            if let Ok(job) = jobs.try_recv() {
                self.take(job)?;
            }
        }
        let batch_bytes_max = self.driver.log.config().max_message_bytes;
        let batch_bytes_max = usize::try_from(batch_bytes_max).unwrap_or(0);
        let mut packing = Packing::new(batch_bytes_max);
        let work = &mut self.work;
        work.effects.batch_bytes_max = batch_bytes_max;
        work.now = now(self.driver);
        work.machine.tick(work.now, &mut work.effects);
        packing.add(std::mem::take(&mut work.effects.records));
        for _ in 0..ROUND_JOBS {
            if packing.bytes() as u64 >= ROUND_BYTES {
                break;
            }
            let Some((_, act)) = self.line.pop_front() else {
                break;
            };
            act(Ok(work));
            work.check()?;
            packing.add(std::mem::take(&mut work.effects.records));
        }
        let timestamp = work.now.wall_ms;
        let appended = append(self.driver, packing.batches(), timestamp, permit).await?;
        self.work.appended(appended, &*self.driver.host);
        Ok(())
    }
}

async fn reserved(room: &mut Option<Reserving<'_>>) -> Result<AppendPermit, StreamError> {
    match room {
        Some(room) => room.await,
        None => std::future::pending().await,
    }
}

/// Appends batches; returns the receipt of the last one.
async fn append<H: Host>(
    driver: &Driver<H>,
    batches: Vec<Vec<CoordinatorRecord>>,
    timestamp: i64,
    mut permit: AppendPermit,
) -> Result<Option<AppendReceipt>, String> {
    let mut receipt = None;
    for records in batches {
        let mut batch = BatchBuilder::default();
        for record in records {
            batch.push(timestamp, Some(&record.key), record.value.as_deref());
        }
        let appended = append_one(driver, batch, &mut permit).await;
        receipt = appended.map_err(|error| format!("it cannot be written: {error}"))?;
    }
    Ok(receipt)
}

async fn append_one<H: Host>(
    driver: &Driver<H>,
    batch: BatchBuilder,
    permit: &mut AppendPermit,
) -> Result<Option<AppendReceipt>, String> {
    let batch = batch.build().map_err(|error| error.to_string())?;
    let batch = driver
        .log
        .validate(&batch, i16::MAX, Origin::Coordinator)
        .await
        .map_err(|error| error.to_string())?;
    let bytes = PartitionLog::append_bytes(&batch);
    let mut beyond;
    let permit = if permit.bytes() >= bytes {
        permit
    } else {
        // The decision is made, so it is appended without regard to bounds (M2).
        let reserved = driver.streams.reserve(bytes, Share::Unbounded).await;
        beyond = reserved.map_err(|error| error.to_string())?;
        &mut beyond
    };
    loop {
        match driver.log.append(permit, batch.clone()) {
            // this waits, and ends with the driver when another broker has the partition (C1)
            Err(AppendError::HandingOver) => driver.log.until_kept().await,
            appended => {
                return appended
                    .map(|appended| appended.receipt)
                    .map_err(|error| error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests;
