//! Coordinators as pure state machines over Kafka's internal topics, in Kafka's own record formats.
//!
//! [`Coordinator`] is what they have in common, and what drives them relies on. One [`GroupShard`] is what one partition of
//! `__consumer_offsets` holds: groups of every kind, and the offsets committed in them.
//! Source: `CoordinatorRuntime`, `GroupMetadataManager`, `OffsetMetadataManager` and `ClassicGroup` of Apache Kafka 4.

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod classic;
mod group;
mod machine;
mod offsets;
mod records;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod shard;

use bytes::Bytes;
use highwater_protocol::ErrorCode;

pub use machine::{Answer, Coordinator, CoordinatorRecord, Effects, Now, Ticket};
pub use offsets::{CommittedOffset, OffsetCommit};
pub use records::{RecordError, UnknownRecord, batch_bytes, partition_of};
pub use shard::{Described, DescribedMember, GroupShard, Listed};

/// Kafka's group settings.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i32,
    /// `group.max.size`.
    pub members_max: usize,
    /// `offset.metadata.max.bytes`, which Kafka counts in UTF-16 units.
    pub metadata_units_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
}

/// What groups want done outside of their partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAction {
    /// A rebalance began: it is counted.
    CountRebalance,
}

/// What a call on groups leaves to be done.
pub type GroupEffects = Effects<GroupAction>;

/// A member that joins, or joins again.
#[derive(Debug, Clone)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Empty for a new one.
    pub member: String,
    /// What a new member is called.
    pub fresh_member: String,
    /// Whether a new member has to come again with its id (KIP-394).
    pub requires_id: bool,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is, as Kafka writes it: `/127.0.0.1`.
    pub client_host: String,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// Names and metadata, the dearest first.
    pub protocols: Vec<(String, Bytes)>,
}

/// The answer to a [`Join`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// Why not, or none.
    pub error: ErrorCode,
    /// -1 in an error.
    pub generation: i32,
    /// The group's.
    pub protocol_type: Option<String>,
    /// The one chosen.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The member's own id.
    pub member: String,
    /// Every member with its metadata; for the leader only.
    pub members: Vec<(String, Bytes)>,
}

impl JoinReply {
    fn error(error: ErrorCode, member: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member: member.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A member that wants its assignment; the leader brings them all.
#[derive(Debug, Clone)]
pub struct Sync {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// Its generation.
    pub generation: i32,
    /// What it believes the group's to be, if it says.
    pub protocol_type: Option<String>,
    /// What it believes was chosen, if it says.
    pub protocol: Option<String>,
    /// By member; from the leader only.
    pub assignments: Vec<(String, Bytes)>,
}

/// Offsets that a member, or somebody outside the group, commits.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The group.
    pub group: String,
    /// The member; empty for somebody outside.
    pub member: String,
    /// Its generation; -1 for somebody outside.
    pub generation: i32,
    /// What is committed.
    pub offsets: Vec<OffsetCommit>,
}

/// The answer to a [`Sync`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// Why not, or none.
    pub error: ErrorCode,
    /// The group's.
    pub protocol_type: Option<String>,
    /// The one chosen.
    pub protocol: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
}

impl SyncReply {
    fn error(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}
