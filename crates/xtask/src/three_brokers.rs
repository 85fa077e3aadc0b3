//! A controller and three brokers, each a process of the real binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};

use crate::broker::{end, free_port, wait};

/// The processes; killed when dropped.
pub(crate) struct ThreeBrokers {
    /// Controller and brokers, in the order of their start, with their logs.
    processes: Vec<(Child, PathBuf)>,
    /// The address of the first broker.
    pub(crate) address: String,
}

const CONTROLLER: u32 = 100;

impl ThreeBrokers {
    /// Starts them in a new directory, with their records in the object store.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let dir = Path::new("target/test-run").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let dir = std::fs::canonicalize(dir)?;
        let controller = format!("127.0.0.1:{}", free_port()?);
        let mut started = Self {
            processes: Vec::new(),
            address: format!("127.0.0.1:{}", free_port()?),
        };
        let common = [
            "highwater.wal=object".to_owned(),
            "highwater.admin.listener=".to_owned(),
            "highwater.memory.limit=128MiB".to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            "auto.leader.rebalance.enable=false".to_owned(),
            format!("controller.quorum.voters={CONTROLLER}@{controller}"),
            format!("highwater.object.storage=file://{}/objects", dir.display()),
        ];
        for id in [CONTROLLER, 1, 2, 3] {
            let (role, listener, address) = match id {
                CONTROLLER => ("controller", "CONTROLLER", controller.clone()),
                1 => ("broker", "PLAINTEXT", started.address.clone()),
                _ => ("broker", "PLAINTEXT", format!("127.0.0.1:{}", free_port()?)),
            };
            let own = [
                format!("process.roles={role}"),
                format!("node.id={id}"),
                format!("listeners={listener}://{address}"),
                format!("highwater.data.dir={}/node-{id}", dir.display()),
            ];
            let log = dir.join(format!("node-{id}.log"));
            let output = File::create(&log)?;
            let settings = common.iter().chain(&own);
            let child = Command::new("target/release/highwater")
                .arg("start")
                .args(settings.flat_map(|setting| ["--set", setting]))
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()
                .context("cannot start a node")?;
            started.processes.push((child, log.clone()));
            let child = started.processes.last_mut().map(|(child, _)| child);
            wait(child.context("was just started")?, &address, &log)?;
        }
        Ok(started)
    }

    /// Stops the node that was started last, cleanly.
    pub(crate) fn stop_last(&mut self) -> Result<()> {
        let (mut child, log) = self.processes.pop().context("one runs")?;
        let is_clean = highwater_kafka_peer::process::stop(&mut child)?;
        let log = std::fs::read_to_string(log)?;
        ensure!(is_clean, "a node did not stop: {log}");
        // a broker may come before the controller is ready
        let is_early = |line: &str| line.contains("waiting for a controller");
        let bad =
            |line: &&str| (line.contains(" WARN ") || line.contains(" ERROR ")) && !is_early(line);
        let bad: Vec<&str> = log.lines().filter(bad).collect();
        ensure!(bad.is_empty(), "a node logged:\n{}", bad.join("\n"));
        Ok(())
    }

    /// Stops all, the controller last; fails if a log has a warning or an error.
    pub(crate) fn stop(mut self) -> Result<()> {
        while !self.processes.is_empty() {
            self.stop_last()?;
        }
        Ok(())
    }
}

impl Drop for ThreeBrokers {
    fn drop(&mut self) {
        for (child, _) in &mut self.processes {
            end(child);
        }
    }
}
