//! The wait of a fetch, and the changes that end it, in virtual time and over streams that a test writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_kraft_meta::TopicImage;
use highwater_partition_log::fixture::TestStream;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::FetchRequest;
use highwater_runtime::ByteBudget;
use highwater_types::{LeaderEpoch, LogIndex, Timestamp, TopicId};
use tokio::time::Instant;

use super::memory::Reading;
use super::outcome::Outcome;
use super::request::{Limits, Target};
use super::tail::Look;
use super::wait::{COLD_GRACE, Found, Verdict, decide};
use crate::api::error::Refusal;
use crate::config::MemoryPlan;
use crate::memory::{FrameMemory, GIVES_WAY_AFTER, RequestBudgets};
use crate::net::ConnectionInfo;
use crate::partitions::{Partition, PartitionRequest};

const BATCH_BYTES: usize = TestStream::BATCH_BYTES;
const T0: Timestamp = 1_790_000_000_000;
const PARTITION_BYTES_MAX: i32 = 1000;
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A stream of one batch, which is in the log cache.
fn hot() -> Arc<TestStream> {
    Arc::new(TestStream::new(&[T0]))
}

/// A stream without batches.
fn empty() -> Arc<TestStream> {
    Arc::new(TestStream::new(&[]))
}

/// A stream of one batch, which only objects have.
fn cold(read_time: Duration) -> Arc<TestStream> {
    Arc::new(TestStream::new(&[T0]).cold(read_time))
}

fn partition(stream: &Arc<TestStream>) -> Arc<Partition> {
    let topic = TopicImage {
        id: TopicId::ZERO,
        name: Arc::from("t"),
        internal: false,
        configs: Default::default(),
        configs_at: LogIndex(0),
        partitions: Vec::new(),
    };
    let epoch = LeaderEpoch(0);
    Arc::new(Partition::new(Arc::new(topic), 0, epoch, stream.open()))
}

/// A fetch from offset 0 of some streams, with the resources of its node and its connection.
struct Fetching {
    targets: Vec<Target>,
    limits: Limits,
    connection: ConnectionInfo,
    budgets: RequestBudgets,
    frame: FrameMemory,
    frames: ByteBudget,
    waiting_bytes: u64,
}

impl Fetching {
    fn new(streams: &[&Arc<TestStream>], min_bytes: usize) -> Self {
        let target = |stream: &&Arc<TestStream>| Target {
            wanted: PartitionRequest {
                offset: 0,
                current_leader_epoch: -1,
                max_bytes: PARTITION_BYTES_MAX,
            },
            partition: Ok(partition(stream)),
            opening: None,
            followed: None,
            nearer: None,
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(MAX_WAIT.as_millis()).expect("is short"),
            min_bytes: i32::try_from(min_bytes).expect("is small"),
            max_bytes: i32::MAX,
            ..Default::default()
        };
        let peer = ([127, 0, 0, 1], 1).into();
        let frames = ByteBudget::new(1000);
        Self {
            targets: streams.iter().map(target).collect(),
            limits: Limits::new(&request, i32::MAX),
            connection: ConnectionInfo::new(peer, Arc::from("PLAINTEXT")),
            budgets: RequestBudgets::new(&MemoryPlan::new(64 << 20)),
            frame: FrameMemory::new(frames.force(BATCH_BYTES as u64)),
            frames,
            waiting_bytes: 2 << 10,
        }
    }

    /// Reads, and returns the time that this took.
    async fn read(&self) -> (Found, Duration) {
        let since = Instant::now();
        let reading = Reading {
            targets: self.targets.clone(),
            limits: &self.limits,
            connection: &self.connection,
            budgets: &self.budgets,
            frame: &self.frame,
            waiting_bytes: self.waiting_bytes,
            wait: None,
        };
        let found = reading.read().await;
        (found, since.elapsed())
    }

    /// Reads while a future runs at a certain time.
    async fn read_while(&self, at: Duration, done: impl FnOnce()) -> (Found, Duration) {
        let done = async {
            tokio::time::sleep(at).await;
            done();
        };
        tokio::join!(self.read(), done).0
    }
}

/// The number of batches that were read of each partition.
fn batches(found: &Found) -> Vec<usize> {
    let of = |outcome: &Outcome| match outcome {
        Outcome::Read(read) => read.batches.len(),
        Outcome::Cold | Outcome::Elsewhere(..) | Outcome::Failed(_) => panic!("{outcome:?}"),
    };
    found.results.iter().map(of).collect()
}

// KAFKA-BEHAVIOUR 18
#[tokio::test(start_paused = true)]
async fn one_decision_says_what_is_enough() {
    let limits = |min_bytes| Limits {
        min_bytes,
        ..Fetching::new(&[], 0).limits
    };
    let look = |available, any_told, any_cold| Look {
        results: vec![Outcome::Cold],
        available,
        any_told,
        any_cold,
        bytes: 0,
    };
    use Verdict::{AwaitChange, AwaitCold, Enough};
    for (min_bytes, look, in_time, late) in [
        (10, look(10, false, false), Enough, Enough),
        (10, look(9, false, false), AwaitChange, Enough),
        (1, look(0, false, false), AwaitChange, Enough),
        (0, look(0, false, false), Enough, Enough),
        (10, look(0, true, false), Enough, Enough),
        (10, look(0, true, true), Enough, Enough),
        (10, look(10, false, true), Enough, Enough),
        // There are cold batches, and they can still make it enough.
        (10, look(9, false, true), AwaitCold, AwaitCold),
        (0, look(0, false, true), AwaitCold, AwaitCold),
        (10, Look::default(), Enough, Enough),
    ] {
        let limits = limits(min_bytes);
        let verdicts = [true, false].map(|may| decide(&look, &limits, may));
        assert_eq!(verdicts, [in_time, late], "{min_bytes} {look:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_answered_at_once_with_its_memory() {
    let stream = hot();
    let fetching = Fetching::new(&[&stream], 1);
    let (found, took) = fetching.read().await;
    assert_eq!((batches(&found), took), (vec![1], Duration::ZERO));
    assert_eq!(found.permit.bytes(), BATCH_BYTES as u64);
    assert_eq!((found.waited, found.rest), (Duration::ZERO, None));
    assert!(fetching.frames.used() > 0, "it did not wait");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_its_bytes_over_all_partitions_without_its_frame() {
    let streams = [hot(), empty()];
    let fetching = Fetching::new(&[&streams[0], &streams[1]], 3 * BATCH_BYTES);
    let one = Duration::from_secs(1);
    let both = async {
        tokio::time::sleep(one).await;
        assert_eq!(fetching.frames.used(), 0, "a wait holds no frame");
        streams[1].produce(T0);
        tokio::time::sleep(one).await;
        streams[0].produce(T0);
    };
    let ((found, took), ()) = tokio::join!(fetching.read(), both);
    assert_eq!((batches(&found), took), (vec![2, 1], 2 * one));
    assert_eq!(found.waited, took);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_finds_too_little_is_answered_with_it_at_max_wait() {
    let streams = [hot(), empty()];
    let fetching = Fetching::new(&[&streams[0], &streams[1]], 1 << 20);
    let (found, took) = fetching.read().await;
    assert_eq!((batches(&found), took), (vec![1, 0], MAX_WAIT));
    assert_eq!((found.waited, found.rest), (MAX_WAIT, None));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_stops_waiting_when_its_client_ends() {
    let stream = empty();
    let fetching = Fetching::new(&[&stream], 1);
    let at = Duration::from_secs(3);
    let ends = || fetching.connection.set_ended();
    let (found, took) = fetching.read_while(at, ends).await;
    assert_eq!((batches(&found), took), (vec![0], at));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_refused_ends_the_wait_for_the_others() {
    let stream = empty();
    let mut fetching = Fetching::new(&[&stream, &stream], 1);
    fetching.targets[1].partition = Err(Refusal::from(ErrorCode::NotLeaderOrFollower));
    let (found, took) = fetching.read().await;
    assert_eq!(took, Duration::ZERO);
    assert!(matches!(&found.results[0], Outcome::Read(read) if read.batches.is_empty()));
    assert!(matches!(&found.results[1], Outcome::Failed(_)));
}

// DESIGN 5.5
#[tokio::test(start_paused = true)]
async fn a_cold_read_is_waited_for_until_its_grace_is_over() {
    let late = MAX_WAIT + COLD_GRACE;
    let just_before = late - Duration::from_millis(1);
    let just_after = late + Duration::from_millis(1);
    for (cold_for, read, after) in [(just_before, 1, just_before), (just_after, 0, late)] {
        let stream = cold(cold_for);
        let fetching = Fetching::new(&[&stream], 1);
        let (found, took) = fetching.read().await;
        assert_eq!((batches(&found), took), (vec![read], after));
        assert_eq!(found.permit.bytes(), (read * BATCH_BYTES) as u64);
        let Outcome::Read(outcome) = &found.results[0] else {
            panic!("{found:?}");
        };
        assert_eq!(outcome.high_watermark, 1, "it is told its bounds");
    }
}

// DESIGN 5.5
#[tokio::test(start_paused = true)]
async fn a_cold_read_is_begun_and_holds_up_nothing_that_is_there() {
    let streams = [cold(MAX_WAIT), hot()];
    let fetching = Fetching::new(&[&streams[0], &streams[1]], 1);
    let (found, took) = fetching.read().await;
    assert_eq!((batches(&found), took), (vec![0, 1], Duration::ZERO));
    assert_eq!(streams[0].cold_reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn cold_reads_of_all_partitions_go_on_together() {
    let one = Duration::from_secs(1);
    let streams = [cold(one), cold(one)];
    let fetching = Fetching::new(&[&streams[0], &streams[1]], 1);
    let (found, took) = fetching.read().await;
    assert_eq!((batches(&found), took), (vec![1, 1], one));
}

// M2
#[tokio::test(start_paused = true)]
async fn a_fetch_without_memory_to_wait_is_answered_and_told_to_rest() {
    let stream = empty();
    let mut fetching = Fetching::new(&[&stream], 1);
    fetching.waiting_bytes = u64::MAX;
    let (found, took) = fetching.read().await;
    assert_eq!((batches(&found), took), (vec![0], Duration::ZERO));
    assert_eq!(found.rest, Some(GIVES_WAY_AFTER));
    let soon = Duration::from_millis(200);
    fetching.limits.deadline = Instant::now() + soon;
    let (found, _) = fetching.read().await;
    assert_eq!(
        found.rest,
        Some(soon),
        "no longer than it would have waited"
    );
}

// M2
#[tokio::test(start_paused = true)]
async fn a_fetch_that_waited_for_a_while_gives_way_to_others() {
    let stream = empty();
    let mut fetching = Fetching::new(&[&stream], 1);
    let held = fetching.budgets.held();
    let limit = held.iter().find(|(name, ..)| *name == "waits");
    fetching.waiting_bytes = limit.expect("is one of them").2;
    let refused = || {
        let other = fetching.budgets.waits.enter(fetching.waiting_bytes);
        assert!(other.is_none());
    };
    let at = 2 * GIVES_WAY_AFTER;
    let (found, took) = fetching.read_while(at, refused).await;
    assert_eq!((batches(&found), took), (vec![0], at));
    assert_eq!(found.rest, None, "it has waited");
}

// I11
#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_the_memory_of_its_answer_and_looks_again() {
    let stream = hot();
    let fetching = Fetching::new(&[&stream], 1);
    let budget = fetching.budgets.fetch_slow.of(BATCH_BYTES);
    let all = Mutex::new(budget.try_acquire(budget.limit()));
    let at = Duration::from_secs(60);
    let frees = || {
        assert_eq!(fetching.frames.used(), 0, "it holds nothing meanwhile");
        stream.produce(T0);
        let all = all.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(all.expect("is held"));
    };
    let (found, took) = fetching.read_while(at, frees).await;
    // The fetch returns as many batches as it has memory for.
    assert_eq!((batches(&found), took), (vec![1], at));
    assert_eq!(budget.used(), BATCH_BYTES as u64);
    drop(found);
    assert_eq!(budget.used(), 0);
}
