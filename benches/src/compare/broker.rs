//! The processes that are compared: Highwater, Apache Kafka, and the floor. They are pinned to the broker's core.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_kafka_peer::peer::Setup;
use highwater_kafka_peer::process::{end, free_port, stop};

use crate::machine::{self, pause};

/// The core of the brokers, and that of the client.
pub(super) const BROKER_CORE: usize = 0;
pub(super) const CLIENT_CORE: usize = 1;

/// The options that Kafka's own start script gives Java.
pub(crate) const KAFKA_JVM: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];
/// Records are uploaded soon after a run, so that the cost of their upload is counted to the run.
pub(super) const HIGHWATER_SETTINGS: &[&str] = &["highwater.upload.interval.ms=1000"];

const START_TRIES: u32 = 60_000;
const START_EVERY: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum Program {
    Highwater(PathBuf),
    Kafka(Setup),
    Floor(PathBuf),
}

/// One broker, which is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Broker {
    program: Program,
    pub(super) address: String,
    child: Option<Child>,
}

impl Broker {
    /// Highwater on an empty directory, not started.
    pub(super) fn highwater(dir: &Path) -> Result<Self> {
        empty(dir)?;
        Self::new(Program::Highwater(dir.to_owned()))
    }

    /// Apache Kafka on an empty directory, not started.
    pub(super) fn kafka(dir: &Path) -> Result<Self> {
        // A deleted topic is off the disk before the next run.
        let setup = Setup::format(dir, KAFKA_JVM, &["log.segment.delete.delay.ms=1000"])?;
        let address = setup.address.clone();
        let mut broker = Self::new(Program::Kafka(setup))?;
        broker.address = address;
        Ok(broker)
    }

    /// The floor, not started.
    pub(super) fn floor(dir: &Path) -> Result<Self> {
        empty(dir)?;
        Self::new(Program::Floor(dir.to_owned()))
    }

    fn new(program: Program) -> Result<Self> {
        Ok(Self {
            program,
            address: format!("127.0.0.1:{}", free_port()?),
            child: None,
        })
    }

    /// Starts the process, and returns the time from exec until it listens.
    pub(super) fn start(&mut self) -> Result<Duration> {
        ensure!(self.child.is_none(), "it runs already");
        machine::pin(BROKER_CORE)?;
        let since = machine::now();
        let child = self.spawn();
        machine::pin(CLIENT_CORE)?;
        let child = self.child.insert(child?);
        for _ in 0..START_TRIES {
            if TcpStream::connect(&self.address).is_ok() {
                return Ok(since.elapsed());
            }
            if let Some(status) = child.try_wait()? {
                bail!("the broker ended with {status}: see {:?}", self.program);
            }
            pause(START_EVERY);
        }
        bail!("the broker does not listen on {}", self.address);
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = match &self.program {
            Program::Kafka(setup) => return setup.spawn(),
            Program::Highwater(dir) => {
                let mut command = Command::new("target/release/highwater");
                command.arg("start");
                let listeners = format!("listeners=PLAINTEXT://{}", self.address);
                let data = format!("highwater.data.dir={}", dir.join("data").display());
                let own = [&listeners, &data, "highwater.admin.listener="];
                for setting in own.iter().chain(HIGHWATER_SETTINGS) {
                    command.args(["--set", setting]);
                }
                log_to(&mut command, dir)?;
                command
            }
            Program::Floor(dir) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", "--address", &self.address, "--dir"]);
                command.arg(dir);
                log_to(&mut command, dir)?;
                command
            }
        };
        command.spawn().context("cannot start the broker")
    }

    /// Stops the process cleanly.
    pub(super) fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it runs")?;
        match stop(&mut child)? {
            true => Ok(()),
            false => bail!("the broker does not stop: {:?}", self.program),
        }
    }

    /// The process, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(std::fs::create_dir_all(dir)?)
}

fn log_to(command: &mut Command, dir: &Path) -> Result<()> {
    let log = dir.join("broker.log");
    let log = File::options().create(true).append(true).open(log)?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(())
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}
