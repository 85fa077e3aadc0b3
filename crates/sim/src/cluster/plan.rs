//! What fails in a run of a cluster, and when.

use std::time::Duration;

use highwater_runtime::SeededRng;
use highwater_types::NodeId;

use super::SESSION_MS;
use super::shape::Shape;
use crate::{Crash, Trouble};

/// Something that happens to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// The node's process ends without a word.
    Crash(NodeId, Loss),
    /// The node is told to stop.
    Stop(NodeId),
    /// A process of the node begins, if none runs.
    Start(NodeId),
    /// What is sent on the way gets lost.
    Cut(Way),
    /// What is sent on the way arrives.
    Mend(Way),
    /// What one of two nodes sends to the other one is under way, and arrives when this ends.
    Hold(NodeId, NodeId),
    /// All that is under way between two nodes arrives, in its order.
    Release(NodeId, NodeId),
    /// No request of the node reaches the store.
    CutStore(NodeId),
    /// The node reaches the store again.
    MendStore(NodeId),
    /// The node's process stands still, and all that it holds stays.
    Pause(NodeId),
    /// The node's process goes on.
    Continue(NodeId),
    /// The node's disk takes long for each write and each sync, of all files or of logs.
    SlowDisk(NodeId, Trouble),
    /// The node's disk is as fast as ever.
    MendDisk(NodeId),
}

/// The way from one node to another one, or that and the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) and_back: bool,
}

impl Way {
    /// Each direction, as (from, to).
    pub(super) fn directions(self) -> impl Iterator<Item = (NodeId, NodeId)> {
        let back = self.and_back.then_some((self.to, self.from));
        [(self.from, self.to)].into_iter().chain(back)
    }
}

impl Act {
    /// The nodes that an act concerns.
    pub(super) fn nodes(self) -> impl Iterator<Item = NodeId> {
        let (one, other) = match self {
            Self::Cut(way) | Self::Mend(way) => (way.from, Some(way.to)),
            Self::Hold(one, other) | Self::Release(one, other) => (one, Some(other)),
            Self::Crash(id, _)
            | Self::Stop(id)
            | Self::Start(id)
            | Self::CutStore(id)
            | Self::MendStore(id)
            | Self::Pause(id)
            | Self::Continue(id)
            | Self::SlowDisk(id, _)
            | Self::MendDisk(id) => (id, None),
        };
        [one].into_iter().chain(other)
    }

    /// Whether a failure begins with an act; otherwise one ends.
    pub(super) fn begins(self) -> bool {
        match self {
            Self::Crash(..)
            | Self::Stop(_)
            | Self::Cut(_)
            | Self::Hold(..)
            | Self::CutStore(_)
            | Self::Pause(_)
            | Self::SlowDisk(..) => true,
            Self::Start(_)
            | Self::Mend(_)
            | Self::Release(..)
            | Self::MendStore(_)
            | Self::Continue(_)
            | Self::MendDisk(_) => false,
        }
    }
}

/// What a crash takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// What the crash of the process or of its machine takes.
    Of(Crash),
    /// Everything on the node's disk.
    Disk,
}

/// The acts of a run, in the order of their times since the beginning of the run.
pub(super) type Plan = Vec<(Duration, Act)>;

/// The first failure comes within this time, and each further one within this time after the one before it.
const BETWEEN_MS: u64 = 3000;
/// When a cluster of one controller runs. Nothing fails before.
const BEGIN_MS: u64 = 1500;
const FAILURES: u64 = 6;
/// When all brokers of a cluster serve in which nothing has failed.
const SETTLED: Duration = Duration::from_secs(5);
/// The time within which a broker that alone does not reach the store is fenced (E8), counted from its first request
/// without an answer. After 3 s the others begin to ask the store, if they have nothing to put; their answers must have
/// come for 3 s; and heartbeats and looks take their time.
pub(super) const FENCED_AFTER: Duration = Duration::from_secs(9);
const STORE_CUT: Duration = Duration::from_secs(14);
/// How often a broker does not reach the store in such a run at most, and for how long it does in between.
const STORE_MOMENTS: u64 = 4;
const STORE_MOMENT_MS: u64 = 1500;

/// What can fail in a cluster.
pub(super) struct Weak<'a> {
    pub(super) shape: &'a Shape,
    /// Whether a broker that loses its disk goes on without it.
    pub(super) may_lose_disks: bool,
    /// Whether one of the voters loses its disk.
    pub(super) loses_a_voter: bool,
    /// The broker that does not reach the store for so long that it is fenced (E8), if nothing else fails.
    pub(super) without_store: Option<NodeId>,
}

/// A failure.
struct Failure {
    /// How long after its draw it begins.
    delay: Duration,
    begin: Act,
    end: Act,
    lasts: Duration,
}

impl Failure {
    fn now(begin: Act, end: Act, lasts: Duration) -> Self {
        Self {
            delay: Duration::ZERO,
            begin,
            end,
            lasts,
        }
    }

    fn crash(id: NodeId, loss: Loss, lasts: Duration) -> Self {
        Self::now(Act::Crash(id, loss), Act::Start(id), lasts)
    }

    fn pause(id: NodeId, lasts: Duration) -> Self {
        Self::now(Act::Pause(id), Act::Continue(id), lasts)
    }

    fn power(id: NodeId, lasts: Duration) -> Self {
        Self::crash(id, Loss::Of(Crash::Power), lasts)
    }

    fn cut_store(id: NodeId, lasts: Duration) -> Self {
        Self::now(Act::CutStore(id), Act::MendStore(id), lasts)
    }

    fn slow_disk(id: NodeId, slow: Trouble, lasts: Duration) -> Self {
        Self::now(Act::SlowDisk(id, slow), Act::MendDisk(id), lasts)
    }

    fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Puts the failure into a plan that draws it at a time.
    fn put(self, plan: &mut Plan, at: Duration) {
        let begin = at + self.delay;
        plan.push((begin, self.begin));
        plan.push((begin + self.lasts, self.end));
    }
}

/// The time in which the other controllers elect another one when the active one is silent.
const ELECTED_MS: u64 = 2500;

impl Weak<'_> {
    /// Draws what fails. Failures may overlap, so that most controllers may be away at once; each lasts for seconds.
    pub(super) fn draw(&self, rng: &SeededRng) -> Plan {
        let mut plan = Plan::new();
        let mut at = Duration::from_millis(BEGIN_MS);
        if self.loses_a_voter {
            // a second loss might take what only two voters have
            let voter = one_of(rng, &self.shape.controllers);
            let lost = Failure::crash(voter, Loss::Disk, a_while(rng));
            lost.after(at + ms(rng, 2 * BETWEEN_MS))
                .put(&mut plan, Duration::ZERO);
        }
        if let Some(broker) = self.without_store {
            Self::store_comes_and_goes(rng, broker, &mut plan);
            return plan;
        }
        for _ in 0..2 + rng.below(FAILURES) {
            at += Duration::from_millis(1 + rng.below(BETWEEN_MS));
            for failure in self.failures(rng) {
                failure.put(&mut plan, at);
            }
        }
        plan.sort_by_key(|(at, _)| *at);
        plan
    }

    /// A broker does not reach the store for so long that it is fenced (E8). Then the store is there for moments only, in
    /// which the broker may begin to start again (W11).
    fn store_comes_and_goes(rng: &SeededRng, broker: NodeId, plan: &mut Plan) {
        let mut at = SETTLED + a_while(rng);
        let mut lasts = STORE_CUT;
        for _ in 0..1 + rng.below(STORE_MOMENTS) {
            Failure::cut_store(broker, lasts).put(plan, at);
            at += lasts + ms(rng, STORE_MOMENT_MS);
            lasts = a_while(rng);
        }
    }

    /// One failure, or several that belong together.
    fn failures(&self, rng: &SeededRng) -> Vec<Failure> {
        let (brokers, controllers) = (&self.shape.brokers, &self.shape.controllers);
        let (broker, controller) = (one_of(rng, brokers), one_of(rng, controllers));
        let any = one_of(rng, &self.shape.nodes());
        let a_while = a_while(rng);
        let one = match rng.below(25) {
            0..=2 => Failure::crash(broker, self.loss(rng), a_while),
            3 => Failure::crash(controller, of_a_process(rng), a_while),
            4 => Failure::now(Act::Stop(broker), Act::Start(broker), a_while),
            5 => Failure::now(Act::Stop(controller), Act::Start(controller), a_while),
            6..=8 => {
                let way = self.way(rng);
                Failure::now(Act::Cut(way), Act::Mend(way), a_while * 2)
            }
            9 => Failure::cut_store(any, a_while * 2),
            10 => Failure::slow_disk(any, Trouble::DataSlow, a_while * 2),
            11..=12 => Failure::pause(broker, a_while * 2),
            13 => Failure::pause(broker, about_a_session(rng)),
            14 => Failure::pause(controller, a_while),
            15..=16 => return self.lost_answers(rng, broker),
            17..=18 => return self.late_messages(rng, broker),
            19..=20 => return self.sealers_that_meet(rng, broker),
            21..=22 => return self.power_of_a_slow_log(rng, controller),
            23 => return self.power_of_a_voter(rng, controller),
            // the power of all controllers fails, and each of them is back after another time
            _ => return self.all_controllers(|id| Failure::power(id, ms(rng, SESSION_MS))),
        };
        vec![one]
    }

    fn all_controllers(&self, failure: impl Fn(NodeId) -> Failure) -> Vec<Failure> {
        self.shape
            .controllers
            .iter()
            .copied()
            .map(failure)
            .collect()
    }

    /// No answer of a controller reaches a broker, whose commands are carried out: it sends them again (U3). Neither is
    /// it fenced.
    fn lost_answers(&self, rng: &SeededRng, broker: NodeId) -> Vec<Failure> {
        let lasts = a_while(rng);
        let others = self.shape.controllers.iter().filter(|id| **id != broker);
        let cut = |id: &NodeId| {
            let way = Way {
                from: *id,
                to: broker,
                and_back: false,
            };
            Failure::now(Act::Cut(way), Act::Mend(way), lasts)
        };
        others.map(cut).collect()
    }

    /// What a broker sends to the controllers arrives about a session late: others may have taken its partitions over,
    /// and what it says then counts no more (E6). A command that it has sent again by another way may come a second
    /// time (U3).
    fn late_messages(&self, rng: &SeededRng, broker: NodeId) -> Vec<Failure> {
        let others = self.shape.controllers.iter().filter(|id| **id != broker);
        let hold = |id: &NodeId| {
            let lasts = about_a_session(rng) + ms(rng, SESSION_MS / 2);
            let (begin, end) = (Act::Hold(broker, *id), Act::Release(broker, *id));
            Failure::now(begin, end, lasts)
        };
        others.map(hold).collect()
    }

    /// A broker is away for about a session, and the others do not reach the store when they begin to seal its log, so
    /// that it may begin too: a closing comes too late (W8). Or it goes on where it was, and its log is sealed
    /// meanwhile (W7).
    fn sealers_that_meet(&self, rng: &SeededRng, broker: NodeId) -> Vec<Failure> {
        let lasts = about_a_session(rng) + ms(rng, SESSION_MS / 2);
        let away = match rng.below(3) {
            0 => Failure::pause(broker, lasts),
            _ => Failure::crash(broker, of_a_process(rng), lasts),
        };
        let others = self.shape.brokers.iter().filter(|id| **id != broker);
        let delay = Duration::from_millis(SESSION_MS / 2);
        let cut =
            |id: &NodeId| Failure::cut_store(*id, delay + ms(rng, 2 * SESSION_MS)).after(delay);
        [away].into_iter().chain(others.map(cut)).collect()
    }

    /// The power of a controller fails whose log is written slowly: the others have what it has not written yet, and it
    /// may have applied that, and have a snapshot of it (D2).
    fn power_of_a_slow_log(&self, rng: &SeededRng, controller: NodeId) -> Vec<Failure> {
        let delay = ms(rng, 2 * SESSION_MS);
        let power = Failure::power(controller, ms(rng, SESSION_MS)).after(delay);
        let slow = Failure::slow_disk(controller, Trouble::LogsSlow, delay * 2);
        vec![slow, power]
    }

    /// A controller stands still until the others may have elected another one. The power of one of these fails and is back
    /// before the first one goes on: what it voted and took must not be forgotten.
    fn power_of_a_voter(&self, rng: &SeededRng, stands_still: NodeId) -> Vec<Failure> {
        let mut others = self.shape.controllers.clone();
        others.retain(|id| *id != stands_still);
        let delay = Duration::from_millis(ELECTED_MS) + ms(rng, ELECTED_MS / 2);
        let lasts = ms(rng, ELECTED_MS / 10);
        let pause = Failure::pause(stands_still, delay + lasts + ms(rng, ELECTED_MS / 5));
        if others.is_empty() {
            return vec![pause];
        }
        vec![
            pause,
            Failure::power(one_of(rng, &others), lasts).after(delay),
        ]
    }

    fn loss(&self, rng: &SeededRng) -> Loss {
        match rng.below(3) {
            0 if self.may_lose_disks => Loss::Disk,
            _ => of_a_process(rng),
        }
    }

    /// A way between a controller and another node: brokers do not call each other.
    fn way(&self, rng: &SeededRng) -> Way {
        let controller = one_of(rng, &self.shape.controllers);
        let mut others = self.shape.nodes();
        others.retain(|id| *id != controller);
        let other = one_of(rng, &others);
        let (from, to) = match rng.below(2) {
            0 => (controller, other),
            _ => (other, controller),
        };
        Way {
            from,
            to,
            and_back: rng.below(3) > 0,
        }
    }
}

/// At least one and at most so many milliseconds.
fn ms(rng: &SeededRng, max: u64) -> Duration {
    Duration::from_millis(1 + rng.below(max))
}

/// A time that is shorter than a session as often as longer.
fn a_while(rng: &SeededRng) -> Duration {
    ms(rng, 2 * SESSION_MS)
}

/// A time at whose end a silent broker has just been fenced, or is about to be.
fn about_a_session(rng: &SeededRng) -> Duration {
    Duration::from_millis(SESSION_MS * 5 / 6) + ms(rng, SESSION_MS / 2)
}

fn of_a_process(rng: &SeededRng) -> Loss {
    Loss::Of(match rng.below(2) {
        0 => Crash::Process,
        _ => Crash::Power,
    })
}

fn one_of(rng: &SeededRng, ids: &[NodeId]) -> NodeId {
    let at = rng.below(ids.len() as u64);
    ids[usize::try_from(at).unwrap_or(0)]
}
