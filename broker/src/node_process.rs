//! A node whose broker starts again by itself when its epoch was fenced (W11).

use std::time::Duration;

use futures::future::BoxFuture;
use highwater_runtime::{Backoff, reasons};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::node::{Machine, Node, NodeEnd, NodeError, rests};

/// A broker that has run for so long starts again after the shortest wait.
const SETTLED: Duration = Duration::from_secs(60);

/// A node in a process. When its epoch is fenced, its broker starts again as a new epoch, on the same addresses and with the
/// same data directory; what the node does as a controller goes on, and so does the process.
pub struct NodeProcess {
    machine: Machine,
    stage: Stage,
    rests: Backoff,
    fences: watch::Sender<u64>,
    /// Whether the process is told to stop.
    stop: watch::Sender<bool>,
}

/// A node whose broker has started again, with the waits that are left for the next time; `None` if the process was told to
/// stop.
type StartedAgain = Option<(Node, Backoff)>;

enum Stage {
    Running(Box<Node>, Instant),
    Starting(BoxFuture<'static, Result<StartedAgain, NodeError>>),
    /// The node can't go on, and is gone.
    Gone(String),
}

impl std::fmt::Debug for NodeProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeProcess").field(&self.node()).finish()
    }
}

impl NodeProcess {
    /// Starts a node.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: Config, machine: Machine) -> Result<Self, NodeError> {
        let mut rests = rests(&machine);
        let node = Node::start_resting(config, machine.clone(), &mut rests).await?;
        Ok(Self {
            rests,
            machine,
            stage: Stage::Running(Box::new(node), Instant::now()),
            fences: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        })
    }

    /// How often the node was fenced so far.
    #[must_use]
    pub fn fences(&self) -> watch::Receiver<u64> {
        self.fences.subscribe()
    }

    /// The node; `None` while its broker starts again.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match &self.stage {
            Stage::Running(node, _) => Some(node),
            Stage::Starting(_) | Stage::Gone(_) => None,
        }
    }

    /// Starts the broker again each time its epoch is fenced. Resolves, with the reason, when the node can't go on.
    /// Cancellation safe: the next call goes on with a start that was begun.
    pub async fn ended(&mut self) -> String {
        loop {
            match &mut self.stage {
                Stage::Running(node, _) => match node.ended().await {
                    NodeEnd::Fenced(reason) => self.begin_again(&reason),
                    NodeEnd::Failed(why) => return why,
                },
                Stage::Starting(starting) => {
                    self.stage = match starting.await {
                        Ok(Some((node, rests))) => {
                            self.rests = rests;
                            Stage::Running(Box::new(node), Instant::now())
                        }
                        Ok(None) => Stage::Gone("the process is told to stop".to_owned()),
                        Err(error) => {
                            let why = reasons(&error);
                            Stage::Gone(format!(
                                "the node was fenced and does not start again: {why}"
                            ))
                        }
                    };
                }
                Stage::Gone(why) => return why.clone(),
            }
        }
    }

    fn begin_again(&mut self, reason: &str) {
        let gone = Stage::Gone(reason.to_owned());
        let Stage::Running(node, since) = std::mem::replace(&mut self.stage, gone) else {
            return;
        };
        if since.elapsed() >= SETTLED {
            self.rests = rests(&self.machine);
        }
        tracing::warn!(
            reason,
            "the node was fenced and starts again as a new epoch"
        );
        self.fences.send_modify(|fences| *fences += 1);
        let starting = node.start_again(self.rests.clone(), self.stop.subscribe());
        self.stage = Stage::Starting(Box::pin(starting));
    }

    /// Stops the node cleanly. A start of the broker that is under way ends as if the process was killed.
    ///
    /// # Errors
    /// [`NodeError`]; every acknowledged record is in the write-ahead log.
    pub async fn stop(self) -> Result<(), NodeError> {
        match self.stage {
            Stage::Running(node, _) => node.stop().await,
            Stage::Starting(starting) => {
                self.stop.send_replace(true);
                match starting.await? {
                    Some((node, _)) => node.stop().await,
                    None => {
                        tracing::info!("stopped before the fenced broker has started again");
                        Ok(())
                    }
                }
            }
            Stage::Gone(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI32, Ordering};

    use bytes::Bytes;
    use highwater_client::{Connection, Error, Options, Producer};
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

    /// A node whose store is away, and which was fenced and waits for it.
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

    fn with_store(store: &Arc<Hooked>) -> Machine {
        Machine {
            memory_store: Arc::<Hooked>::clone(store),
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
        let why = process.ended().await;
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
        let why = process.ended().await;
        assert!(why.contains("the task Reaper returned"), "{why}");
    }

    // W11, E2: on both kinds of log
    #[tokio::test(flavor = "multi_thread")]
    async fn a_fenced_node_starts_again_as_a_new_epoch_and_loses_nothing() {
        for wal in ["disk", "object"] {
            let dir = tempfile::tempdir().expect("a directory");
            let settings = [
                ("highwater.wal", wal),
                ("highwater.upload.interval.ms", "600000"),
            ];
            let config = fixture::config(dir.path(), &settings);
            let process = NodeProcess::start(config, Machine::real()).await;
            let mut process = process.expect("starts");
            let node = process.node().expect("runs");
            let address = node.address().expect("it listens");
            let topic = node.broker().create_topic(one_partition("t")).await;
            topic.expect("is created");
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
                        None => {
                            *id.insert(Producer::<()>::new("".into(), 0, 1).init(client).await?)
                        }
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
            let process = NodeProcess::start(config, Machine::real()).await;
            let mut process = process.expect("starts");
            let node = process.node().expect("runs");
            let address = node.address().expect("it listens");
            let topic = node.broker().create_topic(one_partition("t")).await;
            topic.expect("is created");
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
            let why = process.ended().await;
            assert!(why.contains("is not the one that this"), "{wal}: {why}");
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
        let why = process.ended().await;
        assert!(why.contains("(R3)"), "{why}");
        process.stop().await.expect("there is nothing to stop");
    }
}
