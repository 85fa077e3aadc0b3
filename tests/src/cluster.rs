//! Controllers and brokers in the test's process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_broker::node::{Machine, Node, NodeProcess};
use highwater_client::{Connection, create_topics, new_topic};
use highwater_protocol::messages::MetadataRequest;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Controllers, Link, TestNode, connect, until};

/// The id of a cluster's first controller, far from those of brokers.
pub const CONTROLLER: i32 = 100;
/// How long the tasks of a killed node may take to end: they end at their next wait.
const END: Duration = Duration::from_secs(10);

/// A runtime that a test may drop anywhere.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    /// Ends it; none of its tasks runs any more when this returns.
    async fn end(mut self) {
        if let Some(runtime) = self.0.take() {
            let ending = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(END));
            ending.await.expect("nothing panics");
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A process of a node, on a runtime of its own, so that it can die with all its tasks.
#[derive(Debug)]
pub(crate) struct Member {
    runtime: OwnRuntime,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<()>>,
    dir: TempDir,
}

impl Member {
    /// Starts a node in a directory that an earlier one may have used.
    pub(crate) async fn start(
        dir: TempDir,
        settings: Vec<(String, String)>,
        machine: Machine,
    ) -> Result<Self> {
        let borrowed = settings.iter().map(|(key, value)| (&**key, &**value));
        let config = TestNode::config(&dir, &borrowed.collect::<Vec<_>>())?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let runtime = OwnRuntime(Some(runtime));
        let starting = handle.spawn(async { Box::pin(NodeProcess::start(config, machine)).await });
        let mut process = starting.await??;
        let address = process.node().and_then(Node::address);
        let (stop, stopping) = oneshot::channel();
        let ended = handle.spawn(async move {
            tokio::select! {
                why = process.ended() => anyhow::bail!("the node ended: {why}"),
                // an error means that the test has ended
                _ = stopping => Ok(process.stop().await?),
            }
        });
        Ok(Self {
            runtime,
            address: address.context("it listens")?,
            stop,
            ended,
            dir,
        })
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Kills it: its tasks are dropped, and nothing is uploaded or said. Returns its directory.
    pub(crate) async fn kill(self) -> TempDir {
        self.runtime.end().await;
        self.dir
    }

    /// Stops it cleanly. Returns its directory.
    pub(crate) async fn stop(self) -> Result<TempDir> {
        // an error means that the node has ended, which the next line reports
        let _told = self.stop.send(());
        self.ended.await??;
        self.runtime.end().await;
        Ok(self.dir)
    }
}

/// Controllers and brokers with the ids 1, 2, and so on; their objects are in one local directory.
#[derive(Debug)]
pub struct Cluster {
    objects: TempDir,
    settings: Vec<(String, String)>,
    machines: BTreeMap<i32, Machine>,
    /// The controllers.
    pub controllers: Controllers,
    brokers: BTreeMap<i32, Member>,
    /// Each broker's ways to the controllers.
    links: BTreeMap<i32, Vec<Link>>,
}

impl Cluster {
    /// Starts a cluster whose brokers write object WALs and upload only when they stop, and waits until each broker knows
    /// the others. These settings override that.
    ///
    /// # Errors
    /// The error of a node's start.
    pub async fn start(brokers: i32, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_on(brokers, settings, BTreeMap::new()).await
    }

    /// Does the same as [`Cluster::start`], with so many controllers.
    ///
    /// # Errors
    /// The error of a node's start.
    pub async fn start_with(
        controllers: i32,
        brokers: i32,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_all((controllers, brokers), settings, BTreeMap::new()).await
    }

    /// Does the same as [`Cluster::start`]; the nodes with these ids run on these machines.
    ///
    /// # Errors
    /// The error of a node's start.
    pub async fn start_on(
        brokers: i32,
        settings: &[(&str, &str)],
        machines: BTreeMap<i32, Machine>,
    ) -> Result<Self> {
        Self::start_all((1, brokers), settings, machines).await
    }

    async fn start_all(
        (controllers, brokers): (i32, i32),
        settings: &[(&str, &str)],
        machines: BTreeMap<i32, Machine>,
    ) -> Result<Self> {
        let objects = TempDir::new()?;
        let store = format!("file://{}", objects.path().display());
        let common = [
            ("highwater.wal", "object"),
            ("highwater.upload.interval.ms", "600000"),
            ("highwater.object.grace.ms", "200"),
            ("broker.session.timeout.ms", "600"),
            ("broker.heartbeat.interval.ms", "100"),
            ("controller.listener.names", "CONTROLLER"),
            ("offsets.topic.num.partitions", "4"),
            ("highwater.memory.limit", "64MiB"),
            ("highwater.object.storage", &store),
        ];
        let all = common.iter().chain(settings);
        let settings: Vec<_> = all
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let ids = CONTROLLER..CONTROLLER + controllers;
        let mut controllers = Controllers::new(ids, "controller", &settings).await?;
        controllers.start_all(&machines).await?;
        let mut cluster = Self {
            objects,
            settings,
            machines,
            controllers,
            brokers: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        for id in 1..=brokers {
            cluster.start_broker(id).await?;
        }
        for id in 1..=brokers {
            until("each broker knows all others", async || {
                let mut client = cluster.client(id).await?;
                let metadata = client.call(&MetadataRequest::default(), 9).await?;
                Ok(metadata.brokers.len() == cluster.brokers.len())
            })
            .await?;
        }
        Ok(cluster)
    }

    /// Starts a broker with a new data directory.
    ///
    /// # Errors
    /// The error of its start.
    pub async fn start_broker(&mut self, id: i32) -> Result<()> {
        self.start_broker_while(id, async |_| Ok(())).await
    }

    /// Starts a broker that is configured with the addresses of these controllers alone, and calls them without a link.
    ///
    /// # Errors
    /// The error of its start.
    pub async fn start_broker_by(&mut self, id: i32, controllers: &[i32]) -> Result<()> {
        let known = controllers.iter();
        let known: Vec<String> = known
            .map(|id| format!("127.0.0.1:{}", self.controllers.port(*id)))
            .collect();
        let own = [
            ("process.roles", "broker".to_owned()),
            ("node.id", id.to_string()),
            ("controller.quorum.bootstrap.servers", known.join(",")),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let settings = [self.settings.clone(), own.to_vec()].concat();
        let started = Member::start(TempDir::new()?, settings, Machine::real()).await?;
        self.brokers.insert(id, started);
        Ok(())
    }

    /// Starts a broker with a new data directory, and does something else meanwhile.
    ///
    /// # Errors
    /// The error of its start, or of what is done meanwhile.
    pub async fn start_broker_while(
        &mut self,
        id: i32,
        meanwhile: impl AsyncFnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        self.start_another(id, &[], meanwhile).await
    }

    /// Starts a broker with a new data directory, and with settings that override those of the cluster.
    ///
    /// # Errors
    /// The error of its start.
    pub async fn start_broker_with(&mut self, id: i32, other: &[(String, String)]) -> Result<()> {
        self.start_another(id, other, async |_| Ok(())).await
    }

    async fn start_another(
        &mut self,
        id: i32,
        other: &[(String, String)],
        meanwhile: impl AsyncFnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let mut links = Vec::new();
        for address in self.controllers.addresses() {
            links.push(Link::to(address).await?);
        }
        // it calls a controller that is configured with its id by that link alone
        let named = self.controllers.ids().into_iter().zip(&links);
        let named = named.map(|(id, link)| format!("{id}@{}", link.address));
        let named: Vec<String> = named.collect();
        let own = [
            ("process.roles", "broker".to_owned()),
            ("node.id", id.to_string()),
            ("controller.quorum.voters", named.join(",")),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        self.links.insert(id, links);
        let machine = self.machines.get(&id).cloned();
        let starting = Member::start(
            TempDir::new()?,
            [&self.settings[..], other, &own].concat(),
            machine.unwrap_or_else(Machine::real),
        );
        let (started, ()) = tokio::try_join!(starting, meanwhile(self))?;
        self.brokers.insert(id, started);
        Ok(())
    }

    /// Cuts a broker's links to the controllers, or mends them. Clients, other brokers and the store are reached meanwhile.
    ///
    /// # Panics
    /// There is no such broker.
    pub fn set_cut(&self, id: i32, is_cut: bool) {
        for link in &self.links[&id] {
            link.set_cut(is_cut);
        }
    }

    /// Kills a broker: its tasks are dropped, nothing is uploaded or said, and its data directory is deleted.
    ///
    /// # Panics
    /// There is no such broker.
    pub async fn kill(&mut self, id: i32) {
        let killed = self.brokers.remove(&id).expect("it runs");
        drop(killed.kill().await);
        self.links.remove(&id);
    }

    /// Stops a broker cleanly.
    ///
    /// # Errors
    /// The error of its stop.
    ///
    /// # Panics
    /// There is no such broker.
    pub async fn stop_broker(&mut self, id: i32) -> Result<()> {
        self.stop_broker_while(id, async |_| Ok(())).await
    }

    /// Stops a broker cleanly, and does something else meanwhile.
    ///
    /// # Errors
    /// The error of its stop, or of what is done meanwhile.
    ///
    /// # Panics
    /// There is no such broker.
    pub async fn stop_broker_while(
        &mut self,
        id: i32,
        meanwhile: impl AsyncFnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let stopped = self.brokers.remove(&id).expect("it runs");
        tokio::try_join!(stopped.stop(), meanwhile(self))?;
        self.links.remove(&id);
        Ok(())
    }

    /// Stops all nodes cleanly, the controllers last.
    ///
    /// # Errors
    /// The first error of a stop.
    pub async fn stop(mut self) -> Result<()> {
        for id in self.brokers.keys().copied().collect::<Vec<_>>() {
            self.stop_broker(id).await?;
        }
        self.controllers.stop().await
    }

    /// The directory of the objects.
    #[must_use]
    pub fn objects(&self) -> &Path {
        self.objects.path()
    }

    /// The address of a broker.
    ///
    /// # Panics
    /// There is no such broker.
    #[must_use]
    pub fn address(&self, id: i32) -> SocketAddr {
        self.brokers[&id].address
    }

    /// Whether a broker runs: it was started, and neither killed nor stopped.
    #[must_use]
    pub fn is_running(&self, id: i32) -> bool {
        self.brokers.contains_key(&id)
    }

    /// Opens a connection to a broker.
    ///
    /// # Errors
    /// The broker refused the connection.
    pub async fn client(&self, id: i32) -> Result<Connection> {
        connect(self.address(id)).await
    }

    /// Creates a topic by a broker. The partitions of all topics are led by the live brokers in turn, beginning with broker 1.
    ///
    /// # Errors
    /// An error of the client, or the error code of the answer.
    pub async fn create_topic(&self, by: i32, name: &str, partitions: i32) -> Result<()> {
        let request = create_topics(vec![new_topic(name, partitions, &[])]);
        let response = self.client(by).await?.call(&request, 7).await?;
        let topic = response.topics.first().context("one topic is answered")?;
        anyhow::ensure!(topic.error_code == 0, "{topic:?}");
        Ok(())
    }
}
