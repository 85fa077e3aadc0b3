//! The Raft log's records on disk: prost messages of our own, so that the library's types may change.

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::Uuid;
use openraft::EntryPayload;
use prost::{Message, Oneof};

use super::replica::Replica;
use super::types::{Entry, LeaderId, LogId, Membership, Proposal, StoredMembership, Vote};
use crate::command::{Command, Endpoint};

/// One record of the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogRecord {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is an entry, and few are alive at a time"
)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Vote(VoteRecord),
    #[prost(message, tag = "2")]
    Entry(EntryRecord),
    /// Removes the entries after this index, or every entry if `all` is set.
    #[prost(message, tag = "3")]
    Truncate(TruncateRecord),
    /// Removes the entries up to this one, which a snapshot covers.
    #[prost(message, tag = "4")]
    Purge(LogIdRecord),
    /// Names the data directory of a voter, of this one or of another.
    #[prost(message, tag = "5")]
    Directory(DirectoryRecord),
    /// Says that a leader's snapshot up to this entry may take the place of the own one, so that a log which ends before
    /// it is whole.
    #[prost(message, tag = "6")]
    Install(LogIdRecord),
    /// Names this replica: its id in Raft and its data directory. A log without it is of a voter that formed the quorum.
    #[prost(message, tag = "7")]
    Own(DirectoryRecord),
}

/// A replica and the id of its data directory.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct DirectoryRecord {
    #[prost(uint64, tag = "1")]
    /// The id of the replica in Raft.
    pub(crate) node: u64,
    /// The upper half of the id.
    #[prost(fixed64, tag = "2")]
    upper: u64,
    /// The lower half of the id.
    #[prost(fixed64, tag = "3")]
    lower: u64,
}

impl DirectoryRecord {
    pub(crate) fn new(node: u64, id: Uuid) -> Self {
        let (upper, lower) = id.0.split_at(8);
        let half = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |half, byte| half << 8 | u64::from(*byte))
        };
        Self {
            node,
            upper: half(upper),
            lower: half(lower),
        }
    }

    pub(crate) fn id(&self) -> Uuid {
        let id = u128::from(self.upper) << 64 | u128::from(self.lower);
        Uuid(id.to_be_bytes())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct VoteRecord {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LogIdRecord {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint64, tag = "3")]
    pub(super) index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct TruncateRecord {
    #[prost(bool, tag = "1")]
    pub(crate) all: bool,
    #[prost(uint64, tag = "2")]
    pub(crate) after: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntryRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) id: Option<LogIdRecord>,
    #[prost(message, optional, tag = "2")]
    command: Option<Command>,
    #[prost(message, optional, tag = "3")]
    membership: Option<MembershipRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MembershipRecord {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<VotersRecord>,
    /// All replicas. The text means nothing any more.
    #[prost(btree_map = "uint64, string", tag = "2")]
    nodes: BTreeMap<u64, String>,
    #[prost(message, optional, tag = "3")]
    id: Option<LogIdRecord>,
    /// What is known of replicas. A voter that formed the quorum is missing here until the membership changes.
    #[prost(message, repeated, tag = "4")]
    replicas: Vec<ReplicaRecord>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ReplicaRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    directory: Option<DirectoryRecord>,
    #[prost(message, repeated, tag = "3")]
    endpoints: Vec<Endpoint>,
}

/// The text of each node in a membership.
const NODE_TEXT: &str = "localhost";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VotersRecord {
    #[prost(uint64, repeated, tag = "1")]
    nodes: Vec<u64>,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        let LeaderId { term, node_id } = vote.leader_id;
        Self {
            term,
            node: node_id,
            committed: vote.committed,
        }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        if record.committed {
            Self::new_committed(record.term, record.node)
        } else {
            Self::new(record.term, record.node)
        }
    }
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(record: LogIdRecord) -> Self {
        let leader = LeaderId {
            term: record.term,
            node_id: record.node,
        };
        Self::new(leader, record.index)
    }
}

impl ReplicaRecord {
    pub(crate) fn new(id: u64, replica: &Replica) -> Self {
        Self {
            id,
            directory: replica
                .directory
                .map(|directory| DirectoryRecord::new(id, directory)),
            endpoints: replica.endpoints.clone(),
        }
    }
}

impl From<ReplicaRecord> for Replica {
    fn from(record: ReplicaRecord) -> Self {
        Self {
            directory: record.directory.map(|directory| directory.id()),
            endpoints: record.endpoints,
        }
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        let voters = |set: &BTreeSet<u64>| VotersRecord {
            nodes: set.iter().copied().collect(),
        };
        let nodes = membership.nodes();
        let known = membership
            .nodes()
            .filter(|(_, of)| **of != Replica::default());
        Self {
            configs: membership.get_joint_config().iter().map(voters).collect(),
            nodes: nodes.map(|(id, _)| (*id, NODE_TEXT.to_owned())).collect(),
            id: None,
            replicas: known.map(|(id, of)| ReplicaRecord::new(*id, of)).collect(),
        }
    }
}

impl From<MembershipRecord> for Membership {
    fn from(record: MembershipRecord) -> Self {
        let configs: Vec<BTreeSet<u64>> = record
            .configs
            .into_iter()
            .map(|voters| voters.nodes.into_iter().collect())
            .collect();
        let nodes = record.nodes.into_keys();
        let mut nodes: BTreeMap<u64, Replica> = nodes.map(|id| (id, Replica::default())).collect();
        for known in record.replicas {
            nodes.insert(known.id, known.into());
        }
        Self::new(configs.clone(), nodes)
            .unwrap_or_else(|_| Self::new_with_defaults(configs, std::iter::empty()))
    }
}

impl From<&StoredMembership> for MembershipRecord {
    fn from(stored: &StoredMembership) -> Self {
        let id = stored.log_id().as_ref().map(LogIdRecord::from);
        Self {
            id,
            ..Self::from(stored.membership())
        }
    }
}

impl From<MembershipRecord> for StoredMembership {
    fn from(record: MembershipRecord) -> Self {
        let id = record.id.map(LogId::from);
        Self::new(id, record.into())
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let (command, membership) = match &entry.payload {
            EntryPayload::Blank => (None, None),
            EntryPayload::Normal(proposal) => (Some(proposal.0.clone()), None),
            EntryPayload::Membership(membership) => (None, Some(membership.into())),
        };
        Self {
            id: Some((&entry.log_id).into()),
            command,
            membership,
        }
    }
}

impl From<EntryRecord> for Entry {
    fn from(record: EntryRecord) -> Self {
        let payload = match (record.command, record.membership) {
            (Some(command), _) => EntryPayload::Normal(Proposal(command)),
            (None, Some(membership)) => EntryPayload::Membership(membership.into()),
            (None, None) => EntryPayload::Blank,
        };
        Self {
            log_id: record.id.unwrap_or_default().into(),
            payload,
        }
    }
}

impl From<Kind> for LogRecord {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}
