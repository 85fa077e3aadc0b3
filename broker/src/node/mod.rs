//! The composition root: it builds a node on its machine, and stops it in reverse order.

mod role;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use highwater_io::DirLock;
use highwater_runtime::{Backoff, ControlRuntime, TaskKind, Tasks};
use highwater_s3stream::StreamError;
use highwater_wal::WalError;
use tokio::sync::watch;
use tokio::time::timeout;

use self::role::Role;
use crate::addresses::{Addresses, Listening};
use crate::banner::Banner;
#[cfg(test)]
use crate::broker::Broker;
use crate::cluster::BrokerEndpoint;
use crate::config::Config;
use crate::metrics::sampled::ControllerSampler;
use crate::partitions::handing_over;
use crate::quorum::NetworkTransport;
use crate::starting::Phase;
use crate::storage::Stores;
use crate::{controller, http, storage};

pub use crate::give_up::{GivingUp, Loss};
pub use crate::machine::Machine;
pub use crate::node_error::{NodeEnd, NodeError};
pub use crate::node_process::NodeProcess;

/// How long a stop waits until the write-ahead log holds what was appended: no longer than the others would wait for a
/// broker that died (A5).
const WAL_STOP_MAX: Duration = Duration::from_secs(3);
/// How long a stop waits until the metadata has ended, whose log may be on a disk that hangs (A5).
const METADATA_STOP_MAX: Duration = Duration::from_secs(5);
/// The bounds of the wait before a start of the broker that follows a fence.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A running node. If it is dropped before it is stopped, its tasks end at once.
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    machine: Machine,
    stores: Stores,
    phase: watch::Sender<Phase>,
    /// `None` without the role `broker`, and until its broker has started.
    role: Option<Role>,
    /// The tasks that do not end with the node epoch.
    tasks: Tasks,
    addresses: Addresses,
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
    /// Leaves the tasks to what was started.
    fn hand_over(mut self) -> Tasks {
        std::mem::take(&mut self.0)
    }
}

impl Drop for StartTasks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    /// Starts a node: addresses, health and metrics, storage, partitions, listeners. The node is ready when this
    /// returns; a client that connects before is answered then. A start of the broker whose epoch is fenced before it is
    /// over, because it was slow or cut off, is tried again as a new epoch. If the future is dropped, the start ends as if
    /// the process was killed.
    ///
    /// # Errors
    /// [`NodeError`]: a later start can go on from every change that was made, and a start that is refused has changed
    /// nothing.
    pub async fn start(config: Config, machine: Machine) -> Result<Self, NodeError> {
        let mut rests = rests(&machine);
        Self::start_resting(config, machine, &mut rests).await
    }

    /// [`Node::start`] with its waits. The future is of one type with no name, because the compiler would otherwise put a
    /// copy of the whole start into each place that polls one.
    pub(crate) fn start_resting(
        config: Config,
        machine: Machine,
        rests: &mut Backoff,
    ) -> BoxFuture<'_, Result<Self, NodeError>> {
        async move {
            let (mut node, found) = Self::open(config, machine).boxed().await?;
            let Some(found) = found else {
                return Ok(node);
            };
            let started = match node.start_broker(found).await {
                Err(error) if error.is_fence() => {
                    role::tell(&error);
                    node.role_again(None, rests).await
                }
                started => started,
            };
            match started {
                Ok(role) => {
                    node.role = Some(role);
                    Ok(node)
                }
                Err(error) => {
                    node.close().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }

    /// Binds the addresses of a node. This comes first, so that an address in use refuses the start before anything is
    /// written.
    ///
    /// # Errors
    /// [`NodeError`].
    async fn bind(
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

    /// Starts a node but for its broker, and finds the logs of that.
    async fn open(
        config: Config,
        machine: Machine,
    ) -> Result<(Self, Option<role::Found>), NodeError> {
        let (config, addresses) = Self::bind(config, &machine).await?;
        let control = machine.control.start().map_err(NodeError::Control)?;
        let tasks = StartTasks(Tasks::new(control.clone()));
        let of_broker = StartTasks(Tasks::new(control));
        let phase = watch::Sender::new(Phase::Metadata);
        let controlling = Arc::<OnceLock<ControllerSampler>>::default();
        let told = (&phase, &controlling);
        let all = (&tasks.0, &of_broker.0);
        let (stores, logs, lock) = match open_stores(&config, &machine, all, told, &addresses).await
        {
            Ok(opened) => opened,
            Err(error) => {
                of_broker.0.stop().await;
                tasks.0.stop().await;
                return Err(error);
            }
        };
        // The controller starts first, because on a full store the recovery of the broker needs the room of condemned
        // objects, which the controller deletes (D3).
        if config.quorum.roles.controller {
            controller::start(&config, &tasks.0, &stores.metadata, &stores.objects);
            let sampler = controlling.get_or_init(|| ControllerSampler {
                metadata: Arc::clone(&stores.metadata),
                node: config.node_id,
                device: Arc::clone(&machine.device),
                data_dir: config.data_dir.clone(),
            });
            if logs.is_none() {
                phase.send_replace(Phase::Controlling(sampler.clone()));
            }
        }
        let node = Self {
            stores,
            phase,
            addresses,
            role: None,
            tasks: tasks.hand_over(),
            lock: Some(lock),
            _control: machine.control.clone(),
            config,
            machine,
        };
        Ok((node, logs.map(|logs| (logs, of_broker))))
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
        let bootstrap = self.role.as_ref().and_then(|role| {
            let own = role.broker.cluster().own_endpoint();
            own.map(endpoint)
        });
        let banner = Banner {
            config: &self.config,
            cluster: self.stores.metadata.image().cluster(),
            listens: listens.join(", "),
            bootstrap,
            recovered: self.role.as_ref().map_or(0, |role| role.recovered),
            commit: self.machine.commit,
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
        let role = self.role.as_ref();
        &role.expect("the node has the role broker").broker
    }

    #[cfg(test)]
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Resolves, with the reason, when the node can't go on. Until then the future looks whether the node epoch was
    /// fenced, so it must be polled for as long as the node runs.
    pub async fn ended(&self) -> NodeEnd {
        let broker_ended = async {
            match &self.role {
                Some(role) => role.ended().await,
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            // the metadata may end for the same reason as the broker
            biased;
            why = broker_ended => why,
            why = self.failed() => why,
        };
        // The log of an epoch that was fenced ends first, and any other part of the node may follow it.
        let streams = self.role.as_ref().map(|role| &role.broker.streams);
        let log = streams.and_then(|streams| streams.ended().now_or_never().flatten());
        match log {
            Some(WalError::Fenced { reason }) => NodeEnd::Fenced(reason),
            _ => NodeEnd::Failed(why),
        }
    }

    /// Resolves, with the reason, when what goes on without the broker can't go on.
    async fn failed(&self) -> String {
        tokio::select! {
            // a task may return because the metadata has ended
            biased;
            why = self.stores.metadata.ended() => format!("the metadata ended: {why}"),
            (kind, how) = self.tasks.failed() => format!("the task {kind:?} {how}"),
        }
    }

    /// Stops: the node takes no further requests, and uploads what it can, so that the next start has nothing to replay.
    /// This takes 26 s at most, whatever the store and the disk do (A5). If a disk hangs, the data directory stays locked
    /// until the process has ended, because a thread may still write there.
    ///
    /// # Errors
    /// [`NodeError`]; every acknowledged record is in the write-ahead log.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        let mut stopped = Ok(());
        if let Some(role) = &self.role {
            handing_over::leave(&role.broker).await;
            stopped = role.end(Some(WAL_STOP_MAX)).await;
        }
        self.tasks.stop().await;
        let ended = timeout(METADATA_STOP_MAX, self.stores.metadata.shutdown()).await;
        let (stopped, wal_is_writing) = match stopped {
            Err(StreamError::Wal(WalError::Late { is_writing })) => {
                tracing::warn!(
                    "stopped with appends that are not durable: none of them was acknowledged"
                );
                (Ok(()), is_writing)
            }
            // the epoch was fenced, and the node learned it while it stopped
            Err(StreamError::Fenced { epoch }) => {
                tracing::warn!(
                    node_epoch = epoch.0,
                    "stopped as a fenced epoch: what it acknowledged was in its write-ahead log"
                );
                (Ok(()), false)
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
}

/// Serves health and the other nodes, and opens the stores.
async fn open_stores(
    config: &Arc<Config>,
    machine: &Machine,
    (tasks, of_broker): (&Tasks, &Tasks),
    (phase, controlling): (&watch::Sender<Phase>, &Arc<OnceLock<ControllerSampler>>),
    addresses: &Addresses,
) -> Result<storage::Found, NodeError> {
    if let Some(admin) = addresses.admin.clone() {
        let control = tasks.control().clone();
        let told = (phase.subscribe(), Arc::clone(controlling));
        let serve = http::serve(admin, told, machine.commit, control);
        tasks.spawn(TaskKind::AdminHttp, serve);
    }
    addresses.tls.watch(tasks);
    let of_calls = addresses.tls.of_calls();
    let controllers = NetworkTransport::new(config, machine, tasks.control(), of_calls);
    let controllers = Arc::new(controllers);
    let listeners = addresses.listeners.iter().cloned();
    let for_nodes = |listening: &Listening| config.quorum.is_listener(&listening.name);
    controllers.listen(listeners.filter(for_nodes).collect(), tasks);
    storage::open(config, machine, (tasks, of_broker), phase, &controllers).await
}

/// The waits before the starts of a broker that follow a fence. They grow while fences follow each other, so that two nodes
/// that fence each other don't load the controllers.
pub(crate) fn rests(machine: &Machine) -> Backoff {
    let (first, max) = REST;
    Backoff::new(first, max, machine.rng.clone())
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
            let image = node.stores.metadata.image();
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
        assert!(!store.exists(), "nothing is made there");
        std::fs::rename(&elsewhere, &store).expect("is moved back");
        let node = start().await.expect("starts");
        // They are of the previous start, which this one closed.
        let more = usize::try_from(UPLOADS_IN_FLIGHT_MAX + INDEXES_IN_FLIGHT_MAX);
        assert_eq!(left(&node), (epochs, condemned + more.expect("few")));
        node.stop().await.expect("stops");
    }

    // D3: a first start that is fenced waits, and what it can't do without is watched meanwhile
    #[tokio::test(flavor = "multi_thread")]
    async fn a_fenced_start_ends_with_the_metadata_and_with_a_task() {
        for loses_a_task in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let config = config(&dir.path().join("data"), &dir.path().join("objects"));
            let machine = Machine::real();
            let mut rests = Backoff::new(Duration::MAX, Duration::MAX, machine.rng.clone());
            let (node, found) = Node::open(config, machine).boxed().await.expect("opens");
            drop(found);
            let ends = async {
                match loses_a_task {
                    true => node.tasks.spawn(TaskKind::Reaper, async {}),
                    false => node.stores.metadata.shutdown().await.expect("ends"),
                }
            };
            let again = timeout(Duration::from_secs(60), node.role_again(None, &mut rests));
            let (again, ()) = tokio::join!(again, ends);
            let error = again.expect("it ends").expect_err("it does not start");
            assert!(matches!(error, NodeError::Ended(_)), "{error}");
            node.close().await;
        }
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
