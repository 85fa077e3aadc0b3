//! Three controllers and three brokers with their records in the object store, each a process of the real binary.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_kafka_peer::process::{self, get};

use crate::broker::{end, free_port, wait};
use crate::time::pause;

/// The controllers that form the quorum.
pub(crate) const CONTROLLERS: [u32; 3] = [7101, 7102, 7103];
/// A controller that joins later.
pub(crate) const JOINS: u32 = 7104;
pub(crate) const BROKERS: [u32; 3] = [1, 2, 3];
const BINARY: &str = "target/release/highwater";
/// What nodes log while the controllers start.
const STARTING: [&str; 2] = [
    "waiting for a controller",
    "the controller is still starting",
];
const TRIES: u32 = 400;
const TRY_EVERY: Duration = Duration::from_millis(50);
/// The number of brokers that serve, which only the active controller counts.
const ACTIVE: &str = "highwater_controller_registered_brokers{state=\"active\"} ";

/// The rack of a node: each has its own.
pub(crate) fn rack(id: u32) -> String {
    format!("rack-{id}")
}

/// The processes; killed when dropped.
pub(crate) struct Cluster {
    dir: PathBuf,
    common: Vec<String>,
    nodes: BTreeMap<u32, Node>,
}

struct Node {
    /// The address of its only listener.
    address: String,
    /// The address of its metrics.
    admin: String,
    running: Option<Child>,
}

impl Node {
    fn new() -> Result<Self> {
        Ok(Self {
            address: format!("127.0.0.1:{}", free_port()?),
            admin: format!("127.0.0.1:{}", free_port()?),
            running: None,
        })
    }
}

impl Cluster {
    /// Starts the three controllers and the three brokers in a new directory, with settings (`KEY=VALUE`) of all, and waits
    /// until every broker serves.
    pub(crate) fn start(name: &str, own: &[&str]) -> Result<Self> {
        let dir = Path::new("target/test-run").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let dir = std::fs::canonicalize(dir)?;
        let mut common = vec![
            "highwater.wal=object".to_owned(),
            "highwater.memory.limit=128MiB".to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
        ];
        common.extend(own.iter().map(|&setting| setting.to_owned()));
        if std::env::var_os("HIGHWATER_OBJECT_STORAGE").is_none() {
            common.push(format!(
                "highwater.object.storage=file://{}/objects",
                dir.display()
            ));
        }
        let mut cluster = Self {
            dir,
            common,
            nodes: BTreeMap::new(),
        };
        let all = || CONTROLLERS.into_iter().chain(BROKERS);
        for id in all() {
            cluster.nodes.insert(id, Node::new()?);
        }
        for id in all() {
            cluster.spawn(id)?;
        }
        for id in all() {
            cluster.wait(id)?;
        }
        cluster.leader(BROKERS.len())?;
        Ok(cluster)
    }

    /// Starts a further controller, which is configured with the addresses of the others alone.
    pub(crate) fn join(&mut self) -> Result<()> {
        self.nodes.insert(JOINS, Node::new()?);
        self.start_node(JOINS)
    }

    fn node(&self, id: u32) -> &Node {
        &self.nodes[&id]
    }

    /// The address of a node's only listener.
    pub(crate) fn address(&self, id: u32) -> &str {
        &self.node(id).address
    }

    /// The addresses of all brokers.
    pub(crate) fn bootstrap(&self) -> String {
        BROKERS.map(|id| self.address(id)).join(",")
    }

    pub(crate) fn data_dir(&self, id: u32) -> PathBuf {
        self.dir.join(format!("node-{id}"))
    }

    fn log(&self, id: u32) -> PathBuf {
        self.dir.join(format!("node-{id}.log"))
    }

    /// The settings with which a node starts.
    fn settings(&self, id: u32) -> Vec<String> {
        let (role, listener) = match BROKERS.contains(&id) {
            true => ("broker", "PLAINTEXT"),
            false => ("controller", "CONTROLLER"),
        };
        let quorum = match id {
            JOINS => {
                let known = CONTROLLERS.map(|id| self.address(id)).join(",");
                format!("controller.quorum.bootstrap.servers={known}")
            }
            _ => {
                let voters = CONTROLLERS.map(|id| format!("{id}@{}", self.address(id)));
                format!("controller.quorum.voters={}", voters.join(","))
            }
        };
        let own = [
            format!("process.roles={role}"),
            format!("node.id={id}"),
            format!("broker.rack={}", rack(id)),
            format!("listeners={listener}://{}", self.address(id)),
            format!("highwater.data.dir={}", self.data_dir(id).display()),
            format!("highwater.admin.listener={}", self.node(id).admin),
            quorum,
        ];
        [self.common.clone(), own.to_vec()].concat()
    }

    fn spawn(&mut self, id: u32) -> Result<()> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.log(id))?;
        let settings = self.settings(id);
        let child = Command::new(BINARY)
            .arg("start")
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start a node")?;
        let node = self.nodes.get_mut(&id).context("the node has no address")?;
        node.running = Some(child);
        Ok(())
    }

    fn wait(&mut self, id: u32) -> Result<()> {
        let log = self.log(id);
        let node = self.nodes.get_mut(&id).context("the node has no address")?;
        let child = node.running.as_mut().context("the node was not started")?;
        wait(child, &node.address, &log)
    }

    /// Starts a node in its directory, and waits until it listens.
    pub(crate) fn start_node(&mut self, id: u32) -> Result<()> {
        self.spawn(id)?;
        self.wait(id)
    }

    /// Runs a command of `highwater` about a node, such as `drain` or `add-controller`.
    pub(crate) fn operate(&self, command: &str, id: u32) -> Result<()> {
        let settings = self.settings(id);
        let mut highwater = Command::new(BINARY);
        highwater.args([command, &id.to_string()]);
        highwater.args(settings.iter().flat_map(|setting| ["--set", setting]));
        process::run(&mut highwater)
    }

    fn take(&mut self, id: u32) -> Result<Child> {
        let node = self.nodes.get_mut(&id);
        let child = node.and_then(|node| node.running.take());
        child.with_context(|| format!("node {id} does not run"))
    }

    /// Stops a node, which has to end by itself.
    pub(crate) fn stop_node(&mut self, id: u32) -> Result<()> {
        let mut child = self.take(id)?;
        let is_clean = process::stop(&mut child)?;
        ensure!(
            is_clean && child.wait()?.success(),
            "node {id} did not stop: {}",
            std::fs::read_to_string(self.log(id))?
        );
        Ok(())
    }

    /// Kills a node that loses its disk.
    pub(crate) fn lose(&mut self, id: u32) -> Result<()> {
        end(&mut self.take(id)?);
        std::fs::remove_dir_all(self.data_dir(id))?;
        Ok(())
    }

    /// The active controller, once it counts at least so many brokers that serve.
    pub(crate) fn leader(&self, brokers: usize) -> Result<u32> {
        let controllers = || CONTROLLERS.into_iter().chain([JOINS]);
        for _ in 0..TRIES {
            for id in controllers() {
                let Some(node) = self.nodes.get(&id).filter(|node| node.running.is_some()) else {
                    continue;
                };
                let metrics = get(&node.admin, "/metrics").unwrap_or_default();
                let mut lines = metrics.lines();
                let count = lines.find_map(|line| line.strip_prefix(ACTIVE));
                if count
                    .is_some_and(|count| count.parse().is_ok_and(|count: usize| count >= brokers))
                {
                    return Ok(id);
                }
            }
            pause(TRY_EVERY);
        }
        bail!("no controller counts {brokers} brokers that serve")
    }

    /// The id of a controller's data directory, as Kafka's tools read it, once the controller takes its part.
    pub(crate) fn directory_id(&self, id: u32) -> Result<String> {
        let path = self.data_dir(id).join("metadata/meta.properties");
        for _ in 0..TRIES {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines = text.lines();
            if let Some(told) = lines.find_map(|line| line.strip_prefix("directory.id=")) {
                return Ok(told.to_owned());
            }
            pause(TRY_EVERY);
        }
        bail!("controller {id} has no directory.id")
    }

    /// Stops all, the controllers last; fails if a log has a warning or an error that `expected` does not name and that is
    /// not of a start.
    pub(crate) fn stop(mut self, expected: &[&str]) -> Result<()> {
        let running = |node: &Node| node.running.is_some();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if running(self.node(id)) {
                self.stop_node(id)?;
            }
        }
        let is_expected = |line: &str| {
            let mut parts = expected.iter().chain(&STARTING);
            parts.any(|part| line.contains(part))
        };
        let mut bad = Vec::new();
        for id in self.nodes.keys() {
            let log = std::fs::read_to_string(self.log(*id))?;
            let lines = log
                .lines()
                .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
            let lines = lines.filter(|line| !is_expected(line));
            bad.extend(lines.map(|line| format!("node {id}: {line}")));
        }
        ensure!(bad.is_empty(), "nodes logged:\n{}", bad.join("\n"));
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            if let Some(child) = &mut node.running {
                end(child);
            }
        }
    }
}
