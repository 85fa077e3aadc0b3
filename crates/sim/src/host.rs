//! One node of the world: a machine with a disk and a network name, and its processes, one after the other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use highwater_broker::auth::AllowAll;
use highwater_broker::config::Config;
use highwater_broker::node::{Machine, NodeProcess};
use highwater_runtime::{ControlRuntime, SeededRng, Standstill, WallClock};
use highwater_types::NodeId;
use tokio::sync::watch;

use crate::options::{OFFSETS_PARTITIONS, PORT, wall_clock_ms};
use crate::scenario::Scenario;
use crate::store::SimStore;
use crate::workload::Broker;
use crate::{Disk, SimNetwork, SimThreads, Trace, WalOfRun};

/// The state that a node and the world share. The world uses it to crash the node.
#[derive(Debug)]
pub(crate) struct Host {
    id: NodeId,
    /// The node's host name on the network.
    pub(crate) name: String,
    pub(crate) disk: Disk,
    /// The object store, if it is none of the disk's directories.
    pub(crate) store: Option<SimStore>,
    /// The load and the failures of the node.
    pub(crate) scenario: Scenario,
    trace: Trace,
    rng: SeededRng,
    settings: Vec<(String, String)>,
    wal: WalOfRun,
    /// Whether the node's process is told to stop.
    pub(crate) stop: watch::Sender<bool>,
    /// Changes when the node's process ends, which resets its connections.
    pub(crate) crashes: watch::Sender<u64>,
    pub(crate) starts: Cell<usize>,
    pub(crate) is_stopped: Cell<bool>,
    /// Whether the process can't start or can't go on, which is permitted while the node is in trouble.
    pub(crate) is_refused: Cell<bool>,
    /// Whether nodes and links around this one fail.
    pub(crate) is_unsafe: Cell<bool>,
    /// Changes when the node is fenced; `None` before the first start.
    fences: RefCell<Option<watch::Receiver<u64>>>,
    /// Stops the node's process and lets it go on, as signals do.
    pub(crate) standstill: Standstill,
}

impl Host {
    /// Creates a node that is not started; `url` names the store of its cluster's objects.
    pub(crate) fn new(
        id: NodeId,
        (disk, url, store): (Disk, &str, Option<SimStore>),
        (scenario, wal): (Scenario, WalOfRun),
        (trace, rng): (Trace, SeededRng),
    ) -> Self {
        let name = name(id);
        let settings = settings(id, &name, url, &scenario);
        Self {
            id,
            settings,
            name,
            disk,
            store,
            wal,
            scenario,
            trace,
            rng,
            stop: watch::Sender::new(false),
            crashes: watch::Sender::new(0),
            starts: Cell::new(0),
            is_stopped: Cell::new(false),
            is_refused: Cell::new(false),
            is_unsafe: Cell::new(false),
            fences: RefCell::default(),
            standstill: Standstill::default(),
        }
    }

    /// Replaces settings, and adds those that are new.
    pub(crate) fn set(&mut self, settings: &[(&str, String)]) {
        for (key, value) in settings {
            self.settings.retain(|(former, _)| former != key);
            self.settings.push(((*key).to_owned(), value.clone()));
        }
    }

    /// Removes a setting.
    pub(crate) fn unset(&mut self, key: &str) {
        self.settings.retain(|(former, _)| former != key);
    }

    /// The node as clients reach it.
    pub(crate) fn as_broker(&self) -> Broker {
        Broker {
            id: self.id,
            name: self.name.clone(),
            crashes: self.crashes.subscribe(),
        }
    }

    /// Runs one process of the node.
    pub(crate) async fn process(self: Rc<Self>) -> turmoil::Result {
        self.standstill.hold(Box::pin(self.runs())).await
    }

    async fn runs(&self) -> turmoil::Result {
        let trace = self.trace.clone();
        let store = self.store.as_ref();
        let machine = Machine {
            memory_store: store.map(|store| Arc::clone(&store.storage)),
            device: Arc::new(self.disk.boot()),
            threads: Arc::new(SimThreads {
                standstill: self.standstill.clone(),
            }),
            control: ControlRuntime::shared_with(&self.standstill),
            network: Arc::new(SimNetwork {
                trace: trace.clone(),
            }),
            clock: WallClock::new(move || wall_clock_ms(&trace)),
            rng: SeededRng::from_seed(self.rng.next_u64()),
            authorizer: Arc::new(AllowAll),
            commit: "simulated",
        };
        let wal = self.wal.draw(&self.rng);
        let mut settings = self.settings.clone();
        settings.push(("highwater.wal".to_owned(), wal.to_owned()));
        let config = Config::load(None, [], &settings)?;
        let mut process = match NodeProcess::start(config, machine).await {
            Err(error) if self.is_troubled() => self.refuse(&error.to_string()).await,
            started => started?,
        };
        self.starts.set(self.starts.get() + 1);
        self.fences.replace(Some(process.fences()));
        self.trace.event(&format_args!("started"));
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            reason = process.ended() => match self.is_unsafe.get() {
                true => self.refuse(&reason).await,
                false => Err(reason.into()),
            },
            _ = stop.wait_for(|stop| *stop) => {
                match process.stop().await {
                    Err(_) if self.is_troubled() => {}
                    stopped => stopped?,
                }
                self.trace.event(&format_args!("stopped"));
                self.is_stopped.set(true);
                std::future::pending().await
            }
        }
    }

    /// Notes that the process can't start or can't go on, and waits until it is replaced.
    async fn refuse<T>(&self, why: &str) -> T {
        tracing::debug!(why, "the process ends");
        self.trace.event(&format_args!("refused {why}"));
        self.is_refused.set(true);
        std::future::pending().await
    }

    /// Whether the disk or the object store gives a reason to refuse a start, or to stop without an upload.
    pub(crate) fn is_troubled(&self) -> bool {
        self.is_unsafe.get()
            || self.disk.was_troubled()
            || self.store.as_ref().is_some_and(|store| store.faults() > 0)
    }

    /// Whether the node was fenced since the last call, and its process starts it again.
    pub(crate) fn was_fenced(&self) -> bool {
        let mut fences = self.fences.borrow_mut();
        let changed = fences
            .as_ref()
            .is_some_and(|it| it.has_changed().unwrap_or(false));
        if let Some(fences) = fences.as_mut().filter(|_| changed) {
            fences.mark_unchanged();
        }
        changed
    }

    /// Notes that the process has ended, before another is started.
    pub(crate) fn ended(&self) {
        self.crashes.send_modify(|crashes| *crashes += 1);
        self.stop.send_replace(false);
        self.is_stopped.set(false);
        self.is_refused.set(false);
        self.standstill.end();
    }
}

/// The network name of a node.
pub(crate) fn name(id: NodeId) -> String {
    format!("node-{id}")
}

fn settings(id: NodeId, name: &str, url: &str, scenario: &Scenario) -> Vec<(String, String)> {
    let own = [
        ("node.id", id.to_string()),
        ("listeners", format!("PLAINTEXT://0.0.0.0:{PORT}")),
        ("advertised.listeners", format!("PLAINTEXT://{name}:{PORT}")),
        ("highwater.object.storage", url.to_owned()),
        (
            "offsets.topic.num.partitions",
            OFFSETS_PARTITIONS.to_string(),
        ),
    ];
    let fixed = [
        ("highwater.data.dir", "/data"),
        ("highwater.admin.listener", ""),
        ("highwater.memory.limit", "64MiB"),
        ("highwater.wal.size", "64MiB"),
        ("log.retention.check.interval.ms", "200"),
        ("auto.create.topics.enable", "false"),
    ];
    let fixed = fixed.map(|(key, value)| (key, value.to_owned()));
    let drawn = scenario.settings.iter().cloned();
    let all = own.into_iter().chain(fixed).chain(drawn);
    all.map(|(key, value)| (key.to_owned(), value)).collect()
}
