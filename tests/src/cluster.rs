//! A controller and several brokers in the test's process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_broker::node::{Machine, Node, NodeProcess};
use highwater_client::{Connection, create_topics, new_topic};
use highwater_protocol::messages::MetadataRequest;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Link, TestNode, connect, until};

/// The id of a cluster's controller, far from those of brokers.
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
struct Member {
    runtime: OwnRuntime,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<()>>,
    dir: TempDir,
}

impl Member {
    async fn start(settings: Vec<(String, String)>, machine: Machine) -> Result<Self> {
        let dir = TempDir::new()?;
        let borrowed = settings.iter().map(|(key, value)| (&**key, &**value));
        let config = TestNode::config(&dir, &borrowed.collect::<Vec<_>>())?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let starting = runtime.spawn(async { Box::pin(NodeProcess::start(config, machine)).await });
        let mut process = starting.await??;
        let address = process.node().and_then(Node::address);
        let (stop, stopping) = oneshot::channel();
        let ended = runtime.spawn(async move {
            tokio::select! {
                why = process.ended() => anyhow::bail!("the node ended: {why}"),
                // an error means that the test has ended
                _ = stopping => Ok(process.stop().await?),
            }
        });
        Ok(Self {
            runtime: OwnRuntime(Some(runtime)),
            address: address.context("it listens")?,
            stop,
            ended,
            dir,
        })
    }
}

/// One controller and brokers with the ids 1, 2, and so on; their objects are in one local directory.
#[derive(Debug)]
pub struct Cluster {
    objects: TempDir,
    settings: Vec<(String, String)>,
    machines: BTreeMap<i32, Machine>,
    controller: Member,
    brokers: BTreeMap<i32, Member>,
    /// Each broker's way to the controller.
    links: BTreeMap<i32, Link>,
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

    /// Does the same as [`Cluster::start`]; the nodes with these ids run on these machines.
    ///
    /// # Errors
    /// The error of a node's start.
    pub async fn start_on(
        brokers: i32,
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
        let own = [
            ("process.roles", "controller".to_owned()),
            ("node.id", CONTROLLER.to_string()),
            ("listeners", "CONTROLLER://127.0.0.1:0".to_owned()),
            // it is the only one, and calls no other
            (
                "controller.quorum.bootstrap.servers",
                "127.0.0.1:1".to_owned(),
            ),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let machine = machines.get(&CONTROLLER).cloned();
        let controller = Member::start(
            [settings.clone(), own.to_vec()].concat(),
            machine.unwrap_or_else(Machine::real),
        )
        .await?;
        let mut cluster = Self {
            objects,
            settings,
            machines,
            controller,
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
        let link = Link::to(self.controller.address).await?;
        let own = [
            ("process.roles", "broker".to_owned()),
            ("node.id", id.to_string()),
            (
                "controller.quorum.bootstrap.servers",
                link.address.to_string(),
            ),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let machine = self.machines.get(&id).cloned();
        let started = Member::start(
            [self.settings.clone(), own.to_vec()].concat(),
            machine.unwrap_or_else(Machine::real),
        )
        .await?;
        self.brokers.insert(id, started);
        self.links.insert(id, link);
        Ok(())
    }

    /// Cuts a broker's link to the controller, or mends it. Clients, other brokers and the store are reached meanwhile.
    ///
    /// # Panics
    /// There is no such broker.
    pub fn set_cut(&self, id: i32, is_cut: bool) {
        self.links[&id].set_cut(is_cut);
    }

    /// Kills a broker: its tasks are dropped, nothing is uploaded or said, and its data directory is deleted.
    ///
    /// # Panics
    /// There is no such broker.
    pub async fn kill(&mut self, id: i32) {
        let killed = self.brokers.remove(&id).expect("it runs");
        killed.runtime.end().await;
        drop(killed.dir);
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
        let stopped = self.brokers.remove(&id).expect("it runs");
        // an error means that the node has ended, which the next line reports
        let _told = stopped.stop.send(());
        stopped.ended.await??;
        stopped.runtime.end().await;
        self.links.remove(&id);
        Ok(())
    }

    /// Stops all nodes cleanly, the controller last.
    ///
    /// # Errors
    /// The first error of a stop.
    pub async fn stop(mut self) -> Result<()> {
        for id in self.brokers.keys().copied().collect::<Vec<_>>() {
            self.stop_broker(id).await?;
        }
        let controller = self.controller;
        let _told = controller.stop.send(());
        controller.ended.await??;
        controller.runtime.end().await;
        Ok(())
    }

    /// The directory of the objects.
    #[must_use]
    pub fn objects(&self) -> &std::path::Path {
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
