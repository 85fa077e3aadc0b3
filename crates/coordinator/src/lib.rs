//! Coordinators as pure state machines over Kafka's internal topics, in Kafka's own record formats.
//!
//! [`Coordinator`] is the trait of every coordinator, on which the broker's driver relies. A [`GroupShard`] is the
//! coordinator of one partition of `__consumer_offsets`: groups of every kind and their committed offsets. Source:
//! `CoordinatorRuntime`, `GroupMetadataManager`, `OffsetMetadataManager` and `ClassicGroup` of Apache Kafka 4.

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod classic;
mod described;
mod group;
mod machine;
mod offsets;
mod records;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod shard;

use bytes::Bytes;
use highwater_protocol::ErrorCode;

pub use described::{Described, DescribedMember, Listed};
pub use machine::{
    Answer, Coordinator, CoordinatorRecord, Effects, Now, RecordError, Ticket, UnknownRecord,
};
pub use offsets::{CommittedOffset, OffsetCommit};
pub use records::{batch_bytes, partition_of};
pub use shard::GroupShard;

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
    /// `offset.metadata.max.bytes`, which Kafka compares with the length in UTF-16 units.
    pub metadata_units_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
}

/// What a group coordinator asks its driver to do outside of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAction {
    /// Count a rebalance that began, in the metrics.
    CountRebalance,
}

/// The effects of a call on groups.
pub type GroupEffects = Effects<GroupAction>;

/// A JoinGroup request of a new or a known member.
#[derive(Debug, Clone)]
pub struct Join {
    /// The group id.
    pub group: String,
    /// The member id; empty for a new member.
    pub member: String,
    /// The id that a new member gets.
    pub fresh_member: String,
    /// Whether a new member has to join again with its id (KIP-394).
    pub requires_id: bool,
    /// The client id.
    pub client_id: String,
    /// The client's address, as Kafka writes it: `/127.0.0.1`.
    pub client_host: String,
    /// The session timeout in milliseconds.
    pub session_timeout_ms: i32,
    /// The rebalance timeout in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The protocol type: `consumer`, `connect` and others.
    pub protocol_type: String,
    /// The names and metadata of the member's protocols, the preferred one first.
    pub protocols: Vec<(String, Bytes)>,
}

/// The answer to a [`Join`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// The error, or `None` of Kafka's codes.
    pub error: ErrorCode,
    /// The generation, or -1 in an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that was chosen.
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

/// A SyncGroup request: a member asks for its assignment, and the leader brings those of all members.
#[derive(Debug, Clone)]
pub struct Sync {
    /// The group id.
    pub group: String,
    /// The member id.
    pub member: String,
    /// The member's generation.
    pub generation: i32,
    /// The group's protocol type as the member knows it, if the request has it.
    pub protocol_type: Option<String>,
    /// The chosen protocol as the member knows it, if the request has it.
    pub protocol: Option<String>,
    /// The assignments by member id; from the leader only.
    pub assignments: Vec<(String, Bytes)>,
}

/// An OffsetCommit request, of a member or of a client that is no member.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The group id.
    pub group: String,
    /// The member id; empty for a client that is no member.
    pub member: String,
    /// The member's generation; -1 for a client that is no member.
    pub generation: i32,
    /// The offsets to be committed.
    pub offsets: Vec<OffsetCommit>,
}

/// The answer to a [`Sync`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// The error, or `None` of Kafka's codes.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that was chosen.
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
