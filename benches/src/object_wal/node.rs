//! Processes of Highwater: a node with both roles, or a controller and its brokers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};
use highwater_kafka_peer::process::{end, free_port, stop, wait};

use super::store::Store;

/// The binary that is measured.
const BINARY: &str = "target/release/highwater";
/// The id of a controller that is no broker.
const CONTROLLER: &str = "100";

/// One node, which is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Node {
    dir: PathBuf,
    settings: Vec<String>,
    /// The address of its only listener.
    pub(super) address: String,
    child: Option<Child>,
}

impl Node {
    /// A node with an empty directory, with both roles unless the settings say otherwise. It is not started.
    pub(super) fn new(dir: &Path, settings: &[String]) -> Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            settings: settings.to_vec(),
            address: format!("127.0.0.1:{}", free_port()?),
            child: None,
        })
    }

    /// A controller of a cluster.
    pub(super) fn controller(dir: &Path, settings: &[String]) -> Result<Self> {
        let mut node = Self::new(dir, settings)?;
        node.settings.extend([
            "process.roles=controller".to_owned(),
            format!("node.id={CONTROLLER}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("controller.quorum.voters={CONTROLLER}@{}", node.address),
            format!("listeners=CONTROLLER://{}", node.address),
        ]);
        Ok(node)
    }

    /// A broker of the controller's cluster.
    pub(super) fn broker(
        dir: &Path,
        id: u32,
        controller: &Self,
        settings: &[String],
    ) -> Result<Self> {
        let mut node = Self::new(dir, settings)?;
        node.settings.extend([
            "process.roles=broker".to_owned(),
            format!("node.id={id}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!(
                "controller.quorum.voters={CONTROLLER}@{}",
                controller.address
            ),
        ]);
        Ok(node)
    }

    /// Starts the process, and returns once it listens: it answers a client when its start is done.
    pub(super) fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let log = self.dir.join("node.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(BINARY);
        command.arg("start");
        let data = format!("highwater.data.dir={}", self.dir.join("data").display());
        let mut own = vec![data, "highwater.admin.listener=".to_owned()];
        let is_listener = |setting: &String| setting.starts_with("listeners=");
        if !self.settings.iter().any(is_listener) {
            own.push(format!("listeners=PLAINTEXT://{}", self.address));
        }
        for setting in own.iter().chain(&self.settings) {
            command.args(["--set", setting]);
        }
        command.envs(Store::keys());
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("cannot start a node")?;
        wait(self.child.insert(child), &self.address, &log)
    }

    /// Kills the process with SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    /// Stops the process cleanly.
    pub(super) fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it runs")?;
        match stop(&mut child)? {
            true => Ok(()),
            false => bail!("a node does not stop: see {}", self.dir.display()),
        }
    }

    pub(super) fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("it runs")?.id())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
