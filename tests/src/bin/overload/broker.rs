//! The broker as a process, and its memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use highwater_kafka_peer::process::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::say;

/// A running broker, which is killed when this value is dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

/// The highest value that was seen of each figure, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The peak memory of the process (VmHWM), and its present memory.
    pub(crate) process: u64,
    pub(crate) resident: u64,
    /// The sum of all bytes that the budgets held.
    pub(crate) counted: u64,
    /// The bytes that each budget held, and its limit.
    pub(crate) budgets: BTreeMap<String, (u64, u64)>,
}

impl Seen {
    pub(crate) fn join(&mut self, other: &Self) {
        self.process = self.process.max(other.process);
        self.resident = self.resident.max(other.resident);
        self.counted = self.counted.max(other.counted);
        for (budget, (used, limit)) in &other.budgets {
            let most = self.budgets.entry(budget.clone()).or_default();
            *most = (most.0.max(*used), *limit);
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "VmHWM {} MiB, VmRSS {} MiB, counted {} MiB (",
            mib(self.process),
            mib(self.resident),
            mib(self.counted)
        )?;
        for (budget, (used, limit)) in &self.budgets {
            write!(f, " {budget} {}/{}", mib(*used), mib(*limit))?;
        }
        f.write_str(" )")
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

impl Broker {
    /// Starts a broker on an empty directory.
    pub(crate) async fn start(
        binary: &Path,
        dir: &Path,
        memory_mib: u64,
        settings: &[&str],
    ) -> Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        Self::start_again(binary, dir, memory_mib, settings).await
    }

    /// Starts a broker on the directory of the last one.
    pub(crate) async fn start_again(
        binary: &Path,
        dir: &Path,
        memory_mib: u64,
        settings: &[&str],
    ) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let log = dir.join("broker.log");
        let output = File::create(&log)?;
        let set = [
            format!("listeners=PLAINTEXT://{address}"),
            format!("highwater.admin.listener={admin}"),
            format!("highwater.data.dir={}", dir.join("data").display()),
            format!("highwater.memory.limit={memory_mib}MiB"),
        ];
        let mut command = Command::new(binary);
        command.arg("start");
        for setting in set
            .iter()
            .map(String::as_str)
            .chain(settings.iter().copied())
        {
            command.args(["--set", setting]);
        }
        let child = command
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the broker")?;
        let mut broker = Self {
            child,
            address,
            admin,
            log,
        };
        for _ in 0..600 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(broker);
            }
            let ended = broker.child.try_wait()?;
            ensure!(ended.is_none(), "the broker ended: {}", broker.read_log()?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the broker does not listen on {address}");
    }

    fn read_log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// The memory of the process, as the kernel and as the broker itself report it.
    pub(crate) async fn look(&self) -> Result<Seen> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = |name: &str| -> Result<u64> {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(number.context("the kernel tells it")?.parse()?)
        };
        let mut seen = Seen {
            process: kib("VmHWM:")? << 10,
            resident: kib("VmRSS:")? << 10,
            ..Seen::default()
        };
        let metrics = self.metrics().await?;
        for line in metrics.lines() {
            let gauge = line.strip_prefix("highwater_broker_memory_");
            let Some((name, rest)) = gauge.and_then(|gauge| gauge.split_once("{budget=\"")) else {
                continue;
            };
            let (budget, value) = rest.split_once("\"} ").context("a gauge has a value")?;
            let value = value.trim().parse()?;
            let entry = seen.budgets.entry(budget.to_owned()).or_default();
            match name {
                "used_bytes" => {
                    entry.0 = value;
                    seen.counted += value;
                }
                _ => entry.1 = value,
            }
        }
        Ok(seen)
    }

    async fn metrics(&self) -> Result<String> {
        let mut socket = TcpStream::connect(self.admin).await?;
        let request = "GET /metrics HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Stops the broker cleanly; returns an error if it logged a line that a human must look at.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait()? {
                let log = self.read_log()?;
                ensure!(status.success(), "the broker ended with {status}: {log}");
                let is_bad = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
                let bad: Vec<&str> = log.lines().filter(is_bad).collect();
                ensure!(bad.is_empty(), "the broker logged:\n{}", bad.join("\n"));
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the broker does not stop")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.child.kill().is_err() || self.child.wait().is_err() {
            say("the broker could not be ended");
        }
    }
}
