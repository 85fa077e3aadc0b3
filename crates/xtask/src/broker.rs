//! A real broker process for a client suite.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
pub(crate) use highwater_kafka_peer::process::free_port;
use highwater_kafka_peer::process::{end, wait};

/// A broker on a port and a directory of its own; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    log: PathBuf,
}

impl Broker {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let dir = Path::new("target/test-run").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = dir.join("broker.log");
        let output = File::create(&log)?;
        let child = Command::new("target/release/highwater")
            .arg("start")
            .args(["--set", &format!("listeners=PLAINTEXT://{address}")])
            .args([
                "--set",
                &format!("highwater.data.dir={}", dir.join("data").display()),
            ])
            .args(["--set", "highwater.admin.listener="])
            .args(["--set", "highwater.upload.interval.ms=500"])
            .args(["--set", "group.initial.rebalance.delay.ms=300"])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the broker")?;
        let mut broker = Self {
            child,
            address,
            log,
        };
        wait(&mut broker.child, &broker.address, &broker.log)?;
        Ok(broker)
    }

    /// Stops it cleanly; an error when it logged something that a human must look at.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        crate::rust::run(Command::new("kill").args(["-TERM", &pid]))?;
        let status = self.child.wait()?;
        let log = std::fs::read_to_string(&self.log)?;
        if !status.success() {
            bail!("the broker ended with {status}: {log}");
        }
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .collect();
        if !bad.is_empty() {
            bail!("the broker logged:\n{}", bad.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
