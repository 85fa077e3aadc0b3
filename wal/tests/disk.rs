//! The disk WAL does what every WAL must.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
use highwater_runtime::ByteBudget;
use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, WalPosition};
use highwater_wal::conformance::{self, Bench};
use highwater_wal::disk::{Config, DiskWalFactory};
use highwater_wal::{
    AppendPermit, AppendReceipt, ConfirmedBatch, ConfirmedSink, Known, Leadership, SealedRange,
    SealedWal, Share, StreamBatch, WalError, WalFactory, WriteAheadLog, record_bytes,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::timeout;

/// A disk WAL in a directory of its own.
struct DiskBench {
    factory: DiskWalFactory,
    memory: ByteBudget,
    faults: Arc<Faults>,
    _dir: TempDir,
}

impl DiskBench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config {
            dir: dir.path().join("wal"),
            bytes_max: 64 << 20,
            new_seed: [7; 16],
        };
        let faults = Arc::new(Faults::default());
        let device = Arc::new(FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults)));
        let memory = ByteBudget::with_reserve(9 << 20, 1 << 20);
        let threads = Arc::new(RealThreads);
        Self {
            factory: DiskWalFactory::new(device, threads, config, memory.clone()),
            memory,
            faults,
            _dir: dir,
        }
    }
}

impl Bench for DiskBench {
    fn factory(&self) -> &dyn WalFactory {
        &self.factory
    }

    fn memory(&self) -> &ByteBudget {
        &self.memory
    }

    fn hold(&self, holds: bool) {
        self.faults.syncs_hang.store(holds, Ordering::SeqCst);
    }

    fn attempts(&self) -> u64 {
        self.faults.syncs.load(Ordering::SeqCst)
    }

    fn fail(&self, fails: bool) {
        self.faults.syncs_fail.store(fails, Ordering::SeqCst);
    }

    // D2
    fn foreign(&self, epoch: NodeEpoch, end: WalPosition) -> Vec<Known> {
        let above = WalPosition {
            epoch,
            at: end.at + 1,
        };
        let older = NodeEpoch(epoch.0 - 1);
        let start = WalPosition { epoch, at: 0 };
        [
            (older, Some(end), end),
            (older, None, start),
            (epoch, Some(above), above),
            // the log is an older copy
            (epoch, Some(start), above),
        ]
        .map(|(registered, floor, confirmed)| Known {
            registered,
            floor,
            confirmed,
        })
        .to_vec()
    }

    fn read_back(&self, range: SealedRange) -> BoxFuture<'_, Vec<ConfirmedBatch>> {
        unreachable!("a disk WAL leaves a replay: {range:?}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_wal_conforms() {
    conformance::run(DiskBench::new).await;
}

#[test]
fn every_duty_of_a_wal_has_a_conformance_test_that_names_it() {
    let duties = include_str!("../src/lib.rs").lines();
    let duties = duties.filter_map(|line| line.strip_prefix("/// - **")?.split_once("**"));
    let duties: BTreeSet<&str> = duties.map(|(duty, _)| duty).collect();
    let tests = concat!(
        include_str!("../src/conformance/mod.rs"),
        include_str!("../src/conformance/endings.rs")
    );
    let tests = tests.replace("\npub(super) async fn ", "\nasync fn ");
    let tests = tests.split("\nasync fn ");
    let named = tests.filter_map(|before| before.rsplit_once("\n/// "));
    let named: BTreeSet<&str> = named.flat_map(|(_, doc)| doc.trim().split(", ")).collect();
    let untested: Vec<_> = duties.difference(&named).collect();
    assert!(duties.len() > 10 && untested.is_empty(), "{untested:?}");
}

/// Tells how far the log is durable.
#[derive(Debug)]
struct Confirms(watch::Sender<WalPosition>);

impl ConfirmedSink for Confirms {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        if let Some(last) = batches.last() {
            self.0.send_replace(last.end);
        }
    }
}

const BATCH_BYTES: usize = 1 << 20;
const RECORD_BYTES: u64 = record_bytes(BATCH_BYTES);
const PATIENCE: Duration = Duration::from_secs(60);

fn leadership() -> Leadership {
    Leadership {
        stream: StreamId(1),
        epoch: LeaderEpoch(1),
        label: Bytes::new(),
    }
}

fn append(wal: &dyn WriteAheadLog, permit: AppendPermit, base: i64) -> AppendReceipt {
    let tail = Bytes::from(vec![1; BATCH_BYTES - 16]);
    let batch = StreamBatch {
        count: 1,
        max_timestamp: 0,
        append_time: 0,
        head: [0; 16],
        tail_crc: crc32fast::hash(&tail),
        tail,
        delta: Bytes::new(),
        roll: false,
    };
    wal.append(permit, &leadership(), base, &batch)
}

/// A log whose disk has room for so many files of 16 MiB; how far it is durable, and what fills the disk.
async fn files_on_a_full_disk(
    dir: &TempDir,
    files: u64,
) -> (
    Arc<dyn WriteAheadLog>,
    watch::Receiver<WalPosition>,
    Arc<Faults>,
) {
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 512 << 20,
        new_seed: [7; 16],
    };
    let faults = Arc::new(Faults::default());
    let device = Arc::new(FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults)));
    let memory = ByteBudget::new(512 << 20);
    let factory = DiskWalFactory::new(device, Arc::new(RealThreads), config, memory);
    let (confirms, confirmed) = watch::channel(WalPosition::default());
    let read = factory.read(Known::default());
    let read = read.await.expect("reads");
    let wal = read.open(NodeEpoch(5), Arc::new(Confirms(confirms))).await;
    let wal = wal.expect("opens");
    let all = wal.reserve((files << 24) - RECORD_BYTES, Share::Common);
    drop(all.await.expect("makes them"));
    faults.is_full.store(true, Ordering::SeqCst);
    let more = wal.reserve((files << 24) + 1, Share::Common);
    let more = in_time(more).await.expect_err("no files take it");
    assert!(matches!(more, WalError::Full), "{more:?}");
    (wal, confirmed, faults)
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

fn known(registered: u64, floor: Option<WalPosition>) -> Known {
    Known {
        registered: NodeEpoch(registered),
        floor,
        ..Known::default()
    }
}

// D4, D2: a log is not needed after all epochs on it were closed; the next epoch on it has records above position 0 only
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_closed_epochs_alone_is_begun_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 512 << 20,
        new_seed: [7; 16],
    };
    let memory = ByteBudget::new(512 << 20);
    let factory = DiskWalFactory::new(Arc::new(RealDevice), Arc::new(RealThreads), config, memory);
    // it is no fault that a node which registered on another kind has none
    factory.read(known(3, None)).await.expect("is not needed");
    let mut floor = None;
    for (registered, epoch) in [(3, 5), (6, 7), (7, 8)] {
        let read = factory.read(known(registered, floor)).await.expect("reads");
        let (sink, _) = watch::channel(WalPosition::default());
        let wal = read.open(NodeEpoch(epoch), Arc::new(Confirms(sink))).await;
        let wal = wal.expect("opens");
        let mut end = None;
        for base in 0..20 {
            let permit = wal.reserve(RECORD_BYTES, Share::Common).await;
            end = Some(append(&*wal, permit.expect("has room"), base));
        }
        end.expect("some").wait().await.expect("is durable");
        wal.shutdown(None).await.expect("closes");
        // epoch 5 was closed and a later one was on another kind; epoch 7 committed nothing
        floor = (epoch == 7).then_some(WalPosition {
            epoch: NodeEpoch(7),
            at: 0,
        });
        if let Some(floor) = floor {
            let first = std::fs::read_dir(dir.path().join("wal")).expect("lists");
            let names = first.map(|entry| entry.expect("is there").file_name());
            let is_there = names.into_iter().any(|name| name == "0000000000000000.log");
            assert!(!is_there, "what the closed epoch left was let go of");
            let read = factory.read(known(7, Some(floor))).await.expect("reads");
            let sealed = read.seal(NodeEpoch(7), floor).await.expect("seals");
            let SealedWal::Replay { groups, .. } = sealed else {
                panic!("it holds the epoch's records");
            };
            let groups: Vec<_> = groups.collect().await;
            let batches = groups
                .into_iter()
                .map(|group| group.expect("is read").batches.len());
            assert_eq!(batches.sum::<usize>(), 20, "and nothing of epoch 5");
        }
    }
    let refused = factory
        .read(known(7, None))
        .await
        .expect_err("was opened for epoch 8");
    assert!(refused.to_string().contains("(D2)"), "{refused}");
}

// D2: a log that is lost is not begun anew, however often it is tried
#[tokio::test]
async fn a_node_that_registered_has_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 512 << 20,
        new_seed: [7; 16],
    };
    let memory = ByteBudget::new(512 << 20);
    let (device, threads) = (Arc::new(RealDevice), Arc::new(RealThreads));
    let factory = DiskWalFactory::new(device, threads, config.clone(), memory);
    let read = |registered| factory.read(known(registered, Some(WalPosition::default())));
    for _ in 0..2 {
        let refused = read(3).await.expect_err("is lost").to_string();
        let wal = config.dir.display().to_string();
        assert!(
            refused.contains(&wal) && refused.contains("(D2)"),
            "{refused}"
        );
    }
    // the first start makes the log; a start that ends before it registers finds it, and so does the next start
    for registered in [0, 0, 3] {
        read(registered).await.expect("is there");
    }
    std::fs::remove_dir_all(&config.dir).expect("removes");
    std::fs::create_dir(&config.dir).expect("is empty");
    read(3).await.expect_err("is lost");
}

// A1, D3, M1: what is promised to one reservation is not promised to the next, which waits for what is given back or let go of
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_promises_what_its_files_have_room_for_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let (wal, confirmed, _faults) = files_on_a_full_disk(&dir, 3).await;
    for round in 0..3 {
        let mut promised = Vec::new();
        let mut next = loop {
            assert!(promised.len() < 48, "promised what no file has room for");
            let mut next = Box::pin(unconstrained(wal.reserve(RECORD_BYTES, Share::Common)));
            match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                Poll::Ready(permit) => promised.push(permit.expect("is not refused")),
                Poll::Pending => break next,
            }
        };
        assert!(promised.len() >= 31, "round {round}: {}", promised.len());
        drop(promised.pop());
        promised.push(in_time(&mut next).await.expect("what was given back"));
        let last = (0..)
            .zip(promised)
            .map(|(base, permit)| append(&*wal, permit, base));
        let last = last.last().expect("some fit");
        in_time(last.wait()).await.expect("what was promised fits");
        let let_go_of = wal.reserve(30 * RECORD_BYTES, Share::Common);
        let trim = async { wal.trim(*confirmed.borrow()) };
        let (permit, ()) = tokio::join!(in_time(let_go_of), trim);
        drop(permit.expect("its files are used again"));
    }
    wal.shutdown(None).await.expect("closes");
}

// D3, M1: none of them is refused, and none hangs
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_full_disk_takes_at_once_is_taken_as_it_is_let_go_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let (wal, mut confirmed, _faults) = files_on_a_full_disk(&dir, 3).await;
    let uploads = async {
        loop {
            confirmed.changed().await.expect("the log lives");
            let floor = *confirmed.borrow_and_update();
            wal.trim(floor);
        }
    };
    let produces = async {
        for round in 0..2 {
            let all = (0..96).map(|at| {
                let wal = &wal;
                async move {
                    // a large one in the midst of small ones has its turn
                    let records = if at == 48 { 20 } else { 1 };
                    let permit = wal.reserve(records * RECORD_BYTES, Share::Common).await?;
                    append(&**wal, permit, round * 96 + at).wait().await
                }
            });
            let all = in_time(futures::future::try_join_all(all)).await;
            all.expect("none is refused");
        }
    };
    // the uploads never end
    tokio::select! {
        () = uploads => {}
        () = produces => {}
    }
    wal.shutdown(None).await.expect("closes");
}

// M2: what a coordinator has decided is not refused, and is durable when the disk has room again
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_what_is_past_every_bound_waiting() {
    let dir = tempfile::tempdir().expect("a directory");
    let (wal, _, faults) = files_on_a_full_disk(&dir, 1).await;
    let reserve = |share| wal.reserve(RECORD_BYTES, share).now_or_never();
    let promised: Vec<_> = std::iter::from_fn(|| reserve(Share::Common)).collect();
    assert!(promised.len() >= 14, "{}", promised.len());
    let mut last = None;
    for base in 0..18 {
        let permit = reserve(Share::Unbounded).expect("at once");
        last = Some(append(&*wal, permit.expect("past every bound"), base));
    }
    let last = last.expect("some");
    assert!(matches!(wal.check(), Err(WalError::Full)));
    assert!(!last.is_durable(), "there is no room for it");
    faults.is_full.store(false, Ordering::SeqCst);
    in_time(last.wait()).await.expect("it was kept");
    drop(promised);
    wal.shutdown(None).await.expect("closes");
}

/// Takes batches only while it may.
#[derive(Debug, Default)]
struct Gated {
    may: AtomicBool,
    /// How often it was asked.
    asked: watch::Sender<u64>,
    bases: Mutex<Vec<i64>>,
}

impl ConfirmedSink for Gated {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        let bases = batches.iter().map(|batch| batch.base);
        self.bases.lock().expect("no panic").extend(bases);
    }

    fn may_confirm(&self) -> bool {
        self.asked.send_modify(|asked| *asked += 1);
        self.may.load(Ordering::SeqCst)
    }
}

impl Gated {
    fn let_pass(&self, may: bool) {
        self.may.store(may, Ordering::SeqCst);
    }

    fn has(&self, bases: &[i64]) -> bool {
        *self.bases.lock().expect("no panic") == bases
    }
}

// D5: nothing is acknowledged and nothing is shown while the node may not acknowledge
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_acknowledged_in_order_or_not_at_all() {
    for ends in ["passes", "is fenced", "is closed"] {
        let bench = DiskBench::new();
        let sink = Arc::new(Gated::default());
        sink.let_pass(true);
        let read = bench.factory.read(Known::default()).await.expect("reads");
        let above: Arc<dyn ConfirmedSink> = Arc::<Gated>::clone(&sink);
        let wal = read.open(NodeEpoch(5), above).await.expect("opens");
        let next = async |base| {
            let permit = wal.reserve(RECORD_BYTES, Share::Common).await;
            append(&*wal, permit.expect("has room"), base)
        };
        in_time(next(0).await.wait()).await.expect("is in time");
        sink.let_pass(false);
        let mut held_back = Vec::new();
        for base in [1, 2] {
            let mut asked = sink.asked.subscribe();
            held_back.push(next(base).await);
            in_time(asked.changed()).await.expect("is durable");
        }
        wal.confirm();
        assert!(sink.has(&[0]) && held_back.iter().all(|one| !one.is_durable()));
        match ends {
            "passes" => {
                sink.let_pass(true);
                wal.confirm();
                for one in held_back {
                    in_time(one.wait()).await.expect("is acknowledged");
                }
                assert!(sink.has(&[0, 1, 2]));
                wal.shutdown(None).await.expect("closes");
            }
            "is fenced" => {
                wal.fence("as a test asks".to_owned());
                sink.let_pass(true);
                wal.confirm();
                for one in held_back {
                    in_time(one.wait()).await.expect_err("is fenced");
                }
                assert!(sink.has(&[0]));
            }
            _ => {
                wal.shutdown(None).await.expect("closes");
                sink.let_pass(true);
                wal.confirm();
                for one in held_back {
                    in_time(one.wait()).await.expect_err("has ended");
                }
                assert!(sink.has(&[0]));
                // the next start finds them
                let floor = WalPosition::default();
                let read = bench.factory.read(known(5, Some(floor))).await;
                let sealed = read.expect("reads").seal(NodeEpoch(5), floor).await;
                let SealedWal::Replay { groups, .. } = sealed.expect("seals") else {
                    panic!("it holds the records");
                };
                let groups: Vec<_> = groups.collect().await;
                let batches = groups
                    .into_iter()
                    .map(|one| one.expect("is read").batches.len());
                assert_eq!(batches.sum::<usize>(), 3);
            }
        }
    }
}
