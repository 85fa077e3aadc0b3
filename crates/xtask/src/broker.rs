//! A real broker process for a suite with clients.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::time::pause;
pub(crate) use highwater_kafka_peer::process::free_port;
pub(crate) use highwater_kafka_peer::process::{end, wait};

const END_TRIES: u32 = 600;
const TRY_EVERY: Duration = Duration::from_millis(50);

/// A broker with its own port and directory; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    log: PathBuf,
}

impl Broker {
    pub(crate) fn start(name: &str) -> Result<Self> {
        Self::start_with(name, true, "", &BTreeMap::new())
    }

    /// Starts a broker with an admin listener and an environment. Unless it is to be fresh, it keeps the data of an
    /// earlier broker.
    pub(crate) fn start_with(
        name: &str,
        fresh: bool,
        admin: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let dir = Path::new("target/test-run").join(name);
        if fresh && dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = dir.join("broker.log");
        let output = File::create(&log)?;
        let mut settings = vec![
            format!("listeners=PLAINTEXT://{address}"),
            format!("highwater.data.dir={}", dir.join("data").display()),
            format!("highwater.admin.listener={admin}"),
            "group.initial.rebalance.delay.ms=300".to_owned(),
        ];
        if !environment.contains_key("HIGHWATER_UPLOAD_INTERVAL_MS") {
            settings.push("highwater.upload.interval.ms=500".to_owned());
        }
        let child = Command::new("target/release/highwater")
            .arg("start")
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .envs(environment)
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

    /// Waits until the broker ends by itself with an error, and returns its log.
    pub(crate) fn ends(mut self) -> Result<String> {
        for _ in 0..END_TRIES {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(&self.log)?;
                ensure!(
                    !status.success(),
                    "the broker ended without an error: {log}"
                );
                return Ok(log);
            }
            pause(TRY_EVERY);
        }
        bail!(
            "the broker didn't end: {}",
            std::fs::read_to_string(&self.log)?
        )
    }

    /// Stops the broker cleanly; fails if its log has a warning or an error.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop_but(|_line| false)
    }

    /// Stops the broker cleanly; fails if its log has a warning or an error that is not expected.
    pub(crate) fn stop_but(mut self, is_expected: impl Fn(&str) -> bool) -> Result<()> {
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
            .filter(|line| !is_expected(line))
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
