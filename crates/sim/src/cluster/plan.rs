//! What fails in a run of a cluster, and when.

use std::time::Duration;

use highwater_runtime::SeededRng;
use highwater_types::NodeId;

use super::{BROKERS, CONTROLLER, SESSION};
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
    /// Nothing gets from the broker to the controller, or back.
    CutController(NodeId),
    /// The broker reaches the controller again.
    MendController(NodeId),
    /// No request of the node reaches the store.
    CutStore(NodeId),
    /// The node reaches the store again.
    MendStore(NodeId),
    /// The node's process stands still, and all that it holds stays.
    Pause(NodeId),
    /// The node's process goes on.
    Continue(NodeId),
}

impl Act {
    /// The node that an act concerns, and whether a failure begins with it.
    pub(super) fn of(self) -> (NodeId, bool) {
        match self {
            Self::Crash(id, _)
            | Self::Stop(id)
            | Self::CutController(id)
            | Self::CutStore(id)
            | Self::Pause(id) => (id, true),
            Self::Start(id)
            | Self::MendController(id)
            | Self::MendStore(id)
            | Self::Continue(id) => (id, false),
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
/// When everything runs. Nothing fails before.
const BEGIN_MS: u64 = 1500;
const FAILURES: u64 = 6;

/// Draws what fails. Failures may overlap.
pub(super) fn draw(rng: &SeededRng) -> Plan {
    let mut plan = Plan::new();
    let mut at = Duration::from_millis(BEGIN_MS);
    for _ in 0..2 + rng.below(FAILURES) {
        at += Duration::from_millis(1 + rng.below(BETWEEN_MS));
        let (first, then, after) = failure(rng);
        plan.push((at, first));
        plan.push((at + after, then));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// A failure, its end, and the time between them.
fn failure(rng: &SeededRng) -> (Act, Act, Duration) {
    let ms = |max| Duration::from_millis(1 + rng.below(max));
    let broker = NodeId(1 + i32::try_from(rng.below(BROKERS)).unwrap_or(0));
    // shorter than a session as often as longer
    let session = u64::try_from(SESSION.as_millis()).unwrap_or(0);
    let a_while = ms(2 * session);
    match rng.below(14) {
        0..=3 => {
            let loss = match rng.below(3) {
                0 => Loss::Of(Crash::Process),
                1 => Loss::Of(Crash::Power),
                _ => Loss::Disk,
            };
            (Act::Crash(broker, loss), Act::Start(broker), a_while)
        }
        4 => {
            let loss = match rng.below(2) {
                0 => Loss::Of(Crash::Process),
                _ => Loss::Of(Crash::Power),
            };
            (
                Act::Crash(CONTROLLER, loss),
                Act::Start(CONTROLLER),
                a_while,
            )
        }
        5 => (Act::Stop(broker), Act::Start(broker), a_while),
        6..=7 => (
            Act::CutController(broker),
            Act::MendController(broker),
            a_while * 2,
        ),
        8..=9 => (Act::CutStore(broker), Act::MendStore(broker), a_while * 2),
        10..=12 => (Act::Pause(broker), Act::Continue(broker), a_while * 2),
        _ => (Act::Pause(CONTROLLER), Act::Continue(CONTROLLER), a_while),
    }
}
