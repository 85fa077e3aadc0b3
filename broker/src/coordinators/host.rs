//! What the driver is told of a kind of coordinator.

use std::fmt::Debug;

use highwater_coordinator::{Coordinator, Effects};
use highwater_s3stream::AppendReceipt;

/// The actions of a state machine.
type ActionOf<M> = <M as Coordinator>::Action;

/// One kind of coordinator on this node.
pub(crate) trait Host: Debug + Send + Sync + 'static {
    /// Its state machine, one for each partition.
    type Machine: Coordinator;

    /// The internal topic that its state machines are replicated through.
    const TOPIC: &'static str;

    /// A state machine that has replayed nothing yet.
    fn empty(&self) -> Self::Machine;

    /// Tells a state machine, which has replayed all of its log, what changed elsewhere meanwhile.
    fn catch_up(&self, machine: &mut Self::Machine, effects: &mut Effects<ActionOf<Self::Machine>>);

    /// Does what a state machine wants done outside of its partition, without waiting. What must be durable before others may
    /// know of it comes along; whatever takes longer is a task of the host's own, which asks the state machine again.
    fn act(&self, action: ActionOf<Self::Machine>, undurable: Option<&AppendReceipt>);
}
