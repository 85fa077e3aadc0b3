//! Tests of a node whose broker is fenced and starts again (W11).

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use highwater_client::{Connection, Error, Options, Producer};
use highwater_io::Faults;
use highwater_io::net::TcpNetwork;
use highwater_kraft_meta::command::{AllocateProducerIds, FenceEpoch};
use highwater_kraft_meta::{Action, MetadataStore, ProposeError, Rejection};
use highwater_object_storage::{
    Failure, Hooked, IoClass, MemoryStorage, ObjectStorage, Plan, PutMode, layout,
};
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind};
use tokio::time::timeout;

use super::*;
use crate::fixture::{self, one_partition};

fn batch() -> Bytes {
    let mut batch = BatchBuilder::default();
    batch.push(1, None, Some(b"value"));
    batch.build().expect("no codec fails")
}

async fn connect(address: SocketAddr) -> Result<Connection, Error> {
    let host = address.ip().to_string();
    Connection::open(&TcpNetwork, &host, address.port(), Options::default()).await
}

/// Produces on new connections until a batch is acknowledged, and returns its offset.
async fn produce(address: SocketAddr) -> i64 {
    loop {
        let answer = async { connect(address).await?.produce("t", 0, batch()).await };
        match answer.await {
            Ok(answer) if answer.error_code == 0 => return answer.base_offset,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Starts a node, and creates the topic `t` with one partition. Returns the address at which the node listens.
async fn with_topic(config: Config, machine: Machine) -> (NodeProcess, SocketAddr) {
    let process = NodeProcess::start(config, machine).await;
    let process = process.expect("starts");
    let node = process.node().expect("runs");
    let address = node.address().expect("it listens");
    let topic = node.broker().create_topic(one_partition("t")).await;
    topic.expect("is created");
    (process, address)
}

/// Fences the present epoch of the node, as the controllers do.
async fn fence(process: &NodeProcess) -> NodeEpoch {
    let broker = process.node().expect("runs").broker();
    let fence = FenceEpoch {
        node: broker.config.node_id.0,
        epoch: broker.epoch.0,
    };
    let fenced = broker.metadata.propose(Action::FenceEpoch(fence).into());
    let fenced = fenced.await.map(drop);
    // the epoch may have been fenced before, and the node has not noticed it yet
    let is_fenced = matches!(
        fenced,
        Ok(()) | Err(ProposeError::Rejected(Rejection::Fenced(_)))
    );
    assert!(is_fenced, "{fenced:?}");
    broker.epoch
}

/// A node that was fenced, and that waits for its store, which gives no answer.
struct Waiting {
    process: NodeProcess,
    metadata: Arc<dyn MetadataStore>,
    store: Arc<Hooked>,
    /// The tasks that go on.
    tasks: Tasks,
    /// The epoch that was fenced.
    former: NodeEpoch,
}

fn on_objects(dir: &Path) -> Config {
    let settings = [
        ("highwater.object.storage", "memory:"),
        ("highwater.wal", "object"),
    ];
    fixture::config(dir, &settings)
}

/// The configuration of a node that uploads nothing by itself.
fn keeping(dir: &Path, wal: &str) -> Config {
    let settings = [
        ("highwater.wal", wal),
        ("highwater.upload.interval.ms", "600000"),
    ];
    fixture::config(dir, &settings)
}

fn with_store(store: &Arc<Hooked>) -> Machine {
    Machine {
        memory_store: Some(Arc::<Hooked>::clone(store)),
        ..Machine::real()
    }
}

async fn waiting(dir: &Path) -> Waiting {
    let store = Arc::<MemoryStorage>::default();
    let store = Arc::new(Hooked::new(store, |_| Plan::pass()));
    let process = NodeProcess::start(on_objects(dir), with_store(&store)).await;
    let mut process = process.expect("starts");
    let node = process.node().expect("runs");
    let (metadata, tasks) = (Arc::clone(&node.broker().metadata), node.tasks().clone());
    let asked = Arc::new(AtomicI32::new(0));
    let asking = Arc::clone(&asked);
    store.set_hook(move |request| {
        // no epoch has the number 0
        if request.key.as_str().contains("/0/") {
            asking.fetch_add(1, Ordering::Relaxed);
        }
        Plan::fail(Failure::Failed("no connection"))
    });
    let former = fence(&process).await;
    let waits = async {
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        why = process.ended() => panic!("{why}"),
        () = waits => {}
    }
    Waiting {
        process,
        metadata,
        store,
        tasks,
        former,
    }
}

/// Checks that the quorum, which is this node alone, decides.
async fn decides(metadata: &Arc<dyn MetadataStore>) {
    assert_eq!(metadata.check(), Ok(()));
    let ids = AllocateProducerIds::default();
    let decided = metadata.propose(Action::AllocateProducerIds(ids).into());
    let decided = decided.await;
    let is_decided = !matches!(decided, Err(ProposeError::Unavailable(_)));
    assert!(is_decided, "{decided:?}");
}

/// Waits until the broker has started again.
async fn started(process: &mut NodeProcess, former: NodeEpoch) {
    let until_started = async {
        while process.node().is_none() {
            let starts = timeout(Duration::from_millis(100), process.ended());
            assert!(starts.await.is_err(), "it goes on");
        }
    };
    let until_started = timeout(Duration::from_secs(60), until_started);
    until_started.await.expect("it starts");
    assert!(process.node().expect("runs").broker().epoch > former);
}

/// Waits until the process ends, and returns the reason.
async fn ends(process: &mut NodeProcess) -> String {
    let ended = timeout(Duration::from_secs(60), process.ended());
    ended.await.expect("it ends")
}

// W11: without the store a start would get no further
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_keeps_its_vote_until_the_store_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let Waiting {
        mut process,
        metadata,
        store,
        former,
        ..
    } = waiting(dir.path()).await;
    decides(&metadata).await;
    // the store answers, until the broker has begun to start
    let asked = Arc::new(AtomicI32::new(0));
    let asking = Arc::clone(&asked);
    store.set_hook(move |request| match request.key.as_str().contains("/0/") {
        true => Plan::pass(),
        false => {
            asking.fetch_add(1, Ordering::Relaxed);
            Plan::fail(Failure::Failed("no connection"))
        }
    });
    let begins = async {
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        why = process.ended() => panic!("{why}"),
        () = begins => {}
    }
    decides(&metadata).await;
    store.set_hook(|_| Plan::pass());
    started(&mut process, former).await;
    decides(&metadata).await;
    process.stop().await.expect("stops");
}

// A5: the metadata ends, and the next process finds the data directory free
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_that_waits_for_the_store_stops_when_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let Waiting {
        process,
        metadata,
        store,
        former,
        ..
    } = waiting(dir.path()).await;
    process.stop().await.expect("stops");
    metadata.check().expect_err("it has ended");
    store.set_hook(|_| Plan::pass());
    let again = NodeProcess::start(on_objects(dir.path()), with_store(&store)).await;
    let again = again.expect("starts");
    assert!(again.node().expect("runs").broker().epoch > former);
    again.stop().await.expect("stops");
}

// D3: what a fenced controller can't write any more ends the process
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_whose_metadata_ends_ends_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let Waiting {
        mut process,
        metadata,
        ..
    } = waiting(dir.path()).await;
    metadata.shutdown().await.expect("ends");
    let why = ends(&mut process).await;
    assert!(why.contains("the metadata ended"), "{why}");
}

// D3: the same holds for a task that the node cannot do without
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_that_loses_a_task_of_the_controller_ends_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let Waiting {
        mut process, tasks, ..
    } = waiting(dir.path()).await;
    tasks.spawn(TaskKind::Reaper, async {});
    let why = ends(&mut process).await;
    assert!(why.contains("the task Reaper returned"), "{why}");
}

// W11, E2: on both kinds of log
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_starts_again_as_a_new_epoch_and_loses_nothing() {
    for wal in ["disk", "object"] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = keeping(dir.path(), wal);
        let (mut process, address) = with_topic(config, Machine::real()).await;
        let mut client = connect(address).await.expect("connects");
        for offset in 0..3 {
            assert_eq!(produce(address).await, offset);
        }
        for round in 0..2 {
            let former = fence(&process).await;
            // the fence is seen before the batch is taken
            let offset = tokio::select! {
                biased;
                why = process.ended() => panic!("{why}"),
                offset = produce(address) => offset,
            };
            assert_eq!(offset, 3 + round, "{wal}");
            let node = process.node().expect("runs");
            assert!(node.broker().epoch > former, "{wal}");
            assert_eq!(node.address(), Some(address), "{wal}");
        }
        assert!(
            client.is_closed().await,
            "{wal}: the zombie's connections end"
        );
        process.stop().await.expect("stops");
    }
}

/// A batch of an idempotent producer.
fn batch_of(id: i64, base_sequence: i32) -> Bytes {
    let fields = ProducerFields {
        id,
        epoch: 0,
        base_sequence,
    };
    let mut batch = BatchBuilder::new(fields, Codec::None);
    batch.push(1, None, Some(b"value"));
    batch.build().expect("no codec fails")
}

/// Produces batches one after the other as an idempotent producer does: each is sent again until it is acknowledged.
async fn produce_all(address: SocketAddr, batches: i32, acknowledged: &AtomicI32) {
    let mut client = None;
    let mut id = None;
    for sequence in 0..batches {
        loop {
            let sent = async {
                let client = match &mut client {
                    Some(client) => client,
                    None => client.insert(connect(address).await?),
                };
                let id = match id {
                    Some(id) => id,
                    None => *id.insert(Producer::<()>::new("".into(), 0, 1).init(client).await?),
                };
                client.produce("t", 0, batch_of(id, sequence)).await
            };
            match sent.await {
                Ok(answer) if answer.error_code == 0 => {
                    // I6: what was acknowledged twice has one offset
                    assert_eq!(answer.base_offset, i64::from(sequence));
                    break;
                }
                _ => client = None,
            }
            tokio::task::yield_now().await;
        }
        acknowledged.store(sequence + 1, Ordering::SeqCst);
    }
}

// W11, I3, I6: fences at any time under load lose nothing and store nothing twice
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_goes_on_through_fences_without_a_gap_or_a_duplicate() {
    for wal in ["disk", "object"] {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = [
            ("highwater.wal", wal),
            ("highwater.upload.interval.ms", "50"),
            ("highwater.wal.object.token.interval.ms", "0"),
        ];
        let config = fixture::config(dir.path(), &settings);
        let (mut process, address) = with_topic(config, Machine::real()).await;
        let acknowledged = AtomicI32::new(0);
        let mut producing = pin!(produce_all(address, 100, &acknowledged));
        // an epoch acknowledges one batch at most between its fence and its end, so the node runs at each of these
        for fence_at in [0, 20, 45, 70] {
            let reached = async {
                while acknowledged.load(Ordering::SeqCst) < fence_at {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = &mut producing => unreachable!("more is to be produced"),
                why = process.ended() => panic!("{wal}: {why}"),
                () = reached => {}
            }
            fence(&process).await;
        }
        tokio::select! {
            () = producing => {}
            why = process.ended() => panic!("{wal}: {why}"),
        }
        let node = process.node().expect("runs");
        let topic = node.broker().topic("t").expect("is there");
        let partition = node.broker().partitions.find(&topic, 0).expect("is open");
        assert_eq!(partition.log.bounds().confirmed, 100, "{wal}");
        drop(partition);
        process.stop().await.expect("stops");
    }
}

// D2: the store was emptied, or is another one, which would take what this cluster's store should have
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_whose_store_is_another_one_ends_the_process() {
    for wal in ["disk", "object"] {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, objects) = (dir.path().join("data"), dir.path().join("objects"));
        let url = format!("file://{}", objects.display());
        let settings = [("highwater.object.storage", &*url), ("highwater.wal", wal)];
        let config = fixture::config(&data, &settings);
        let process = NodeProcess::start(config, Machine::real()).await;
        let mut process = process.expect("starts");
        fence(&process).await;
        std::fs::rename(&objects, dir.path().join("elsewhere")).expect("is moved");
        let why = ends(&mut process).await;
        assert!(
            why.contains("does not have the claim of the cluster"),
            "{wal}: {why}"
        );
    }
}

/// A node that was fenced while its disk hangs in a sync of its log.
struct Hanging {
    process: NodeProcess,
    config: Config,
    machine: Machine,
    faults: Arc<Faults>,
}

async fn hanging(dir: &Path) -> Hanging {
    let faults = Arc::new(Faults::default());
    let machine = fixture::faulty_machine(&faults);
    let config = fixture::config(dir, &[("highwater.wal", "disk")]);
    let (mut process, address) = with_topic(config.clone(), machine.clone()).await;
    fence(&process).await;
    // the node has not noticed it
    faults.syncs_hang.store(true, Ordering::SeqCst);
    let syncs = faults.syncs.load(Ordering::SeqCst);
    let is_syncing = async {
        while faults.syncs.load(Ordering::SeqCst) == syncs {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        offset = produce(address) => panic!("{offset} is not durable"),
        () = is_syncing => {}
    }
    let mut fences = process.fences();
    tokio::select! {
        why = process.ended() => panic!("{why}"),
        noticed = fences.changed() => noticed.expect("it is fenced"),
    }
    Hanging {
        process,
        config,
        machine,
        faults,
    }
}

// D3: what of the log is on the disk is not known then, so that no start may open it again
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_whose_log_then_cannot_be_synced_ends_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let Hanging {
        mut process,
        faults,
        ..
    } = hanging(dir.path()).await;
    faults.syncs_fail.store(true, Ordering::SeqCst);
    faults.syncs_hang.store(false, Ordering::SeqCst);
    while faults.failed_syncs.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // the next start would find nothing wrong
    faults.syncs_fail.store(false, Ordering::SeqCst);
    let why = ends(&mut process).await;
    let is_told = why.contains("the write-ahead log cannot be read or written path=");
    assert!(is_told, "{why}");
}

// A5: a thread of the log may write there until the process has ended
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_that_stops_while_its_log_hangs_leaves_the_directory_locked() {
    let dir = tempfile::tempdir().expect("a directory");
    let Hanging {
        mut process,
        config,
        machine,
        faults,
    } = hanging(dir.path()).await;
    // it begins to end the log
    let ends = timeout(Duration::from_millis(100), process.ended());
    ends.await.expect_err("its log hangs");
    process.stop().await.expect("stops");
    let next = timeout(Duration::from_secs(60), NodeProcess::start(config, machine));
    let next = next.await.expect("it is refused before it reads the log");
    let refused = next.map(drop).expect_err("another process may write there");
    assert!(matches!(refused, NodeError::InUse(_)), "{refused}");
    faults.syncs_hang.store(false, Ordering::SeqCst);
}

// A5: to read the log removes what an earlier start of it left unfinished
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_that_stops_while_it_reads_its_log_leaves_the_directory_locked() {
    let dir = tempfile::tempdir().expect("a directory");
    let faults = Arc::new(Faults::default());
    let machine = fixture::faulty_machine(&faults);
    let config = fixture::config(dir.path(), &[("highwater.wal", "disk")]);
    let (mut process, address) = with_topic(config.clone(), machine.clone()).await;
    produce(address).await;
    faults.hang_reads_below(Some(dir.path().join("wal")));
    fence(&process).await;
    let is_reading = async {
        while faults.hung_reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        why = process.ended() => panic!("{why}"),
        () = is_reading => {}
    }
    process.stop().await.expect("stops");
    faults.hang_reads_below(None);
    let next = NodeProcess::start(config, machine).await;
    let refused = next.map(drop).expect_err("another process may write there");
    assert!(matches!(refused, NodeError::InUse(_)), "{refused}");
}

/// The number of files that a write-ahead log has made.
fn log_files(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir)
        .expect("lists")
        .map(|file| file.expect("lists").path());
    files
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .count()
}

// E2: the log of another directory may lack records that this process has acknowledged
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_whose_data_directory_was_replaced_ends_the_process() {
    for is_replaced in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, objects) = (dir.path().join("data"), dir.path().join("objects"));
        let url = format!("file://{}", objects.display());
        let settings = [
            ("highwater.object.storage", &*url),
            ("highwater.wal", "disk"),
        ];
        let config = fixture::config(&data, &settings);
        let (mut process, address) = with_topic(config, Machine::real()).await;
        produce(address).await;
        // the log makes its second file after the first record; without a place for it the log ends the process (D3)
        while log_files(&data.join("wal")) < 2 {
            tokio::task::yield_now().await;
        }
        // the log has finished that file when it takes another record
        produce(address).await;
        std::fs::rename(&data, dir.path().join("former")).expect("is moved");
        if is_replaced {
            std::fs::create_dir(&data).expect("is made");
        }
        fence(&process).await;
        let why = ends(&mut process).await;
        assert!(why.contains("it was moved, deleted or replaced"), "{why}");
    }
}

// A5: a stop that meets the fence is a clean one
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_before_it_has_noticed_its_fence_stops_cleanly() {
    for wal in ["disk", "object"] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = keeping(dir.path(), wal);
        let (process, address) = with_topic(config.clone(), Machine::real()).await;
        assert_eq!(produce(address).await, 0);
        fence(&process).await;
        process.stop().await.expect("stops");
        let again = NodeProcess::start(config, Machine::real()).await;
        let again = again.expect("starts");
        let address = again.node().and_then(Node::address).expect("it listens");
        assert_eq!(produce(address).await, 1, "{wal}");
        again.stop().await.expect("stops");
    }
}

// R3: a node that can't start again ends, with the reason
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_whose_start_is_refused_ends_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let Waiting {
        mut process, store, ..
    } = waiting(dir.path()).await;
    store.set_hook(|_| Plan::pass());
    // R3: the metadata does not know this epoch
    let later = layout::object(ObjectId {
        node: NodeId(1),
        epoch: NodeEpoch(1000),
        kind: ObjectKind::Wal,
        number: 0,
    });
    let body = vec![Bytes::from_static(b"x")];
    let put = store.put(&later, body, PutMode::IfAbsent, IoClass::Start);
    put.await.expect("is put");
    let why = ends(&mut process).await;
    assert!(why.contains("(R3)"), "{why}");
    process.stop().await.expect("there is nothing to stop");
}
