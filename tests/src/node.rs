//! A node in the test's process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use highwater_broker::auth::Authorizer;
use highwater_broker::config::Config;
use highwater_broker::node::{Machine, Node};
use highwater_client::{Connection, create_topics, delete_topic, new_topic};
use tempfile::TempDir;

use crate::connect;

/// A running node with a port and a directory of its own.
#[derive(Debug)]
pub struct TestNode {
    node: Node,
    /// The address that the node listens on.
    pub address: SocketAddr,
    /// The node's directory, which is removed when this value is dropped.
    pub dir: TempDir,
}

/// The object store. It is in the node's own directory, unless `HIGHWATER_TEST_OBJECT_STORAGE` names another store;
/// there each directory has its own prefix, which a later node in the same directory finds again.
fn object_storage(dir: &TempDir) -> Vec<(String, String)> {
    let Ok(url) = std::env::var("HIGHWATER_TEST_OBJECT_STORAGE") else {
        return Vec::new();
    };
    let own = dir.path().file_name().unwrap_or_default().to_string_lossy();
    let mut settings = vec![(
        "highwater.object.storage".to_owned(),
        format!("{url}/{own}"),
    )];
    if let Ok(endpoint) = std::env::var("HIGHWATER_OBJECT_STORAGE_ENDPOINT") {
        settings.push(("highwater.object.storage.endpoint".to_owned(), endpoint));
    }
    settings
}

fn objects_in(dir: &TempDir) -> PathBuf {
    dir.path().join("data").join("objects")
}

impl TestNode {
    /// Starts a node with these settings in addition to those of all tests.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let dir = TempDir::new()?;
        Self::start_in(dir, settings, Machine::real()).await
    }

    /// Starts a node with an authorizer.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start_with(authorizer: Arc<dyn Authorizer>) -> Result<Self> {
        let machine = Machine {
            authorizer,
            ..Machine::real()
        };
        Self::start_in(TempDir::new()?, &[], machine).await
    }

    /// Starts a node whose object store is in its own directory, for a test that reads the store's files or makes them
    /// fail.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start_local(dir: TempDir, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_local_on(dir, settings, Machine::real()).await
    }

    /// Does the same as [`TestNode::start_local`], on another machine.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start_local_on(
        dir: TempDir,
        settings: &[(&str, &str)],
        machine: Machine,
    ) -> Result<Self> {
        let store = Self::local_store(&dir);
        let settings = [&[("highwater.object.storage", store.as_str())], settings].concat();
        Self::start_in(dir, &settings, machine).await
    }

    /// What the node prints when it has started.
    #[must_use]
    pub fn banner(&self) -> String {
        self.node.banner()
    }

    /// Resolves with the reason when the node can't go on.
    pub async fn failed(&self) -> String {
        self.node.ended().await.to_string()
    }

    /// Starts a node in a directory that an earlier node may have used.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start_in(
        dir: TempDir,
        settings: &[(&str, &str)],
        machine: Machine,
    ) -> Result<Self> {
        let config = Self::config(&dir, settings)?;
        // The future is boxed, so that the stack of each test does not grow with that of a start.
        let node = Box::pin(Node::start(config, machine)).await?;
        let address = node.address().context("it listens")?;
        Ok(Self { node, address, dir })
    }

    /// The name of the object store in a node's own directory.
    #[must_use]
    pub fn local_store(dir: &TempDir) -> String {
        format!("file://{}", objects_in(dir).display())
    }

    /// The files of the object store in the node's own directory.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        objects_in(&self.dir)
    }

    /// The configuration of a node in a directory: the settings of all tests, overridden by these settings.
    ///
    /// # Errors
    /// The violations in the configuration.
    pub fn config(dir: &TempDir, settings: &[(&str, &str)]) -> Result<Config> {
        let data = dir.path().join("data").display().to_string();
        let own = [
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("highwater.data.dir", data.as_str()),
            ("highwater.admin.listener", ""),
            ("highwater.wal.size", "64MiB"),
            ("group.initial.rebalance.delay.ms", "0"),
        ];
        let mut flags = object_storage(dir);
        flags.extend(
            own.iter()
                .chain(settings)
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        Ok(Config::load(None, [], &flags)?)
    }

    /// Opens a new connection.
    ///
    /// # Errors
    /// The node refused the connection.
    pub async fn client(&self) -> Result<Connection> {
        connect(self.address).await
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// An error of the client, or the error code of the answer.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let request = create_topics(vec![new_topic(name, partitions, configs)]);
        let response = self.client().await?.call(&request, 7).await?;
        let topic = response.topics.first().context("one topic is answered")?;
        anyhow::ensure!(topic.error_code == 0, "{topic:?}");
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// An error of the client, or the error code of the answer.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let answer = self.client().await?.call(&delete_topic(name), 5).await?;
        let topic = answer.responses.first().context("one topic is answered")?;
        anyhow::ensure!(topic.error_code == 0, "{topic:?}");
        Ok(())
    }

    /// Ends the node as a killed process does, and returns its directory.
    #[must_use]
    pub fn kill(self) -> TempDir {
        drop(self.node);
        self.dir
    }

    /// Stops the node cleanly, and returns its directory.
    ///
    /// # Errors
    /// The error of the node's stop.
    pub async fn stop(self) -> Result<TempDir> {
        self.node.stop().await?;
        Ok(self.dir)
    }
}
