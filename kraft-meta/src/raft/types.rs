//! The library's types as we fill them in.

use std::fmt;

use crate::command::{Command, Outcome, Rejection};

openraft::declare_raft_types!(
    /// Our choice of types.
    pub(crate) Types:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = super::replica::Replica,
        AsyncRuntime = Runtime,
);

/// The library's runtime with our randomness: its jitter comes from [`super::Config::seed`], also in its own tasks.
pub(crate) type Runtime =
    openraft::rt::deterministic_rng::DeterministicRng<openraft::impls::TokioRuntime>;

/// A command on its way to the state machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal(pub(crate) Command);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("command")
    }
}

/// Whether an entry of the present term is committed, as far as this replica knows. Before that a leader may not know of all
/// that its predecessors had committed.
pub(crate) fn has_decided(metrics: &Metrics) -> bool {
    let committed = metrics.cluster_committed;
    committed.is_some_and(|last| last.leader_id.term == metrics.current_term)
}

/// The result of an entry; an entry without a command does nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Applied(pub(crate) Result<Outcome, Rejection>);

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("applied")
    }
}

/// What the library tells of this replica.
pub(crate) type Metrics = openraft::RaftMetrics<Types>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, super::replica::Replica>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot =
    openraft::type_config::alias::SnapshotOf<Types, super::snapshot_store::SnapshotFile>;
pub(crate) type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;
