//! One run: nodes, each with a disk of its own, their clients, and the failures that a scenario chooses.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, UNIX_EPOCH};

use highwater_runtime::SeededRng;
use highwater_types::NodeId;
use tokio::sync::watch;
use turmoil::Sim;

use crate::checker::Checker;
use crate::host::Host;
use crate::options::{BEGIN, CALM_MAX, TIME_MAX};
use crate::scenario::{End, Life, Scenario};
use crate::store::SimStore;
use crate::workload::Clients;
use crate::{Crash, Disk, Options, Outcome, StoreKind};

/// The directory of the object store. A single node has it on its own disk; several nodes share it on a disk of its
/// own.
const STORE: &str = "/objects";

/// How long to wait for a clean stop of a node whose device is in trouble.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The clients of one cluster.
struct Load {
    /// The clients' host name on the network.
    name: String,
    clients: Arc<Clients>,
    calm: watch::Sender<bool>,
}

pub(crate) struct World<'a> {
    options: &'a Options,
    sim: Sim<'a>,
    hosts: BTreeMap<NodeId, Rc<Host>>,
    loads: Vec<Load>,
    rng: SeededRng,
    /// Whether the disks have no more failures.
    is_sound: bool,
}

impl<'a> World<'a> {
    /// Creates this many nodes, each of which is a cluster with clients of its own, and starts them.
    pub(crate) fn new(options: &'a Options, nodes: i32) -> Self {
        let rng = SeededRng::from_seed(options.seed);
        let fork = || SeededRng::from_seed(rng.next_u64());
        let (trace, lie) = (options.trace.clone(), options.lie);
        let shared = (nodes > 1).then(|| Disk::new(fork(), trace.clone(), lie));
        let host = |id: NodeId| {
            let scenario = Scenario::draw(&rng);
            let (disk, store) = match &shared {
                None => (Disk::new(fork(), trace.clone(), lie), STORE.to_owned()),
                Some(shared) => {
                    let mount = (Path::new(STORE), shared);
                    let disk = Disk::with_mount(fork(), trace.clone(), lie, mount);
                    (disk, format!("{STORE}/cluster-{id}"))
                }
            };
            let of_run = (trace.clone(), fork());
            let (url, objects) = match options.store {
                StoreKind::Directory => (format!("file://{store}"), None),
                kind => SimStore::with_url(kind, fork(), &trace),
            };
            let plan = (scenario, options.wal);
            Rc::new(Host::new(id, (disk, &url, objects), plan, of_run))
        };
        let hosts: BTreeMap<_, _> = (1..=nodes)
            .map(|id| (NodeId(id), host(NodeId(id))))
            .collect();
        let latencies = hosts.values().map(|host| host.scenario.latency_max);
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.next_u64())
            .epoch(UNIX_EPOCH + BEGIN)
            .simulation_duration(TIME_MAX)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(latencies.max().unwrap_or_default())
            .tcp_capacity(4096)
            .build();
        let mut loads = Vec::new();
        for (id, host) in &hosts {
            let process = Rc::clone(host);
            sim.host(host.name.as_str(), move || Rc::clone(&process).process());
            let (calm, calm_seen) = watch::channel(false);
            let clients = Arc::new(Clients {
                controllers: Vec::new(),
                loses_a_voter: false,
                trace: trace.clone(),
                brokers: vec![host.as_broker()],
                checker: Checker::default(),
                scenario: host.scenario.clone(),
                rng: fork(),
                calm: calm_seen,
                producing: AtomicUsize::new(0),
            });
            let name = format!("clients-{id}");
            let load = Arc::clone(&clients);
            sim.client(name.as_str(), async move {
                load.run().await;
                Ok(())
            });
            loads.push(Load {
                name,
                clients,
                calm,
            });
        }
        Self {
            options,
            sim,
            hosts,
            loads,
            rng: fork(),
            is_sound: false,
        }
    }

    fn host(&self, id: NodeId) -> Rc<Host> {
        Rc::clone(&self.hosts[&id])
    }

    /// Runs the lives of all nodes, one after the other, and the end.
    pub(crate) fn run(mut self) -> Result<Outcome, String> {
        for (id, host) in self.hosts.clone() {
            for life in &host.scenario.lives {
                self.live(id, *life)?;
                self.restart(id, life.crash, life.down)?;
            }
        }
        self.end()?;
        Ok(self.outcome())
    }

    /// Ends the run without further failures: the clients get their answers, and check after a clean stop and a power
    /// failure that every acknowledged record is there.
    fn end(&mut self) -> Result<(), String> {
        self.is_sound = true;
        for store in self.hosts.values().filter_map(|host| host.store.as_ref()) {
            store.heal();
        }
        for id in self.hosts.clone().into_keys() {
            self.restart(id, Crash::Process, Duration::from_millis(5))?;
        }
        for load in &self.loads {
            load.calm.send_replace(true);
        }
        self.finish()?;
        for id in self.hosts.clone().into_keys() {
            self.stop_node(id)?;
            self.restart(id, Crash::Power, Duration::from_millis(5))?;
        }
        for load in &self.loads {
            let audit = Arc::clone(&load.clients);
            self.sim
                .client(format!("auditor-of-{}", load.name), async move {
                    audit.audit().await;
                    Ok(())
                });
        }
        self.finish()
    }

    /// Lets the clients finish.
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
        let disks = || self.hosts.values().map(|host| &host.disk);
        let mut syncs = BTreeMap::new();
        for (class, count) in disks().flat_map(Disk::syncs) {
            *syncs.entry(class).or_default() += count;
        }
        let loads = self.loads.iter();
        Outcome {
            hash: self.options.trace.hash(),
            events: self.options.trace.events(),
            operations: disks().map(Disk::operations).sum(),
            records: loads.map(|load| load.clients.checker.records()).sum(),
            starts: self.hosts.values().map(|host| host.starts.get()).sum(),
            elapsed: self.sim.elapsed(),
            syncs,
            lies: disks().map(Disk::lies).sum(),
            store_faults: {
                let stores = self.hosts.values().filter_map(|host| host.store.as_ref());
                stores.map(SimStore::faults).sum()
            },
            voter_changes: 0,
            store_fences: 0,
        }
    }

    /// Runs one millisecond, and returns whether all clients are done.
    fn step(&mut self) -> Result<bool, String> {
        let now = self.sim.elapsed();
        for host in self.hosts.values() {
            let mut befalls = host.scenario.troubles.iter();
            let trouble = befalls.find(|befalls| befalls.begin <= now && now < befalls.end);
            let trouble = trouble.filter(|_| !self.is_sound);
            host.disk.befalls(trouble.map(|trouble| trouble.trouble));
        }
        let stepped = self.sim.step().map_err(|error| error.to_string());
        let mut found = self
            .loads
            .iter()
            .map(|load| load.clients.checker.violation());
        match found.find_map(|violation| violation) {
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

    fn live(&mut self, id: NodeId, life: Life) -> Result<(), String> {
        let host = self.host(id);
        let begin = self.sim.elapsed();
        if let End::AtOperation(count) = life.end {
            host.disk.die_in(count);
        }
        while !host.disk.is_dead() && self.sim.elapsed() < begin + life.after {
            let now = self.sim.elapsed() - begin;
            if let Some((at, during)) = life.cut {
                if now == at {
                    self.cut_off(&host);
                }
                if now == at + during {
                    self.reconnect(&host);
                }
            }
            self.step()?;
            if host.is_refused.get() {
                self.restart(id, Crash::Process, life.down)?;
            }
        }
        self.reconnect(&host);
        if matches!(life.end, End::Stop) && !host.disk.is_dead() {
            self.stop_node(id)?;
        }
        Ok(())
    }

    /// Disconnects a node from all clients.
    fn cut_off(&self, host: &Host) {
        for load in &self.loads {
            self.sim.partition(host.name.as_str(), load.name.as_str());
        }
    }

    fn reconnect(&self, host: &Host) {
        for load in &self.loads {
            self.sim.repair(host.name.as_str(), load.name.as_str());
        }
    }

    fn stop_node(&mut self, id: NodeId) -> Result<(), String> {
        let host = self.host(id);
        host.stop.send_replace(true);
        let deadline = self.sim.elapsed() + STOP_MAX;
        while !host.is_stopped.get() {
            self.step()?;
            if host.is_troubled() && self.sim.elapsed() > deadline {
                break;
            }
        }
        Ok(())
    }

    /// Ends a node's process, drops the data that the crash loses, and starts the node again.
    fn restart(&mut self, id: NodeId, crash: Crash, down: Duration) -> Result<(), String> {
        let host = self.host(id);
        // The runtime drops its tasks in the order of their ids, which are unique in the whole test process. So that
        // this order does not show, none of them may send anything while it is dropped.
        self.cut_off(&host);
        self.sim.crash(host.name.as_str());
        self.reconnect(&host);
        host.disk.crash(crash);
        host.ended();
        self.steps_for(down + Duration::from_millis(self.rng.below(5)))?;
        self.sim.bounce(host.name.as_str());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets the node's disk hang after a few hundred operations, and then cuts the power.
    const LIFE: Life = Life {
        end: End::AtOperation(400),
        after: Duration::from_secs(20),
        crash: Crash::Power,
        down: Duration::from_millis(500),
        cut: None,
    };

    #[test]
    fn clusters_of_one_store_die_each_by_itself() {
        let options = Options {
            seed: 1,
            ..Options::default()
        };
        let mut world = World::new(&options, 2);
        // A store that hangs would delay both clusters.
        world.is_sound = true;
        let (one, other) = (NodeId(1), NodeId(2));
        for (dies, lives) in [(one, other), (other, one)] {
            world.live(dies, LIFE).expect("nothing is violated");
            assert!(world.host(dies).disk.is_dead());
            let starts = |id| world.host(id).starts.get();
            let before = (starts(dies), starts(lives));
            let at = usize::from(lives == other);
            let records = |world: &World<'_>| world.loads[at].clients.checker.records();
            let seen = records(&world);
            let restarted = world.restart(dies, LIFE.crash, LIFE.down);
            restarted.expect("nothing is violated");
            assert!(records(&world) > seen, "{lives} goes on");
            world.steps_for(LIFE.down).expect("nothing is violated");
            let starts = |id| world.host(id).starts.get();
            assert_eq!((starts(dies), starts(lives)), (before.0 + 1, before.1));
        }
        world.end().expect("all that was acknowledged is there");
        for load in &world.loads {
            assert!(load.clients.checker.records() > 100, "{}", load.name);
        }
    }
}
