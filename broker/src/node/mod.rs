//! The composition root: it builds a node on its machine, and stops it in reverse order.

mod fenced;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use highwater_io::DirLock;
use highwater_kraft_meta::MetadataStore;
use highwater_object_storage::Opener;
use highwater_partition_log::ProducerMemory;
use highwater_runtime::{ControlRuntime, TaskKind, Tasks, WorkPool, reasons};
use highwater_s3stream::{ObjectStreamStore, StreamError};
use highwater_types::NodeEpoch;
use highwater_wal::WalError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::addresses::{Addresses, Listening};
use crate::banner::Banner;
use crate::broker::Broker;
use crate::cluster::BrokerEndpoint;
use crate::config::{Advertised, Config};
use crate::controller::Balance;
use crate::heartbeats::Heartbeats;
use crate::memory::RequestBudgets;
use crate::metrics::sampled::{ControllerSampler, Sampler};
use crate::net::Connections;
use crate::partitions::{FetchSessions, PartitionOpener, Partitions, handing_over};
use crate::quorum::NetworkTransport;
use crate::serving::serve;
use crate::starting::Phase;
use crate::storage::{BrokerStreams, Stores};
use crate::wal::FoundLogs;
use crate::{
    api, controller, coordinators, fence, housekeeping, http, load, metrics, registration, storage,
};

pub use crate::give_up::{GivingUp, Loss};
pub use crate::machine::Machine;
pub use crate::node_error::{NodeEnd, NodeError};
pub use crate::node_process::NodeProcess;

/// A start waits for partitions as long as another one opens within this time; then it listens although the rest is not
/// open.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);
/// How long a stop waits until the write-ahead log holds what was appended: no longer than the others would wait for a
/// broker that died (A5).
const WAL_STOP_MAX: Duration = Duration::from_secs(3);
/// How long a stop waits until the requests in progress are answered (A5).
const ANSWERS_STOP_MAX: Duration = Duration::from_secs(1);
/// How long a stop waits until the metadata has ended, whose log may be on a disk that hangs (A5).
const METADATA_STOP_MAX: Duration = Duration::from_secs(5);

/// A running node. If it is dropped before it is stopped, its tasks end at once.
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    metadata: Arc<dyn MetadataStore>,
    /// `None` without the role `broker`.
    broker: Option<Arc<Broker>>,
    /// Those of clients; `None` without the role `broker`.
    connections: Option<Arc<Connections>>,
    /// How the object store is opened again.
    opener: Opener,
    tasks: Tasks,
    addresses: Addresses,
    recovered: u64,
    commit: &'static str,
    /// The lock of the data directory.
    lock: Option<DirLock>,
    _control: ControlRuntime,
}

impl Drop for Node {
    /// A node that is dropped before it is stopped ends as a killed process does.
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// The tasks of a start. They end with it if its future is dropped.
struct StartTasks(Tasks);

impl StartTasks {
    /// Leaves the tasks to the node.
    fn hand_over(mut self) {
        self.0 = Tasks::default();
    }
}

impl Drop for StartTasks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    /// Starts a node: addresses, health and metrics, storage, partitions, listeners. The node is ready when this
    /// returns; a client that connects before is answered then. If the future is dropped, the start ends as if the
    /// process was killed.
    ///
    /// # Errors
    /// [`NodeError`]: a later start can go on from every change that was made, and a start that is refused has changed
    /// nothing.
    pub async fn start(config: Config, machine: Machine) -> Result<Self, NodeError> {
        let (config, addresses) = Self::bind(config, &machine).await?;
        Self::start_on(config, &machine, addresses).await
    }

    /// Binds the addresses of a node. This comes first, so that an address in use refuses the start before anything is
    /// written.
    ///
    /// # Errors
    /// [`NodeError`].
    pub(crate) async fn bind(
        config: Config,
        machine: &Machine,
    ) -> Result<(Arc<Config>, Addresses), NodeError> {
        for told in config.out_of_reach() {
            tracing::warn!("{told}");
        }
        let without_effect = config.without_effect();
        if !without_effect.is_empty() {
            tracing::info!(
                "settings that have no effect: {}",
                without_effect.join(", ")
            );
        }
        let control = machine.control.start().map_err(NodeError::Control)?;
        let addresses = Addresses::bind(&config, machine, &control).await?;
        Ok((Arc::new(config), addresses))
    }

    /// Starts a node on addresses that are bound. The future is of one type with no name, because the compiler would
    /// otherwise put a copy of the whole start into each place that polls one.
    ///
    /// # Errors
    /// [`NodeError`].
    pub(crate) fn start_on<'a>(
        config: Arc<Config>,
        machine: &'a Machine,
        addresses: Addresses,
    ) -> BoxFuture<'a, Result<Self, NodeError>> {
        async move {
            let control = machine.control.start().map_err(NodeError::Control)?;
            let tasks = StartTasks(Tasks::new(control));
            let started = Self::start_tasks(config, machine, &tasks.0, addresses).await;
            if started.is_err() {
                tasks.0.stop().await;
            }
            tasks.hand_over();
            started
        }
        .boxed()
    }

    async fn start_tasks(
        config: Arc<Config>,
        machine: &Machine,
        tasks: &Tasks,
        addresses: Addresses,
    ) -> Result<Self, NodeError> {
        let phase = watch::Sender::new(Phase::Metadata);
        if let Some(admin) = addresses.admin.clone() {
            let serve = http::serve(
                admin,
                phase.subscribe(),
                machine.commit,
                tasks.control().clone(),
            );
            tasks.spawn(TaskKind::AdminHttp, serve);
        }
        let listeners = addresses.listeners.iter().cloned();
        let for_nodes = |listening: &Listening| config.quorum.is_listener(&listening.name);
        let (for_nodes, for_clients): (Vec<_>, Vec<_>) = listeners.partition(for_nodes);
        addresses.tls.watch(tasks);
        let of_calls = addresses.tls.of_calls();
        let controllers = NetworkTransport::new(&config, machine, tasks.control(), of_calls);
        let controllers = Arc::new(controllers);
        controllers.listen(for_nodes, tasks);
        let (stores, logs, lock) =
            storage::open(&config, machine, tasks, &phase, &controllers).await?;
        // The controller starts first, because on a full store the recovery of the broker needs the room of condemned
        // objects, which the controller deletes (D3).
        if config.quorum.roles.controller {
            controller::start(&config, tasks, &stores.metadata, &stores.objects);
        }
        let (mut broker, mut connections, mut recovered) = (None, None, 0);
        if let Some(logs) = logs {
            let asked = (&stores, &addresses.advertised[..]);
            let opened = start_broker(&config, machine, tasks, &phase, asked, logs).await;
            let (started, found) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    // the lock is kept until nothing of this start works any more
                    tasks.stop().await;
                    storage::end(&*stores.metadata).await;
                    return Err(error);
                }
            };
            connections = Some(serve(&started, &*machine.network, for_clients, tasks));
            phase.send_replace(Phase::Serving(Sampler {
                broker: Arc::clone(&started),
                device: Arc::clone(&machine.device),
                requests: Arc::clone(&stores.requests),
            }));
            (broker, recovered) = (Some(started), found);
        } else {
            phase.send_replace(Phase::Controlling(ControllerSampler {
                metadata: Arc::clone(&stores.metadata),
                node: config.node_id,
                device: Arc::clone(&machine.device),
                data_dir: config.data_dir.clone(),
            }));
        }
        Ok(Self {
            config,
            metadata: stores.metadata,
            recovered,
            broker,
            connections,
            opener: stores.opener,
            tasks: tasks.clone(),
            addresses,
            commit: machine.commit,
            lock: Some(lock),
            _control: machine.control.clone(),
        })
    }

    /// The text that a person wants to read about a node that has just started.
    #[must_use]
    pub fn banner(&self) -> String {
        let local = self.addresses.local();
        let listens: Vec<String> = local
            .iter()
            .map(|(name, address)| format!("{name}://{address}"))
            .collect();
        let endpoint = |own: BrokerEndpoint| format!("{}:{}", own.host, own.port);
        let bootstrap = self.broker.as_ref().and_then(|broker| {
            let own = broker.cluster().own_endpoint();
            own.map(endpoint)
        });
        let banner = Banner {
            config: &self.config,
            cluster: self.metadata.image().cluster(),
            listens: listens.join(", "),
            bootstrap,
            recovered: self.recovered,
            commit: self.commit,
        };
        banner.to_string()
    }

    /// The address of the first listener.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let first = &self.addresses.listeners.first()?.acceptor;
        first.local_addr().ok()
    }

    #[cfg(test)]
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        self.broker.as_ref().expect("the node has the role broker")
    }

    /// Resolves, with the reason, when the node can't go on. Until then the future looks whether the node epoch was
    /// fenced, so it must be polled for as long as the node runs.
    pub async fn ended(&self) -> NodeEnd {
        let why = tokio::select! {
            // A task may return because of one of the reasons before it.
            biased;
            why = self.broker_ended() => why,
            why = self.metadata.ended() => format!("the metadata ended: {why}"),
            (kind, how) = self.tasks.failed() => format!("the task {kind:?} {how}"),
        };
        // The log of an epoch that was fenced ends first, and any other part of the node may follow it.
        let streams = self.broker.as_ref().map(|broker| &broker.streams);
        let log = streams.and_then(|streams| streams.ended().now_or_never().flatten());
        match log {
            Some(WalError::Fenced { reason }) => NodeEnd::Fenced(reason),
            _ => NodeEnd::Failed(why),
        }
    }

    /// Resolves, with the reason, when the broker can't go on.
    async fn broker_ended(&self) -> String {
        let Some(broker) = &self.broker else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            error = broker.streams.ended() => match error {
                Some(error) => format!("the write-ahead log ended: {}", reasons(&error)),
                None => "the write-ahead log ended".to_owned(),
            },
            refused = broker.streams.failed() => refused,
            never = fence::watch(broker, &broker.heartbeats) => match never {},
        }
    }

    /// The configuration and the addresses, for the next start of a node that was fenced.
    pub(crate) fn again(&self) -> (Arc<Config>, Addresses) {
        (Arc::clone(&self.config), self.addresses.clone())
    }

    /// Stops: the node takes no further requests, and uploads what it can, so that the next start has nothing to replay.
    /// This takes 26 s at most, whatever the store and the disk do (A5). If a disk hangs, the data directory stays locked
    /// until the process has ended, because a thread may still write there.
    ///
    /// # Errors
    /// [`NodeError`]; every acknowledged record is in the write-ahead log.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        if let Some(broker) = &self.broker {
            handing_over::leave(broker).await;
        }
        let stopped = self.end_broker(Some(WAL_STOP_MAX)).await;
        self.tasks.stop().await;
        let ended = timeout(METADATA_STOP_MAX, self.metadata.shutdown()).await;
        let (stopped, wal_is_writing) = match stopped {
            Err(StreamError::Wal(WalError::Late { is_writing })) => {
                tracing::warn!(
                    "stopped with appends that are not durable: none of them was acknowledged"
                );
                (Ok(()), is_writing)
            }
            stopped => (stopped, false),
        };
        if ended.is_err() {
            tracing::warn!("stopped before the metadata has ended: its disk may hang");
        }
        if wal_is_writing || ended.is_err() {
            std::mem::forget(self.lock.take());
        }
        stopped?;
        ended.unwrap_or(Ok(()))?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Ends the work for clients, then the streams and the node epoch. What a controller does goes on.
    async fn end_broker(&self, wal_within: Option<Duration>) -> Result<(), StreamError> {
        if let Some(broker) = &self.broker {
            broker.heartbeats.leave();
        }
        if let Some(connections) = &self.connections {
            self.tasks.stop_before(TaskKind::Connection).await;
            connections.finish(Instant::now() + ANSWERS_STOP_MAX).await;
        }
        // the last upload still needs the log, the metadata, and credentials for the store
        self.tasks.stop_before(TaskKind::MetadataObserver).await;
        let mut stopped = Ok(());
        if let Some(broker) = &self.broker {
            let deadline = wal_within.map(|within| Instant::now() + within);
            stopped = broker.streams.shutdown(deadline).await;
            // The log has ended, so nothing more is acknowledged, and other brokers may take over at once. The controllers
            // know it of an epoch that was fenced.
            if wal_within.is_some() {
                registration::end(&*self.metadata, broker.config.node_id, broker.epoch).await;
            }
        }
        stopped
    }
}

/// Starts the role `broker`: recovers and opens its streams, opens the partitions that it leads, and starts the tasks
/// that work on them. Returns the broker and the number of batches recovered. Listeners follow.
async fn start_broker(
    config: &Arc<Config>,
    machine: &Machine,
    tasks: &Tasks,
    phase: &watch::Sender<Phase>,
    (stores, advertised): (&Stores, &[Advertised]),
    logs: FoundLogs,
) -> Result<(Arc<Broker>, u64), NodeError> {
    let metadata = Arc::clone(&stores.metadata);
    let opened = logs.recover((stores, advertised), config, machine, tasks, phase);
    let BrokerStreams {
        streams,
        epoch,
        heartbeats,
        recovered,
    } = opened.await?;
    let broker = broker(config, machine, (metadata, epoch, streams), heartbeats);
    phase.send_replace(Phase::Partitions(Arc::clone(&broker)));
    let mut opener = PartitionOpener::new(Arc::clone(&broker));
    opener.follow(broker.metadata.image());
    tasks.spawn(TaskKind::PartitionOpener, opener.run());
    // both arms are cancellation safe
    let is_fenced = tokio::select! {
        () = broker.partitions.wait_tried(OPENING_PATIENCE) => false,
        () = broker.heartbeats.fenced() => true,
    };
    if is_fenced {
        return Err(fence::end_start(&broker).await);
    }
    tasks.spawn(TaskKind::HandOver, handing_over::run(Arc::clone(&broker)));
    let groups = coordinators::follow(Arc::clone(&broker), tasks.clone());
    tasks.spawn(TaskKind::CoordinatorOpener, groups);
    let housekeeping = housekeeping::run(Arc::clone(&broker));
    tasks.spawn(TaskKind::Housekeeping, housekeeping);
    let balance = Balance::new(config);
    if balance.is_on {
        let measuring = load::run(Arc::clone(&broker), balance.interval);
        tasks.spawn(TaskKind::Load, measuring);
    }
    Ok((broker, recovered))
}

fn broker(
    config: &Arc<Config>,
    machine: &Machine,
    (metadata, epoch, streams): (Arc<dyn MetadataStore>, NodeEpoch, ObjectStreamStore),
    heartbeats: Heartbeats,
) -> Arc<Broker> {
    let budgets = RequestBudgets::new(&config.memory);
    let slots = usize::try_from(config.int("max.incremental.fetch.session.cache.slots"));
    Arc::new(Broker {
        api_versions: api::versions(),
        epoch,
        partitions: Arc::new(Partitions::new(
            Arc::clone(&metadata),
            (config.node_id, epoch),
        )),
        metadata,
        heartbeats,
        streams,
        producers: ProducerMemory::new(config.memory.producers),
        metrics: metrics::Metrics::new(),
        groups: Default::default(),
        sessions: FetchSessions::new(
            slots.unwrap_or(0),
            config.memory.fetch_sessions,
            machine.rng.clone(),
        ),
        authorizer: Arc::clone(&machine.authorizer),
        pool: WorkPool::start(&*machine.threads, budgets.decompression.clone()),
        budgets,
        clock: machine.clock.clone(),
        rng: machine.rng.clone(),
        producer_ids: Default::default(),
        config: Arc::clone(config),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use highwater_io::{RealThreads, Threads};
    use highwater_types::limits::{INDEXES_IN_FLIGHT_MAX, UPLOADS_IN_FLIGHT_MAX};

    use super::*;
    use crate::fixture;

    fn config(data: &Path, store: &Path) -> Config {
        let store = format!("file://{}", store.display());
        fixture::config(data, &[("highwater.object.storage", &store)])
    }

    // E1, D2, U5: a supervisor that restarts the process for a weekend leaves nothing behind.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_start_that_is_refused_leaves_no_epoch_and_condemns_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, store) = (dir.path().join("data"), dir.path().join("objects"));
        let start = || Node::start(config(&data, &store), Machine::real());
        // These are recorded starts, and condemned objects.
        let left = |node: &Node| {
            let image = node.metadata.image();
            let own = image.node(node.config.node_id);
            (
                own.map_or(0, |own| own.epochs.len()),
                image.condemned().count(),
            )
        };
        start().await.expect("starts").stop().await.expect("stops");
        let node = start().await.expect("starts");
        let (epochs, condemned) = left(&node);
        node.stop().await.expect("stops");
        let elsewhere = dir.path().join("elsewhere");
        std::fs::rename(&store, &elsewhere).expect("is moved");
        let mut reasons = BTreeSet::new();
        for _ in 0..20 {
            let refused = start().await.expect_err("is refused");
            assert!(matches!(refused, NodeError::Storage(_)), "{refused}");
            reasons.insert(refused.to_string());
        }
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        std::fs::remove_dir_all(&store).expect("is empty");
        std::fs::rename(&elsewhere, &store).expect("is moved back");
        let node = start().await.expect("starts");
        // They are of the previous start, which this one closed.
        let more = usize::try_from(UPLOADS_IN_FLIGHT_MAX + INDEXES_IN_FLIGHT_MAX);
        assert_eq!(left(&node), (epochs, condemned + more.expect("few")));
        node.stop().await.expect("stops");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_is_dropped_ends_as_a_killed_process_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, store) = (dir.path().join("data"), dir.path().join("objects"));
        let node = Node::start(config(&data, &store), Machine::real()).await;
        let address = node.expect("starts").address().expect("it listens");
        // the node is dropped, and so are its listeners
        let refused = async {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let refused = timeout(Duration::from_secs(60), refused);
        refused.await.expect("nothing listens any more");
        let node = Node::start(config(&data, &store), Machine::real()).await;
        node.expect("starts").stop().await.expect("stops");
    }

    /// The threads of a machine that run.
    #[derive(Debug, Clone, Default)]
    struct Counted(Arc<AtomicUsize>);

    impl Threads for Counted {
        fn spawn(&self, name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>) {
            let running = Arc::clone(&self.0);
            running.fetch_add(1, Ordering::SeqCst);
            let body = async move {
                body.await;
                running.fetch_sub(1, Ordering::SeqCst);
            };
            RealThreads.spawn(name, Box::pin(body));
        }
    }

    impl Counted {
        /// Waits until no thread runs.
        async fn end(&self) {
            let ended = async {
                while self.0.load(Ordering::SeqCst) > 0 {
                    tokio::task::yield_now().await;
                }
            };
            let ended = timeout(Duration::from_secs(20), ended).await;
            ended.expect("all threads end");
        }
    }

    // Otherwise the next start in the process would open a Raft log that the former one still writes.
    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_left_of_a_start_that_failed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, store) = (dir.path().join("data"), dir.path().join("objects"));
        let threads = Counted::default();
        let machine = || Machine {
            threads: Arc::new(threads.clone()),
            ..Machine::real()
        };
        let node = Node::start(config(&data, &store), machine()).await;
        node.expect("starts").stop().await.expect("stops");
        threads.end().await;
        let elsewhere = dir.path().join("elsewhere");
        std::fs::rename(&store, &elsewhere).expect("is moved");
        let refused = Node::start(config(&data, &store), machine()).await;
        refused.expect_err("is refused");
        threads.end().await;
    }
}
