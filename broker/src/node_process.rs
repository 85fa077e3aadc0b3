//! A node that starts again by itself when its epoch was fenced (W11).

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use highwater_runtime::{Backoff, reasons};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::node::{Machine, Node, NodeEnd, NodeError};

/// The bounds of the wait before a start that follows a fence. The wait grows while fences follow each other, so that
/// two nodes that fence each other don't load the controllers.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long a stop waits for a node that was fenced and has not started again.
const STARTING_STOP_MAX: Duration = Duration::from_secs(10);
/// A node that has run for so long starts again after the shortest wait.
const SETTLED: Duration = Duration::from_secs(60);

/// A node in a process. When its epoch is fenced, the node starts again as a new epoch, on the same addresses and with the
/// same data directory, and the process goes on.
pub struct NodeProcess {
    machine: Machine,
    stage: Stage,
    rests: Backoff,
    fences: watch::Sender<u64>,
    /// Whether the process is told to stop.
    stop: watch::Sender<bool>,
}

enum Stage {
    Running(Box<Node>, Instant),
    /// The next start, with the waits that are left for those after it.
    Starting(BoxFuture<'static, Result<(Node, Backoff), NodeError>>),
    /// The node can't go on, and is gone.
    Gone(String),
}

impl std::fmt::Debug for NodeProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeProcess").field(&self.node()).finish()
    }
}

impl NodeProcess {
    /// Starts a node. A start whose epoch is fenced before it is over, because it was slow or cut off, is tried again as
    /// a new epoch.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: Config, machine: Machine) -> Result<Self, NodeError> {
        let mut rests = rests(&machine);
        let (config, addresses) = Node::bind(config, &machine).await?;
        let start = || Node::start_on(Arc::clone(&config), &machine, addresses.clone());
        let node = until_started(start, NodeError::is_fence, &mut rests).await?;
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

    /// The node; `None` between two starts.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match &self.stage {
            Stage::Running(node, _) => Some(node),
            Stage::Starting(_) | Stage::Gone(_) => None,
        }
    }

    /// Starts the node again each time its epoch is fenced. Resolves, with the reason, when it can't go on. Cancellation
    /// safe: the next call goes on with a start that was begun.
    pub async fn ended(&mut self) -> String {
        loop {
            match &mut self.stage {
                Stage::Running(node, _) => match node.ended().await {
                    NodeEnd::Fenced(reason) => self.begin_again(&reason),
                    NodeEnd::Failed(why) => return why,
                },
                Stage::Starting(starting) => match starting.await {
                    Ok((node, rests)) => {
                        self.rests = rests;
                        self.stage = Stage::Running(Box::new(node), Instant::now());
                    }
                    Err(error) => {
                        let why = reasons(&error);
                        let why = format!("the node was fenced and does not start again: {why}");
                        self.stage = Stage::Gone(why);
                    }
                },
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
        let stop = self.stop.subscribe();
        let starting = start_again(*node, self.machine.clone(), self.rests.clone(), stop);
        self.stage = Stage::Starting(Box::pin(starting));
    }

    /// Stops the node cleanly.
    ///
    /// # Errors
    /// [`NodeError`]; every acknowledged record is in the write-ahead log.
    pub async fn stop(self) -> Result<(), NodeError> {
        match self.stage {
            Stage::Running(node, _) => node.stop().await,
            Stage::Starting(mut starting) => {
                self.stop.send_replace(true);
                match timeout(STARTING_STOP_MAX, &mut starting).await {
                    Ok(Ok((node, _))) => return node.stop().await,
                    Ok(Err(error)) => {
                        let error = reasons(&error);
                        tracing::info!(error, "stopped before the fenced node has started again");
                    }
                    Err(_elapsed) => {
                        tracing::warn!(
                            "stopped within the start of a fenced node: its disk may hang"
                        );
                        // the lock of the data directory is held until the process has ended
                        std::mem::forget(starting);
                    }
                }
                Ok(())
            }
            Stage::Gone(_) => Ok(()),
        }
    }
}

/// Stops a node that was fenced, and starts it again until a start succeeds or is refused.
async fn start_again(
    fenced: Node,
    machine: Machine,
    mut rests: Backoff,
    mut stop: watch::Receiver<bool>,
) -> Result<(Node, Backoff), NodeError> {
    let (config, addresses) = fenced.again();
    let rest = rests.next_wait();
    if !fenced.end_epoch((&machine, rest), &mut stop).await? {
        return Err(NodeError::Ended("the process is told to stop".to_owned()));
    }
    let start = || Node::start_on(config.clone(), &machine, addresses.clone());
    let node = until_started(start, passes, &mut rests).await?;
    Ok((node, rests))
}

/// Whether the reason passes for which a node that ran before does not start: its configuration is right, and what is away
/// comes back.
fn passes(error: &NodeError) -> bool {
    error.is_fence() || error.is_outage()
}

/// Tries to start until a start succeeds or fails for a reason that does not pass.
async fn until_started<'a, T>(
    start: impl Fn() -> BoxFuture<'a, Result<T, NodeError>>,
    passes: impl Fn(&NodeError) -> bool,
    rests: &mut Backoff,
) -> Result<T, NodeError> {
    loop {
        match start().await {
            Err(error) if passes(&error) => {
                let why = reasons(&error);
                match error.is_fence() {
                    true => tracing::warn!(why, "the node was fenced while it started"),
                    false => tracing::warn!(why, "the node cannot start now; trying again"),
                }
            }
            started => return started,
        }
        sleep(rests.next_wait()).await;
    }
}

fn rests(machine: &Machine) -> Backoff {
    let (first, max) = REST;
    Backoff::new(first, max, machine.rng.clone())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::atomic::{AtomicI32, Ordering};

    use bytes::Bytes;
    use futures::FutureExt;
    use highwater_client::{Connection, Error, Options, Producer};
    use highwater_io::net::TcpNetwork;
    use highwater_kraft_meta::command::{AllocateProducerIds, FenceEpoch};
    use highwater_kraft_meta::{Action, MetadataStore, ProposeError, Rejection};
    use highwater_object_storage::{Failure, Hooked, MemoryStorage, OpenError, Plan};
    use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};
    use highwater_runtime::SeededRng;
    use highwater_types::NodeEpoch;
    use highwater_wal::WalError;

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
        let metadata = Arc::clone(&process.node().expect("runs").broker().metadata);
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
            former,
        }
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
        } = waiting(dir.path()).await;
        assert_eq!(metadata.check(), Ok(()));
        let ids = AllocateProducerIds::default();
        let decided = metadata.propose(Action::AllocateProducerIds(ids).into());
        let decided = decided.await;
        let is_decided = !matches!(decided, Err(ProposeError::Unavailable(_)));
        assert!(is_decided, "{decided:?}");
        store.set_hook(|_| Plan::pass());
        while process.node().is_none() {
            let starts = timeout(Duration::from_millis(100), process.ended());
            assert!(starts.await.is_err(), "it goes on");
        }
        assert!(process.node().expect("runs").broker().epoch > former);
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

    // W11: the controllers may be about to start again themselves, and the store may have a bad minute
    #[tokio::test(start_paused = true)]
    async fn a_start_that_finds_no_answer_is_tried_again_and_one_that_is_refused_is_not() {
        let store = |is_reached| match is_reached {
            true => OpenError::Refused {
                url: "s3://b".to_owned(),
                reason: "a rule expires objects".to_owned(),
            },
            false => OpenError::Unreachable {
                url: "s3://b".to_owned(),
                reason: "no answer".to_owned(),
            },
        };
        // the store was opened, and does not give the log
        let away = || WalError::Unavailable {
            reason: "503".to_owned(),
            path: "wal/1".to_owned(),
        };
        let starts = std::cell::Cell::new(0);
        let start = |last: fn() -> Result<u8, NodeError>| {
            starts.set(starts.get() + 1);
            let unavailable = || ProposeError::Unavailable("no controller".to_owned());
            let started = match starts.get() {
                1 => Err(unavailable().into()),
                2 => Err(store(false).into()),
                3 => Err(ProposeError::Rejected(Rejection::Fenced(NodeEpoch(3))).into()),
                4 => Err(away().into()),
                _ => last(),
            };
            std::future::ready(started).boxed()
        };
        let mut rests = Backoff::new(REST.0, REST.1, SeededRng::from_seed(1));
        let started = until_started(|| start(|| Ok(7)), passes, &mut rests).await;
        assert_eq!((started.ok(), starts.get()), (Some(7), 5));
        let refused = until_started(
            || std::future::ready(Err::<u8, _>(store(true).into())).boxed(),
            passes,
            &mut rests,
        );
        assert!(matches!(refused.await, Err(NodeError::Storage(_))));
    }

    // a node that can't start again ends, with the reason
    #[tokio::test(flavor = "multi_thread")]
    async fn a_fenced_node_whose_start_is_refused_ends_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = fixture::config(dir.path(), &[]);
        let process = NodeProcess::start(config, Machine::real()).await;
        let mut process = process.expect("starts");
        fence(&process).await;
        std::fs::write(dir.path().join("meta.properties"), "foreign=1\n").expect("is written");
        let why = process.ended().await;
        assert!(why.contains("was not written by Highwater"), "{why}");
        process.stop().await.expect("there is nothing to stop");
    }
}
