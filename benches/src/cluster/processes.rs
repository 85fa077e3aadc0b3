//! Three controllers and three brokers, as processes of Highwater or of Apache Kafka, with the defaults of each.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_kafka_peer::peer::Setup;
use highwater_kafka_peer::process::{end, free_port, get, stop, wait};

use crate::compare::KAFKA_JVM;
use crate::follower::{await_view, until_done};
use crate::machine;

const BINARY: &str = "target/release/highwater";
pub(super) const BROKERS: [i32; 3] = [1, 2, 3];
const CONTROLLERS: [i32; 3] = [100, 101, 102];
/// A topic that no run creates, for the view of a cluster alone.
const NO_TOPIC: &str = "none";

/// Whose processes a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Highwater,
    Kafka,
}

impl System {
    pub(super) const BOTH: [Self; 2] = [Self::Highwater, Self::Kafka];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Highwater => "highwater",
            Self::Kafka => "kafka",
        }
    }

    /// How long a broker may be silent, by default.
    pub(super) fn session(self) -> Duration {
        match self {
            Self::Highwater => Duration::from_secs(3),
            Self::Kafka => Duration::from_secs(9),
        }
    }
}

#[derive(Debug)]
enum Program {
    Highwater(Vec<String>),
    Kafka(Setup),
}

#[derive(Debug)]
struct Process {
    program: Program,
    address: String,
    /// The address of Highwater's health and metrics.
    admin: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let child = match &self.program {
            Program::Kafka(setup) => setup.spawn()?,
            Program::Highwater(settings) => {
                let log = File::options().create(true).append(true).open(&self.log)?;
                let mut command = Command::new(BINARY);
                command.arg("start");
                for setting in settings {
                    command.args(["--set", setting]);
                }
                command.stdout(log.try_clone()?).stderr(log);
                command.spawn().context("cannot start a node")?
            }
        };
        wait(self.child.insert(child), &self.address, &self.log)
    }

    /// Starts a process of Highwater, and returns the time until it is ready.
    fn restart(&mut self) -> Result<Duration> {
        let since = machine::now();
        self.start()?;
        let ready = until_done(|| {
            let answer = get(&self.admin, "/health/ready")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(())
        })?;
        Ok(ready - since)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running cluster, whose processes are killed when it is dropped.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) system: System,
    // brokers are dropped before the controllers
    brokers: BTreeMap<i32, Process>,
    controllers: Vec<Process>,
}

impl Cluster {
    /// Starts all processes on an empty directory, and waits until the brokers see each other.
    pub(super) fn start(system: System, dir: &Path) -> Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        let dir = std::fs::canonicalize(dir)?;
        let address = |id: i32| Ok((id, format!("127.0.0.1:{}", free_port()?)));
        let voters = CONTROLLERS
            .map(address)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let named = voters.iter().map(|(id, address)| format!("{id}@{address}"));
        let named = named.collect::<Vec<_>>().join(",");
        let process = |id: i32, role: &str, address: &str| -> Result<Process> {
            let listener = if role == "broker" {
                "PLAINTEXT"
            } else {
                "CONTROLLER"
            };
            let settings = vec![
                format!("process.roles={role}"),
                format!("node.id={id}"),
                format!("listeners={listener}://{address}"),
                "controller.listener.names=CONTROLLER".to_owned(),
                format!("controller.quorum.voters={named}"),
                "offsets.topic.replication.factor=3".to_owned(),
            ];
            program(system, &dir, id, (address, settings))
        };
        let controllers = voters
            .iter()
            .map(|(id, address)| process(*id, "controller", address));
        let mut cluster = Self {
            system,
            controllers: controllers.collect::<Result<_>>()?,
            brokers: BTreeMap::new(),
        };
        for id in BROKERS {
            let (_, address) = address(id)?;
            cluster.brokers.insert(id, process(id, "broker", &address)?);
        }
        for process in cluster
            .controllers
            .iter_mut()
            .chain(cluster.brokers.values_mut())
        {
            process.start()?;
        }
        cluster.await_all()?;
        Ok(cluster)
    }

    pub(super) fn address(&self, id: i32) -> Result<&str> {
        Ok(&self
            .brokers
            .get(&id)
            .context("there is such a broker")?
            .address)
    }

    /// The addresses of the brokers that run.
    pub(super) fn addresses(&self) -> Vec<String> {
        let running = self
            .brokers
            .values()
            .filter(|process| process.child.is_some());
        running.map(|process| process.address.clone()).collect()
    }

    /// Kills a broker with SIGKILL.
    pub(super) fn kill(&mut self, id: i32) -> Result<()> {
        self.brokers
            .get_mut(&id)
            .context("there is such a broker")?
            .kill();
        Ok(())
    }

    /// Starts a broker again, and waits until all see it.
    pub(super) fn start_again(&mut self, id: i32) -> Result<()> {
        self.brokers
            .get_mut(&id)
            .context("there is such a broker")?
            .start()?;
        self.await_all()
    }

    fn await_all(&self) -> Result<()> {
        for address in self.addresses() {
            await_view(&address, NO_TOPIC, |view| {
                view.brokers.len() == BROKERS.len()
            })?;
        }
        Ok(())
    }

    /// The resident memory of the controller that has most, in KiB.
    pub(super) fn controller_kib(&self) -> Result<u64> {
        let running = self.controllers.iter().filter_map(|one| one.child.as_ref());
        let memory = running.map(|child| machine::memory_kib(child.id(), "VmRSS"));
        let memory = memory.collect::<Result<Vec<_>>>()?;
        memory.into_iter().max().context("a controller runs")
    }

    /// Kills a controller, starts it again, and returns the time until it says that it is ready: it has read the metadata
    /// from its disk then.
    pub(super) fn restart_controller(&mut self) -> Result<Duration> {
        let controller = self.controllers.last_mut().context("there are some")?;
        controller.kill();
        controller.restart()
    }

    /// Does the same with a broker, which has opened the partitions that it leads by then.
    pub(super) fn restart_broker(&mut self, id: i32) -> Result<Duration> {
        self.kill(id)?;
        let broker = self.brokers.get_mut(&id);
        broker.context("there is such a broker")?.restart()
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        let all = self.brokers.values().chain(&self.controllers);
        all.filter_map(|process| Some(process.child.as_ref()?.id()))
    }

    /// The processor time of all processes.
    pub(super) fn cpu(&self) -> Result<Duration> {
        self.processes().map(machine::cpu).sum()
    }

    /// The resident memory of all processes, in KiB.
    pub(super) fn memory_kib(&self) -> Result<u64> {
        let memory = self
            .processes()
            .map(|pid| machine::memory_kib(pid, "VmRSS"));
        memory.sum()
    }

    /// Stops all processes cleanly, the brokers first.
    pub(super) fn stop(mut self) -> Result<()> {
        for process in self.brokers.values_mut().chain(&mut self.controllers) {
            if let Some(mut child) = process.child.take()
                && !stop(&mut child)?
            {
                bail!("a node does not stop: see {}", process.log.display());
            }
        }
        Ok(())
    }
}

fn program(
    system: System,
    dir: &Path,
    id: i32,
    (address, mut settings): (&str, Vec<String>),
) -> Result<Process> {
    let own = dir.join(format!("node-{id}"));
    let log = dir.join(format!("node-{id}.log"));
    let admin = format!("127.0.0.1:{}", free_port()?);
    let program = match system {
        System::Kafka => Program::Kafka(Setup::format_member(&own, KAFKA_JVM, address, &settings)?),
        System::Highwater => {
            settings.extend([
                format!("highwater.data.dir={}", own.display()),
                format!("highwater.object.storage=file://{}/objects", dir.display()),
                "highwater.wal=object".to_owned(),
                format!("highwater.admin.listener={admin}"),
            ]);
            Program::Highwater(settings)
        }
    };
    let log = match system {
        System::Kafka => own.join("broker.log"),
        System::Highwater => log,
    };
    Ok(Process {
        program,
        address: address.to_owned(),
        admin,
        log,
        child: None,
    })
}
