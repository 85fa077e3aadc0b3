//! What a kind of coordinator supplies to the driver.

use std::fmt::Debug;

use highwater_coordinator::{Coordinator, Effects};
use highwater_s3stream::AppendReceipt;

/// The actions of a state machine.
type ActionOf<M> = <M as Coordinator>::Action;

/// One kind of coordinator on this node.
pub(crate) trait Host: Debug + Send + Sync + 'static {
    /// The state machine; there is one for each partition.
    type Machine: Coordinator;

    /// The internal topic through which the state machines are replicated.
    const TOPIC: &'static str;

    /// Makes a state machine that has replayed nothing yet.
    fn empty(&self) -> Self::Machine;

    /// Tells a state machine, which has replayed its whole log, about changes elsewhere in the meantime.
    fn catch_up(&self, machine: &mut Self::Machine, effects: &mut Effects<ActionOf<Self::Machine>>);

    /// Carries out an action outside of the state machine's partition, without waiting. The receipt is the one that
    /// must be durable before the action's effect may be seen. An action that takes longer becomes a task of the host,
    /// which calls the state machine when it is done.
    fn act(&self, action: ActionOf<Self::Machine>, undurable: Option<&AppendReceipt>);
}
