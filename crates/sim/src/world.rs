//! One run: a node, its disk, its clients, and what happens to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, UNIX_EPOCH};

use highwater_broker::auth::AllowAll;
use highwater_broker::config::Config;
use highwater_broker::node::{Machine, Node};
use highwater_runtime::{SeededRng, WallClock};
use tokio::sync::watch;
use turmoil::Sim;

use crate::checker::Checker;
use crate::scenario::{End, Life, Scenario};
use crate::workload::Clients;
use crate::{Crash, Disk, SimNetwork, SimThreads, SyncClass, Trace};

pub(crate) const NODE: &str = "node";
pub(crate) const PORT: u16 = 9092;
const CLIENTS: &str = "clients";

/// 2026-01-01.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);
/// Longer than all lives of a node.
const TIME_MAX: Duration = Duration::from_secs(600);
/// When nothing breaks any more, by then every client has what it waits for, or something is stuck.
const CALM_MAX: Duration = Duration::from_secs(40);

/// How long a node that stops is waited for whose device is in trouble.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What is simulated.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Chooses everything that is not fixed.
    pub seed: u64,
    /// Syncs that the disk pretends to do.
    pub lie: Option<SyncClass>,
    /// Where events go.
    pub trace: Trace,
}

/// What a run that found nothing wrong was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of the trace: equal for equal seeds.
    pub hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// Device operations.
    pub operations: u64,
    /// Records that were acknowledged or read, each checked wherever it was seen.
    pub records: usize,
    /// How often the node was started.
    pub starts: usize,
    /// Virtual time.
    pub elapsed: Duration,
    /// Syncs that had something to do, by class.
    pub syncs: BTreeMap<SyncClass, u64>,
    /// Syncs that were answered and not done.
    pub lies: u64,
}

/// Something that may never happen happened.
#[derive(Debug, thiserror::Error)]
#[error(
    "seed {seed}: {what}\n  replay: cargo run --release -p highwater-sim -- --seed {seed}{lie}"
)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// What was found.
    pub what: String,
    lie: String,
}

/// Runs one seed.
///
/// # Errors
/// [`Failed`]: an invariant is broken, the node does not start, or something is stuck.
pub fn run(options: &Options) -> Result<Outcome, Failed> {
    let failed = |what: String| Failed {
        seed: options.seed,
        what,
        lie: options
            .lie
            .map_or_else(String::new, |lie| format!(" --lie {lie}")),
    };
    let ran = catch_unwind(AssertUnwindSafe(|| World::new(options).run()));
    match ran {
        Ok(outcome) => outcome.map_err(failed),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(failed(format!("panic: {}", text.unwrap_or("unknown"))))
        }
    }
}

pub(crate) fn wall_clock_ms(trace: &Trace) -> i64 {
    let now = BEGIN + trace.now();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// What the node and the one who crashes it share.
#[derive(Debug)]
struct Shared {
    disk: Disk,
    trace: Trace,
    rng: SeededRng,
    settings: Vec<(String, String)>,
    stop: watch::Sender<bool>,
    starts: RefCell<usize>,
    is_stopped: RefCell<bool>,
    /// Whether the start was refused, as it may be where the device is in trouble.
    is_refused: RefCell<bool>,
}

struct World<'a> {
    options: &'a Options,
    sim: Sim<'a>,
    shared: Rc<Shared>,
    clients: Arc<Clients>,
    calm: watch::Sender<bool>,
    crashes: watch::Sender<u64>,
    rng: SeededRng,
    /// Whether nothing befalls the device any more.
    is_sound: bool,
}

/// The node as it is restarted again and again.
async fn node(shared: Rc<Shared>) -> turmoil::Result {
    let trace = shared.trace.clone();
    let machine = Machine {
        device: Arc::new(shared.disk.boot()),
        threads: Arc::new(SimThreads),
        network: Arc::new(SimNetwork {
            trace: trace.clone(),
        }),
        clock: WallClock::new(move || wall_clock_ms(&trace)),
        rng: SeededRng::from_seed(shared.rng.next_u64()),
        authorizer: Arc::new(AllowAll),
        commit: "simulated",
    };
    let config = Config::load(None, [], &shared.settings)?;
    let node = match Node::start(config, machine).await {
        Err(error) if shared.disk.was_troubled() => {
            tracing::debug!(%error, "start refused");
            shared.trace.event(&format_args!("refused {error}"));
            *shared.is_refused.borrow_mut() = true;
            std::future::pending().await
        }
        started => started?,
    };
    *shared.starts.borrow_mut() += 1;
    shared.trace.event(&format_args!("started"));
    let mut stop = shared.stop.subscribe();
    tokio::select! {
        biased;
        reason = node.failed() => Err(reason.into()),
        _ = stop.wait_for(|stop| *stop) => {
            match node.stop().await {
                Err(_) if shared.disk.was_troubled() => {}
                stopped => stopped?,
            }
            shared.trace.event(&format_args!("stopped"));
            *shared.is_stopped.borrow_mut() = true;
            std::future::pending().await
        }
    }
}

fn settings(scenario: &Scenario) -> Vec<(String, String)> {
    let fixed = [
        ("listeners", "PLAINTEXT://0.0.0.0:9092"),
        ("advertised.listeners", "PLAINTEXT://node:9092"),
        ("highwater.data.dir", "/data"),
        ("highwater.object.storage", "file:///objects"),
        ("highwater.admin.listener", ""),
        ("highwater.memory.limit", "64MiB"),
        ("highwater.wal.size", "64MiB"),
        ("offsets.topic.num.partitions", "2"),
        ("log.retention.check.interval.ms", "200"),
        ("auto.create.topics.enable", "false"),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let drawn = scenario.settings.iter();
    fixed
        .into_iter()
        .map(own)
        .chain(drawn.map(|(key, value)| own((key, value))))
        .collect()
}

impl<'a> World<'a> {
    fn new(options: &'a Options) -> Self {
        let rng = SeededRng::from_seed(options.seed);
        let scenario = Scenario::draw(&rng);
        let fork = || SeededRng::from_seed(rng.next_u64());
        let disk = Disk::new(fork(), options.trace.clone(), options.lie);
        let shared = Rc::new(Shared {
            disk,
            trace: options.trace.clone(),
            rng: fork(),
            settings: settings(&scenario),
            stop: watch::Sender::new(false),
            starts: RefCell::new(0),
            is_stopped: RefCell::new(false),
            is_refused: RefCell::new(false),
        });
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.next_u64())
            .epoch(UNIX_EPOCH + BEGIN)
            .simulation_duration(TIME_MAX)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(scenario.latency_max)
            .tcp_capacity(4096)
            .build();
        let host = Rc::clone(&shared);
        sim.host(NODE, move || node(Rc::clone(&host)));
        let (calm, calm_seen) = watch::channel(false);
        let (crashes, crashes_seen) = watch::channel(0);
        let clients = Arc::new(Clients {
            trace: options.trace.clone(),
            node: NODE.to_owned(),
            checker: Checker::default(),
            scenario,
            rng: fork(),
            calm: calm_seen,
            crashes: crashes_seen,
            producing: AtomicUsize::new(0),
        });
        Self {
            options,
            sim,
            shared,
            clients,
            calm,
            crashes,
            rng: fork(),
            is_sound: false,
        }
    }

    fn run(mut self) -> Result<Outcome, String> {
        let load = Arc::clone(&self.clients);
        self.sim.client(CLIENTS, async move {
            load.run().await;
            Ok(())
        });
        for life in self.clients.scenario.lives.clone() {
            self.live(life)?;
            self.restart(life.crash, life.down)?;
        }
        self.is_sound = true;
        self.restart(Crash::Process, Duration::from_millis(5))?;
        self.calm.send_replace(true);
        self.finish()?;
        // what a clean stop and a power failure leave
        self.stop_node()?;
        self.restart(Crash::Power, Duration::from_millis(5))?;
        let audit = Arc::clone(&self.clients);
        self.sim.client("auditor", async move {
            audit.audit().await;
            Ok(())
        });
        self.finish()?;
        Ok(self.outcome())
    }

    /// Lets the clients come to their end.
    fn finish(&mut self) -> Result<(), String> {
        let deadline = self.sim.elapsed() + CALM_MAX;
        while !self.step()? {
            if self.sim.elapsed() > deadline {
                return Err("nothing breaks any more, and a client still waits".to_owned());
            }
        }
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        let disk = &self.shared.disk;
        Outcome {
            hash: self.options.trace.hash(),
            events: self.options.trace.events(),
            operations: disk.operations(),
            records: self.clients.checker.records(),
            starts: *self.shared.starts.borrow(),
            elapsed: self.sim.elapsed(),
            syncs: disk.syncs(),
            lies: disk.lies(),
        }
    }

    /// A millisecond; answers whether all clients are done.
    fn step(&mut self) -> Result<bool, String> {
        let now = self.sim.elapsed();
        let mut befalls = self.clients.scenario.troubles.iter();
        let trouble = befalls.find(|befalls| befalls.begin <= now && now < befalls.end);
        let trouble = trouble.filter(|_| !self.is_sound);
        self.shared
            .disk
            .befalls(trouble.map(|trouble| trouble.trouble));
        let stepped = self.sim.step().map_err(|error| error.to_string());
        match self.clients.checker.violation() {
            Some(violation) => Err(violation),
            None => stepped,
        }
    }

    fn steps_for(&mut self, time: Duration) -> Result<(), String> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn live(&mut self, life: Life) -> Result<(), String> {
        let begin = self.sim.elapsed();
        if let End::AtOperation(count) = life.end {
            self.shared.disk.die_in(count);
        }
        while !self.shared.disk.is_dead() && self.sim.elapsed() < begin + life.after {
            let now = self.sim.elapsed() - begin;
            if let Some((at, during)) = life.cut {
                if now == at {
                    self.sim.partition(NODE, CLIENTS);
                }
                if now == at + during {
                    self.sim.repair(NODE, CLIENTS);
                }
            }
            self.step()?;
            if *self.shared.is_refused.borrow() {
                self.restart(Crash::Process, life.down)?;
            }
        }
        self.sim.repair(NODE, CLIENTS);
        if matches!(life.end, End::Stop) && !self.shared.disk.is_dead() {
            self.stop_node()?;
        }
        Ok(())
    }

    fn stop_node(&mut self) -> Result<(), String> {
        self.shared.stop.send_replace(true);
        let deadline = self.sim.elapsed() + STOP_MAX;
        while !*self.shared.is_stopped.borrow() {
            self.step()?;
            if self.shared.disk.was_troubled() && self.sim.elapsed() > deadline {
                break;
            }
        }
        Ok(())
    }

    /// Ends the process, loses what is lost, and starts it again.
    fn restart(&mut self, crash: Crash, down: Duration) -> Result<(), String> {
        // the runtime drops its tasks in an order of their ids, which are the whole process's: none of them may say goodbye
        self.sim.partition(NODE, CLIENTS);
        self.sim.crash(NODE);
        self.sim.repair(NODE, CLIENTS);
        self.crashes.send_modify(|crashes| *crashes += 1);
        self.shared.disk.crash(crash);
        self.shared.stop.send_replace(false);
        *self.shared.is_stopped.borrow_mut() = false;
        *self.shared.is_refused.borrow_mut() = false;
        self.steps_for(down + Duration::from_millis(self.rng.below(5)))?;
        self.sim.bounce(NODE);
        Ok(())
    }
}
