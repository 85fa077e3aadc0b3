//! What fails in a run of a cluster, and when.

use std::time::Duration;

use highwater_runtime::SeededRng;
use highwater_types::NodeId;

use super::SESSION;
use super::shape::Shape;
use crate::Crash;

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
    /// No request of the node reaches the store.
    CutStore(NodeId),
    /// The node reaches the store again.
    MendStore(NodeId),
    /// The node's process stands still, and all that it holds stays.
    Pause(NodeId),
    /// The node's process goes on.
    Continue(NodeId),
    /// The node's disk takes long for each write and each sync.
    SlowDisk(NodeId),
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
            Self::Crash(id, _)
            | Self::Stop(id)
            | Self::Start(id)
            | Self::CutStore(id)
            | Self::MendStore(id)
            | Self::Pause(id)
            | Self::Continue(id)
            | Self::SlowDisk(id)
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
            | Self::CutStore(_)
            | Self::Pause(_)
            | Self::SlowDisk(_) => true,
            Self::Start(_)
            | Self::Mend(_)
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

/// What can fail in a cluster.
pub(super) struct Weak<'a> {
    pub(super) shape: &'a Shape,
    /// Whether a broker that loses its disk goes on without it.
    pub(super) may_lose_disks: bool,
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
}

/// The time in which the other controllers elect another one when the active one is silent.
const ELECTED_MS: u64 = 2500;

impl Weak<'_> {
    /// Draws what fails. Failures may overlap, so that most controllers may be away at once; each lasts for seconds.
    pub(super) fn draw(&self, rng: &SeededRng) -> Plan {
        let mut plan = Plan::new();
        let mut at = Duration::from_millis(BEGIN_MS);
        for _ in 0..2 + rng.below(FAILURES) {
            at += Duration::from_millis(1 + rng.below(BETWEEN_MS));
            for failure in self.failures(rng) {
                let begin = at + failure.delay;
                plan.push((begin, failure.begin));
                plan.push((begin + failure.lasts, failure.end));
            }
        }
        plan.sort_by_key(|(at, _)| *at);
        plan
    }

    /// One failure, or several that belong together.
    fn failures(&self, rng: &SeededRng) -> Vec<Failure> {
        let ms = |max| Duration::from_millis(1 + rng.below(max));
        let (brokers, controllers) = (&self.shape.brokers, &self.shape.controllers);
        let (broker, controller) = (one_of(rng, brokers), one_of(rng, controllers));
        let any = one_of(rng, &self.shape.nodes());
        // shorter than a session as often as longer
        let session = u64::try_from(SESSION.as_millis()).unwrap_or(0);
        let a_while = ms(2 * session);
        let one = match rng.below(19) {
            0..=3 => Failure::crash(broker, self.loss(rng), a_while),
            4 => Failure::crash(controller, of_a_process(rng), a_while),
            5 => Failure::now(Act::Stop(broker), Act::Start(broker), a_while),
            6 => Failure::now(Act::Stop(controller), Act::Start(controller), a_while),
            7..=9 => {
                let way = self.way(rng);
                Failure::now(Act::Cut(way), Act::Mend(way), a_while * 2)
            }
            10..=11 => Failure::now(Act::CutStore(any), Act::MendStore(any), a_while * 2),
            12..=14 => Failure::pause(broker, a_while * 2),
            15 => Failure::pause(controller, a_while),
            16 => Failure::now(Act::SlowDisk(any), Act::MendDisk(any), a_while * 2),
            17 => return self.power_of_a_voter(rng, controller),
            _ => {
                // the power of all controllers fails, and each of them is back after another time
                let power = |id: &NodeId| Failure::crash(*id, Loss::Of(Crash::Power), ms(session));
                return controllers.iter().map(power).collect();
            }
        };
        vec![one]
    }

    /// A controller stands still until the others may have elected another one. The power of one of these fails and is back
    /// before the first one goes on: what it voted and took must not be forgotten.
    fn power_of_a_voter(&self, rng: &SeededRng, stands_still: NodeId) -> Vec<Failure> {
        let ms = |max| Duration::from_millis(1 + rng.below(max));
        let mut others = self.shape.controllers.clone();
        others.retain(|id| *id != stands_still);
        let delay = Duration::from_millis(ELECTED_MS) + ms(ELECTED_MS / 2);
        let lasts = ms(ELECTED_MS / 10);
        let pause = Failure::pause(stands_still, delay + lasts + ms(ELECTED_MS / 5));
        if others.is_empty() {
            return vec![pause];
        }
        let power = Failure::crash(one_of(rng, &others), Loss::Of(Crash::Power), lasts);
        vec![pause, Failure { delay, ..power }]
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
