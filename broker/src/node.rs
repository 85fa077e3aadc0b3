//! The composition root: builds a node from the machine up, and stops it in reverse.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_io::net::{Acceptor, Network, TcpNetwork};
use highwater_io::{Device, DirLock, RealDevice, RealThreads, Threads};
use highwater_kraft_meta::{MetadataStore, RaftMetadata};
use highwater_object_storage::{Claim, ObjectStorage, OpenError};
use highwater_partition_log::{KafkaDeltaFold, ProducerMemory};
use highwater_runtime::{ByteBudget, SeededRng, TaskKind, Tasks, WallClock, WorkPool, reasons};
use highwater_s3stream::{ObjectStreamStore, Parts};
use highwater_types::{NodeEpoch, Uuid};
use highwater_wal::WalFactory;
use highwater_wal::disk::DiskWalFactory;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::Instant;

use crate::auth::{AllowAll, Authorizer};
use crate::banner::Banner;
use crate::broker::Broker;
use crate::config::{Advertised, Config};
use crate::data_dir::DataDir;
use crate::dispatch::Dispatch;
use crate::memory::RequestBudgets;
use crate::metrics::sampled::Sampler;
use crate::net::{self, Connections, Limits};
use crate::partitions::{FetchSessions, PartitionOpener, Partitions};
use crate::stream_metadata::KraftStreamMetadata;
use crate::{coordinators, housekeeping, http, metrics, registration};

/// The machine a node runs on: real, or simulated.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Files and directories.
    pub device: Arc<dyn Device>,
    /// Threads of writers.
    pub threads: Arc<dyn Threads>,
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// The time of day.
    pub clock: WallClock,
    /// Randomness for ids.
    pub rng: SeededRng,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// The commit that the process was built from, for people to see.
    pub commit: &'static str,
    /// Where credentials for the object store may stand.
    pub environment: Arc<BTreeMap<String, String>>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn real() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // the standard library seeds its hashers from the system's randomness
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Self {
            device: Arc::new(RealDevice),
            threads: Arc::new(RealThreads),
            network: Arc::new(TcpNetwork),
            clock: WallClock::system(),
            rng: SeededRng::from_seed(seed),
            authorizer: Arc::new(AllowAll),
            commit: "unknown",
            environment: Arc::new(environment()),
        }
    }
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Why a node does not start or stop: each says what and where.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory is another process's.
    #[error("highwater.data.dir: {0} is in use by another process")]
    InUse(String),
    /// The data directory keeps its objects elsewhere.
    #[error(
        "the data directory {dir} keeps its objects in {remembered}, not in {given}: set \
         highwater.object.storage={remembered}, or take another data directory"
    )]
    OtherStore {
        /// The data directory.
        dir: String,
        /// The store that it remembers.
        remembered: String,
        /// The store that the configuration names.
        given: String,
    },
    /// A directory can't be used.
    #[error("highwater.data.dir: cannot use {path}")]
    Io {
        /// The directory.
        path: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// An address can't be listened on.
    #[error("{setting}: cannot listen on {address}")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// The object store can't be used, or not trusted.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The metadata does not open.
    #[error(transparent)]
    Metadata(#[from] highwater_kraft_meta::OpenError),
    /// The metadata does not answer.
    #[error("the metadata refuses the start")]
    Propose(#[from] highwater_kraft_meta::ProposeError),
    /// The write-ahead log does not open.
    #[error(transparent)]
    Wal(#[from] highwater_wal::WalError),
    /// What the write-ahead log holds cannot be recovered: the metadata may be older (D2), or the object store fails.
    #[error("cannot recover the write-ahead log {path}")]
    Recover {
        /// Its directory.
        path: String,
        /// Why.
        #[source]
        source: highwater_s3stream::StreamError,
    },
    /// Records cannot be uploaded.
    #[error("records cannot be uploaded")]
    Stream(#[from] highwater_s3stream::StreamError),
    /// Metrics cannot be set up.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// A start waits for partitions as long as another one opens within this time; then it listens without the rest.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug)]
pub struct Node {
    broker: Arc<Broker>,
    metadata: Arc<RaftMetadata>,
    tasks: Tasks,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    recovered: u64,
    commit: &'static str,
    _lock: DirLock,
}

struct Storage {
    metadata: Arc<RaftMetadata>,
    streams: ObjectStreamStore,
    epoch: NodeEpoch,
    recovered: u64,
    lock: DirLock,
}

impl Node {
    /// Starts a node: metadata, registration, recovery, partitions, listeners; ready when it returns.
    ///
    /// # Errors
    /// [`NodeError`]: nothing was changed that a later start could not go on from.
    pub async fn start(config: Config, machine: Machine) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let tasks = Tasks::default();
        for key in &config.without_effect {
            tracing::info!("the setting {key} has no effect here");
        }
        for told in config.out_of_reach() {
            tracing::warn!("{told}");
        }
        // first of all, so that an address in use refuses before anything is written
        let (acceptors, advertised) = listen(&config, &*machine.network).await?;
        let admin = listen_admin(&config).await?;
        let storage = open_storage(&config, &machine, &tasks, &advertised).await?;
        let budgets = RequestBudgets::new(&config.memory);
        let slots = usize::try_from(config.int("max.incremental.fetch.session.cache.slots"));
        let metadata: Arc<dyn MetadataStore> = Arc::<RaftMetadata>::clone(&storage.metadata);
        let broker = Arc::new(Broker {
            epoch: storage.epoch,
            metadata,
            partitions: Arc::new(Partitions::new(config.node_id, storage.epoch)),
            streams: storage.streams,
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
            budgets: budgets.clone(),
            advertised,
            clock: machine.clock.clone(),
            rng: machine.rng.clone(),
            producer_ids: Default::default(),
            config: Arc::clone(&config),
        });
        let mut opener = PartitionOpener::new(Arc::clone(&broker));
        opener.follow(broker.metadata.image());
        tasks.spawn(TaskKind::PartitionOpener, opener.run());
        broker.partitions.wait_tried(OPENING_PATIENCE).await;
        let groups = coordinators::follow(Arc::clone(&broker), tasks.clone());
        tasks.spawn(TaskKind::Coordinator, groups);
        tasks.spawn(
            TaskKind::Housekeeping,
            housekeeping::run(Arc::clone(&broker)),
        );
        if let Some((listener, handle)) = admin {
            let sampler = Sampler {
                broker: Arc::clone(&broker),
                device: Arc::clone(&machine.device),
                commit: machine.commit,
            };
            let serve = http::serve(listener, handle, sampler);
            tasks.spawn(TaskKind::AdminHttp, serve);
        }
        let addresses = serve(&broker, &*machine.network, acceptors, budgets, &tasks);
        Ok(Self {
            broker,
            metadata: storage.metadata,
            tasks,
            addresses,
            recovered: storage.recovered,
            commit: machine.commit,
            _lock: storage.lock,
        })
    }

    /// What a person wants to know of a node that just started.
    #[must_use]
    pub fn banner(&self) -> String {
        let listens: Vec<String> = self
            .addresses
            .iter()
            .map(|(name, address)| format!("{name}://{address}"))
            .collect();
        let told = self.broker.advertised.first();
        let banner = Banner {
            config: &self.broker.config,
            cluster: self.broker.metadata.image().cluster(),
            listens: listens.join(", "),
            bootstrap: told.map_or_else(String::new, |told| format!("{}:{}", told.host, told.port)),
            recovered: self.recovered,
            commit: self.commit,
        };
        banner.to_string()
    }

    /// Where the first listener listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.first().map(|(_, address)| *address)
    }

    #[cfg(test)]
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Resolves, with the reason, when the node can't go on.
    pub async fn failed(&self) -> String {
        let ended = self.broker.streams.ended();
        tokio::select! {
            (kind, why) = self.tasks.failed() => format!("the task {kind:?} panicked: {why}"),
            refused = self.broker.streams.failed() => refused,
            error = ended => match error {
                Some(error) => format!("the write-ahead log ended: {}", reasons(&error)),
                None => "the write-ahead log ended".to_owned(),
            },
            why = self.metadata.ended() => format!("the metadata ended: {why}"),
        }
    }

    /// Stops cleanly: no further requests, everything uploaded, so that nothing is left to replay.
    ///
    /// # Errors
    /// [`NodeError`]; what was acknowledged is in the write-ahead log.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.tasks.stop().await;
        self.broker.streams.shutdown().await?;
        self.metadata.shutdown().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

type Listening = (Arc<str>, Box<dyn Acceptor>);

async fn listen(
    config: &Config,
    network: &dyn Network,
) -> Result<(Vec<Listening>, Vec<Advertised>), NodeError> {
    let mut acceptors = Vec::new();
    let mut advertised = config.advertised.clone();
    for listener in &config.listeners {
        let error = |source| NodeError::Listen {
            setting: "listeners",
            address: format!("{}:{}", listener.host, listener.port),
            source,
        };
        let acceptor = network
            .listen(&listener.host, listener.port)
            .await
            .map_err(error)?;
        let port = acceptor.local_addr().map_err(error)?.port();
        for told in advertised
            .iter_mut()
            .filter(|told| told.name == listener.name)
        {
            if told.port == 0 {
                told.port = port;
            }
        }
        acceptors.push((Arc::from(listener.name.as_str()), acceptor));
    }
    Ok((acceptors, advertised))
}

async fn open_storage(
    config: &Config,
    machine: &Machine,
    tasks: &Tasks,
    advertised: &[Advertised],
) -> Result<Storage, NodeError> {
    let dir = &config.data_dir;
    let device = &machine.device;
    let data_dir = DataDir::open(config, Arc::clone(device)).await?;
    let raft = highwater_kraft_meta::Config {
        dir: dir.join("metadata"),
        node: config.node_id,
        cluster: Uuid(machine.rng.next_id()),
        seed: machine.rng.next_u64(),
        new_log_seed: machine.rng.next_id(),
        snapshot_entries: config.snapshot_entries(),
        snapshot_bytes: config.snapshot_bytes(),
    };
    let opened = RaftMetadata::open(raft, Arc::clone(device), &*machine.threads).await?;
    let metadata = Arc::new(opened);
    let (epoch, floor) = registration::register(config, machine, advertised, &*metadata).await?;
    let plan = &config.memory;
    let memory = ByteBudget::with_reserve(plan.log_cache, plan.coordinators);
    let factory = DiskWalFactory::new(
        Arc::clone(device),
        Arc::clone(&machine.threads),
        highwater_wal::disk::Config {
            dir: dir.join("wal"),
            bytes_max: config.size("highwater.wal.size"),
            new_seed: machine.rng.next_id(),
        },
        memory.clone(),
    );
    // before the object store is touched: it may refuse the metadata as older than the log (D2)
    let sealed = factory.seal(config.node_id, epoch, floor).await?;
    let cluster = metadata.image().cluster();
    let as_store: Arc<dyn MetadataStore> = Arc::<RaftMetadata>::clone(&metadata);
    let storage = open_objects(config, machine, (cluster, data_dir.claim())).await?;
    let lock = data_dir.remember().await?;
    let parts = Parts {
        storage,
        metadata: Arc::new(KraftStreamMetadata {
            metadata: as_store,
            epoch,
        }),
        fold: Arc::new(KafkaDeltaFold),
        tasks: tasks.clone(),
        memory,
        cluster,
        node: config.node_id,
        epoch,
        nonce: Uuid(machine.rng.next_id()),
        floor,
    };
    let streams = ObjectStreamStore::new(stream_config(config), parts);
    let since = Instant::now();
    let recovered = streams.recover(sealed).await;
    let recovered = recovered.map_err(|source| NodeError::Recover {
        path: dir.join("wal").display().to_string(),
        source,
    })?;
    let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(batches = recovered, elapsed_ms, "write-ahead log recovered");
    registration::take_over(&*metadata, config.node_id, epoch).await?;
    let wal = factory.open(config.node_id, epoch, streams.sink()).await?;
    // what was uploaded before gives its room back now: on a full disk nothing else may (D3)
    wal.trim(registration::floor(&*metadata, config.node_id))
        .await?;
    streams.attach(wal);
    Ok(Storage {
        metadata,
        streams,
        epoch,
        recovered,
        lock,
    })
}

fn stream_config(config: &Config) -> highwater_s3stream::Config {
    highwater_s3stream::Config {
        upload_interval: config.millis("highwater.upload.interval.ms"),
        upload_bytes: config.size("highwater.upload.size"),
        block_cache_bytes: config.memory.block_cache,
        grace: config.millis("highwater.object.grace.ms"),
    }
}

async fn open_objects(
    config: &Config,
    machine: &Machine,
    cluster: (Uuid, Claim),
) -> Result<Arc<dyn ObjectStorage>, NodeError> {
    let opened = highwater_object_storage::open(
        &config.object_storage,
        cluster,
        &machine.environment,
        Arc::clone(&machine.device),
        machine.rng.clone(),
    );
    Ok(opened.await?.storage)
}

/// Takes the admin address and starts counting: what follows, the first requests to the object store too, is in the metrics.
async fn listen_admin(
    config: &Config,
) -> Result<Option<(tokio::net::TcpListener, PrometheusHandle)>, NodeError> {
    let address = config.text("highwater.admin.listener").to_owned();
    if address.is_empty() {
        return Ok(None);
    }
    let listening = tokio::net::TcpListener::bind(&address).await;
    let listener = listening.map_err(|source| NodeError::Listen {
        setting: "highwater.admin.listener",
        address,
        source,
    })?;
    let handle = metrics::install().map_err(|error| NodeError::Metrics(error.to_string()))?;
    Ok(Some((listener, handle)))
}

fn serve(
    broker: &Arc<Broker>,
    network: &dyn Network,
    acceptors: Vec<Listening>,
    budgets: RequestBudgets,
    tasks: &Tasks,
) -> Vec<(Arc<str>, SocketAddr)> {
    let config = &broker.config;
    let count = |name: &str| usize::try_from(config.int(name)).unwrap_or(0);
    let idle_ms = config.long("connections.max.idle.ms");
    let limits = Limits {
        frames: config.frames(),
        idle: (idle_ms >= 0).then(|| config.millis("connections.max.idle.ms")),
        connections_max: count("max.connections").min(network.connections_max()),
        connections_per_ip_max: count("max.connections.per.ip"),
        read_buffers_bytes: usize::try_from(config.memory.read_buffers).unwrap_or(usize::MAX),
        connections_per_ip: config.connections_per_ip.clone(),
    };
    let connections = Connections::new(limits, budgets);
    let service = Arc::new(Dispatch::new(Arc::clone(broker)));
    let mut addresses = Vec::new();
    for (name, acceptor) in acceptors {
        if let Ok(address) = acceptor.local_addr() {
            addresses.push((Arc::clone(&name), address));
        }
        let (connections, service) = (Arc::clone(&connections), Arc::clone(&service));
        let serving = net::serve(acceptor, name, connections, service, tasks.clone());
        tasks.spawn(TaskKind::Listener, serving);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::Action;
    use highwater_kraft_meta::command::TrimStream;

    use super::*;
    use crate::topics::NewTopic;

    // a DeleteRecords whose client has gone, or whose answer was lost, after it was proposed
    #[tokio::test(flavor = "multi_thread")]
    async fn a_trim_that_nobody_waits_for_moves_the_start_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().display().to_string();
        let settings = [
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("highwater.data.dir", data.as_str()),
            ("highwater.admin.listener", ""),
            ("highwater.wal.size", "64MiB"),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::load(None, [], &settings).expect("is sound");
        let node = Node::start(config, Machine::real()).await.expect("starts");
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions: 1,
            replication_factor: 1,
            ..NewTopic::default()
        };
        let broker = &node.broker;
        let topic = broker.create_topic(topic).await.expect("creates");
        let partition = broker.partitions.find(&topic, 0).expect("is open");
        let trim = TrimStream {
            stream: topic.partitions[0].stream.0,
            start: 5,
            node_epoch: broker.epoch.0,
            leader_epoch: partition.leader_epoch.0,
        };
        let proposed = broker.metadata.propose(Action::TrimStream(trim).into());
        proposed.await.expect("is taken");
        let mut bounds = partition.log.watch();
        let moved = bounds.wait_for(|bounds| bounds.start == 5);
        drop(moved.await.expect("the stream lives"));
        drop(partition);
        node.stop().await.expect("stops");
    }
}
