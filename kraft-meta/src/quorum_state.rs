//! What is told of the quorum to an operator.

use std::time::Duration;

use highwater_types::{NodeId, Term, Uuid};

/// The quorum as the active controller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumState {
    /// The active controller.
    pub leader: NodeId,
    /// Its term.
    pub term: Term,
    /// The index after the last entry that is committed.
    pub committed_end: u64,
    /// The voters, the active controller among them.
    pub voters: Vec<ReplicaState>,
    /// The brokers that follow the metadata without a vote.
    pub observers: Vec<ReplicaState>,
}

/// How far a node has the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    /// The node.
    pub node: NodeId,
    /// The id of its data directory; all zeroes if it is not known.
    pub directory: Uuid,
    /// The index after the last entry that it is known to have.
    pub log_end: Option<u64>,
    /// How long ago it was heard; `None` if it was not heard by this active controller.
    pub heard_before: Option<Duration>,
    /// Whether it had everything when it was heard.
    pub is_caught_up: bool,
}
