//! Controllers, brokers and their clients. The objects are in one store, and most write-ahead logs too.

mod plan;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, UNIX_EPOCH};

use highwater_runtime::SeededRng;
use highwater_types::NodeId;
use tokio::sync::watch;
use turmoil::Sim;

use self::plan::{Act, Loss, Plan, Weak};
use self::shape::Shape;
use crate::checker::Checker;
use crate::host::{Host, name};
use crate::options::{BEGIN, CALM_MAX, TIME_MAX};
use crate::scenario::Scenario;
use crate::store::SimStore;
use crate::wire::Wire;
use crate::workload::Clients;
use crate::{Crash, Disk, Options, Outcome, StoreKind, Trace, WalOfRun};

/// How long a broker may be silent before it is fenced.
const SESSION: Duration = Duration::from_millis(SESSION_MS);
const SESSION_MS: u64 = 1200;
/// How long a process that could not start or go on is down.
const DOWN: Duration = Duration::from_millis(300);
/// How long a clean stop may take while something fails; then the process is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long after its last failure a node may still be fenced because of it.
const HEALED_AFTER: Duration = Duration::from_secs(4);
/// The same after a failure of one of several controllers. A snapshot whose request was lost on the way to another
/// controller is sent again after 11 s, and nothing may be decided until then.
const QUORUM_HEALED_AFTER: Duration = Duration::from_secs(15);
const CLIENTS: &str = "clients";

/// A node of the cluster and what is around it.
struct Member {
    host: Rc<Host>,
    wire: Wire,
    /// Whether a process of the node runs.
    is_up: bool,
    /// When the process is started again that could not start or go on.
    starts_at: Option<Duration>,
    /// How many failures of the node last, and when one began or ended last, if ever.
    failures: u32,
    failed_at: Option<Duration>,
}

impl Member {
    fn new(host: Host, wire: Wire) -> Self {
        Self {
            host: Rc::new(host),
            wire,
            is_up: true,
            starts_at: None,
            failures: 0,
            failed_at: None,
        }
    }
}

pub(crate) struct ClusterWorld<'a> {
    options: &'a Options,
    sim: Sim<'a>,
    members: BTreeMap<NodeId, Member>,
    store: SimStore,
    clients: Arc<Clients>,
    calm: watch::Sender<bool>,
    shape: Shape,
    plan: Plan,
    /// The directions, (from, to), in which nothing arrives.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// The pairs of nodes between which messages are held up.
    held: BTreeSet<(NodeId, NodeId)>,
    /// The broker that alone does not reach the store, in a run in which nothing else fails.
    without_store: Option<NodeId>,
    /// How often that broker was fenced.
    store_fences: u64,
}

impl<'a> ClusterWorld<'a> {
    /// Creates the nodes and their clients, and starts them.
    pub(crate) fn new(options: &'a Options) -> Self {
        let rng = SeededRng::from_seed(options.seed);
        let fork = || SeededRng::from_seed(rng.next_u64());
        let trace = options.trace.clone();
        let scenario = Scenario::draw(&rng).for_cluster();
        let shape = Shape::draw(&rng);
        let wals = wals(&rng, &shape);
        // the disk of a broker has more than its metadata
        let loses_a_voter =
            !shape.is_combined() && shape.controllers.len() > 1 && rng.below(2) == 0;
        let without_store = without_store(&rng, &shape, &wals).filter(|_| !loses_a_voter);
        let weak = Weak {
            loses_a_voter,
            without_store,
            shape: &shape,
            // the disk has the log of a voter, or of a broker
            may_lose_disks: !shape.is_combined() && wals.values().all(|it| *it == WalOfRun::Object),
        };
        let plan = weak.draw(&rng);
        // every other seed has a store without faults of its own
        let kind = match options.store {
            StoreKind::Directory if rng.below(2) == 0 => StoreKind::Failing,
            kind => kind,
        };
        let store = SimStore::new(kind, fork(), trace.clone());
        let member = |id: NodeId| {
            let disk = Disk::new(fork(), trace.clone(), options.lie);
            let of_run = (trace.clone(), fork());
            let reached = store.over_a_wire(fork());
            let mut host = host(id, (disk, reached.0), (&scenario, wals[&id]), of_run);
            shape.configure(&mut host, id);
            (id, Member::new(host, reached.1))
        };
        let members: BTreeMap<_, _> = shape.nodes().into_iter().map(member).collect();
        let mut sim = network(rng.next_u64(), &scenario);
        for member in members.values() {
            let host = Rc::clone(&member.host);
            sim.host(member.host.name.as_str(), move || {
                Rc::clone(&host).process()
            });
        }
        let (calm, calm_seen) = watch::channel(false);
        let brokers = shape.brokers.iter();
        let clients = Arc::new(Clients {
            trace,
            brokers: brokers.map(|id| members[id].host.as_broker()).collect(),
            controllers: shape.quorum(),
            loses_a_voter,
            checker: Checker::default(),
            scenario,
            rng: fork(),
            calm: calm_seen,
            producing: AtomicUsize::new(0),
        });
        let load = Arc::clone(&clients);
        sim.client(CLIENTS, async move {
            load.run().await;
            Ok(())
        });
        Self {
            options,
            sim,
            members,
            store,
            clients,
            calm,
            shape,
            plan,
            cut: BTreeSet::new(),
            held: BTreeSet::new(),
            without_store,
            store_fences: 0,
        }
    }

    /// Runs the plan and the end.
    pub(crate) fn run(mut self) -> Result<Outcome, String> {
        for (at, act) in std::mem::take(&mut self.plan) {
            self.steps_until(at)?;
            self.check_store_fence(act)?;
            self.note(act);
            self.act(act)?;
        }
        self.heal()?;
        self.calm.send_replace(true);
        self.finish()?;
        self.audit()?;
        Ok(self.outcome())
    }

    /// Ends all failures.
    fn heal(&mut self) -> Result<(), String> {
        self.store.heal();
        for (from, to) in std::mem::take(&mut self.cut) {
            self.sim.repair_oneway(name(from), name(to));
        }
        for (one, other) in std::mem::take(&mut self.held) {
            self.sim.release(name(one), name(other));
        }
        for id in self.ids() {
            self.act(Act::MendDisk(id))?;
            self.act(Act::MendStore(id))?;
            self.act(Act::Continue(id))?;
            self.act(Act::Start(id))?;
        }
        // what a failure left behind may end a process once more
        self.steps_until(self.sim.elapsed() + HEALED_AFTER)?;
        for id in self.ids() {
            self.act(Act::Start(id))?;
            self.members[&id].host.is_unsafe.set(false);
        }
        Ok(())
    }

    /// Notes that a failure begins or ends.
    fn note(&mut self, act: Act) {
        let now = self.sim.elapsed();
        for id in act.nodes() {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            match act.begins() {
                true => member.failures += 1,
                false => member.failures -= 1,
            }
            member.failed_at = Some(now);
        }
    }

    /// Checks that a node that was fenced, or a controller, has failed a short time ago: no fault of the store itself is a
    /// reason to fence a node, only that a node alone does not reach it (E8). Counts the fences for that.
    fn check_fences(&mut self) -> Result<(), String> {
        let now = self.sim.elapsed();
        let is_sound = |id, healed_after| {
            let member: &Member = &self.members[&id];
            let since = now.saturating_sub(healed_after);
            member.failures == 0 && member.failed_at.is_none_or(|at| at < since)
        };
        let controllers_after = match self.shape.controllers.len() {
            1 => HEALED_AFTER,
            _ => QUORUM_HEALED_AFTER,
        };
        let mut controllers = self.shape.controllers.iter();
        let are_controllers_sound = controllers.all(|id| is_sound(*id, controllers_after));
        for (id, member) in &self.members {
            if !member.host.was_fenced() {
                continue;
            }
            if are_controllers_sound && is_sound(*id, HEALED_AFTER) {
                return Err(format!(
                    "node {id} was fenced, and it reached controllers and store (W3, E8)"
                ));
            }
            let is_without_store = self.without_store == Some(*id) && member.failures > 0;
            self.store_fences += u64::from(is_without_store);
        }
        Ok(())
    }

    /// Checks, before a broker that alone did not reach the store does again, that it was fenced for that, if it is due.
    fn check_store_fence(&self, act: Act) -> Result<(), String> {
        let Some(id) = self.without_store.filter(|id| act == Act::MendStore(*id)) else {
            return Ok(());
        };
        let member = &self.members[&id];
        // A start waits for the store, and leads nothing; the store may be away for all for a while; and a new active
        // controller counts anew, as often as an operator changes the voters.
        let is_due = self.store_fences == 0
            && member.host.starts.get() > 0
            && self.store.faults() == 0
            && self.shape.controllers.len() == 1;
        let asked = member.wire.refused().filter(|_| is_due);
        match asked.is_some_and(|at| at + plan::FENCED_AFTER < self.sim.elapsed()) {
            true => Err(format!(
                "node {id} alone did not reach the store, and kept its partitions (E8)"
            )),
            false => Ok(()),
        }
    }

    /// Stops all nodes cleanly, cuts their power, starts them again, and lets a client read everything once more.
    fn audit(&mut self) -> Result<(), String> {
        for id in self.ids() {
            // a broker that is one of the last controllers has no quorum with which it could end its log
            let is_combined = self.shape.is_combined();
            self.members[&id].host.is_unsafe.set(is_combined);
            self.stop(id)?;
        }
        for id in self.ids() {
            self.crash(id, Loss::Of(Crash::Power));
            self.act(Act::Start(id))?;
            self.members[&id].host.is_unsafe.set(false);
        }
        let audit = Arc::clone(&self.clients);
        self.sim.client("auditor", async move {
            audit.audit().await;
            Ok(())
        });
        self.finish()
    }

    /// The nodes, controllers that are no brokers last.
    fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        self.options.trace.event(&format_args!("{act:?}"));
        tracing::debug!(?act, at = ?self.sim.elapsed(), "the plan");
        match act {
            Act::Crash(id, loss) => self.crash(id, loss),
            Act::Stop(id) => self.stop(id)?,
            Act::Start(id) => self.start(id),
            Act::Cut(way) => way.directions().for_each(|way| self.cut(way)),
            Act::Mend(way) => {
                for (from, to) in way.directions() {
                    self.cut.remove(&(from, to));
                    self.sim.repair_oneway(name(from), name(to));
                }
            }
            Act::Hold(one, other) => self.hold(one, other),
            Act::Release(one, other) => self.release(one, other),
            Act::SlowDisk(id, slow) => self.members[&id].host.disk.befalls(Some(slow)),
            Act::MendDisk(id) => self.members[&id].host.disk.befalls(None),
            Act::CutStore(id) => self.members[&id].wire.set_cut(true),
            Act::MendStore(id) => self.members[&id].wire.set_cut(false),
            Act::Pause(id) => self.pause(id),
            Act::Continue(id) => self.members[&id].host.standstill.end(),
        }
        Ok(())
    }

    /// A way that is cut stays so.
    fn hold(&mut self, one: NodeId, other: NodeId) {
        let is_cut = |(from, to)| self.cut.contains(&(from, to));
        if !is_cut((one, other)) && !is_cut((other, one)) {
            self.held.insert((one, other));
            self.sim.hold(name(one), name(other));
        }
    }

    fn release(&mut self, one: NodeId, other: NodeId) {
        if self.held.remove(&(one, other)) {
            self.sim.release(name(one), name(other));
            self.cut_again();
        }
    }

    /// Cuts what is cut, after the network has made a way whole.
    fn cut_again(&mut self) {
        for way in self.cut.clone() {
            self.cut(way);
        }
    }

    fn cut(&mut self, (from, to): (NodeId, NodeId)) {
        self.cut.insert((from, to));
        self.sim.partition_oneway(name(from), name(to));
    }

    fn pause(&self, id: NodeId) {
        let member = &self.members[&id];
        if member.is_up {
            member.host.standstill.begin();
            member.wire.stands_still();
        }
    }

    fn start(&mut self, id: NodeId) {
        let Some(member) = self.members.get_mut(&id).filter(|member| !member.is_up) else {
            return;
        };
        member.is_up = true;
        member.starts_at = None;
        self.sim.bounce(member.host.name.as_str());
    }

    /// Ends a node's process.
    fn crash(&mut self, id: NodeId, loss: Loss) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.is_up) else {
            return;
        };
        member.is_up = false;
        let host = Rc::clone(&member.host);
        // The runtime drops its tasks in the order of their ids, which are unique in the whole test process. So that
        // this order does not show, none of them may send anything while it is dropped.
        let others = self.ids().into_iter().filter(|other| *other != id);
        let others: Vec<String> = others.map(name).chain([CLIENTS.to_owned()]).collect();
        for other in &others {
            self.sim.partition(host.name.as_str(), other.as_str());
        }
        self.sim.crash(host.name.as_str());
        for other in &others {
            self.sim.repair(host.name.as_str(), other.as_str());
        }
        self.cut_again();
        // what was under way got lost
        self.held.retain(|(one, other)| *one != id && *other != id);
        host.disk.crash(match loss {
            Loss::Of(crash) => crash,
            Loss::Disk => Crash::Power,
        });
        if loss == Loss::Disk {
            host.disk.wipe();
        }
        host.ended();
    }

    /// Stops a node cleanly. One that does not stop in time while something fails is killed.
    fn stop(&mut self, id: NodeId) -> Result<(), String> {
        let member = &self.members[&id];
        if !member.is_up {
            return Ok(());
        }
        let host = Rc::clone(&member.host);
        host.stop.send_replace(true);
        let deadline = self.sim.elapsed() + STOP_MAX;
        while !host.is_stopped.get() && self.members[&id].is_up {
            self.step()?;
            if host.is_unsafe.get() && self.sim.elapsed() > deadline {
                break;
            }
        }
        if host.is_unsafe.get() {
            self.crash(id, Loss::Of(Crash::Process));
        }
        Ok(())
    }

    fn steps_until(&mut self, end: Duration) -> Result<(), String> {
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
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

    /// Runs one millisecond, and returns whether all clients are done.
    fn step(&mut self) -> Result<bool, String> {
        let now = self.sim.elapsed();
        for id in self.ids() {
            let member = &self.members[&id];
            if member.host.is_refused.get() && member.is_up {
                self.crash(id, Loss::Of(Crash::Process));
                if let Some(member) = self.members.get_mut(&id) {
                    member.starts_at = Some(now + DOWN);
                }
            } else if member.starts_at.is_some_and(|at| at <= now) {
                self.start(id);
            }
        }
        let stepped = self.sim.step().map_err(|error| error.to_string());
        self.check_fences()?;
        match self.clients.checker.violation() {
            Some(violation) => Err(violation),
            None => stepped,
        }
    }

    fn outcome(&self) -> Outcome {
        let hosts = || self.members.values().map(|member| &member.host);
        Outcome {
            hash: self.options.trace.hash(),
            events: self.options.trace.events(),
            operations: hosts().map(|host| host.disk.operations()).sum(),
            records: self.clients.checker.records(),
            starts: hosts().map(|host| host.starts.get()).sum(),
            elapsed: self.sim.elapsed(),
            syncs: BTreeMap::new(),
            lies: 0,
            store_faults: self.store.faults(),
            voter_changes: self.clients.checker.lock().quorum.changes,
            store_fences: self.store_fences,
        }
    }
}

/// The network of all nodes and clients.
fn network<'a>(seed: u64, scenario: &Scenario) -> Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + BEGIN)
        .simulation_duration(TIME_MAX)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(scenario.latency_max)
        .tcp_capacity(4096)
        .build()
}

/// The write-ahead log of each node. In most clusters all are in the store; in the others each broker has its own kind.
fn wals(rng: &SeededRng, shape: &Shape) -> BTreeMap<NodeId, WalOfRun> {
    let differ = rng.below(4) == 0;
    let of = |_id: &NodeId| match rng.below(3) {
        0 if differ => WalOfRun::Disk,
        1 if differ => WalOfRun::Changing,
        _ => WalOfRun::Object,
    };
    let nodes = shape.nodes().into_iter();
    nodes.map(|id| (id, of(&id))).collect()
}

/// In some clusters, a broker that alone does not reach the store for long. Only brokers on the object WAL tell whether it
/// is there, so that there must be another one.
fn without_store(
    rng: &SeededRng,
    shape: &Shape,
    wals: &BTreeMap<NodeId, WalOfRun>,
) -> Option<NodeId> {
    let brokers = shape.brokers.iter().copied();
    let mut on_objects = brokers.filter(|id| wals[id] == WalOfRun::Object);
    match (rng.below(10), on_objects.next(), on_objects.next()) {
        (0, Some(one), Some(_other)) => Some(one),
        _ => None,
    }
}

/// A node with the settings that all nodes of a cluster have.
fn host(
    id: NodeId,
    (disk, store): (Disk, SimStore),
    (scenario, wal): (&Scenario, WalOfRun),
    of_run: (Trace, SeededRng),
) -> Host {
    let shape = (scenario.clone(), wal);
    let mut host = Host::new(id, (disk, "memory:", Some(store)), shape, of_run);
    let ms = |time: Duration| time.as_millis().to_string();
    host.is_unsafe.set(true);
    host.set(&[
        ("broker.session.timeout.ms", ms(SESSION)),
        ("broker.heartbeat.interval.ms", ms(SESSION / 6)),
        ("highwater.object.grace.ms", "200".to_owned()),
    ]);
    host
}
