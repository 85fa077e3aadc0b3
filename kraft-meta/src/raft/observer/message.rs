//! The messages between an observer and a voter.

use std::sync::Arc;

use highwater_types::{LogIndex, NodeEpoch, NodeId};
use prost::Message;

use super::outcome::OutcomeRecord;
use crate::command::{Endpoint, Outcome, Rejection};
use crate::load::Load;
use crate::raft::record::LogIdRecord;
use crate::raft::replica;
use crate::sessions::{Standing, Told};
use crate::store_sight::StoreSight;

/// Asks for the committed entries from an index on.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Follow {
    /// The last entry that the observer has; none if it has nothing yet.
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) last: Option<LogIdRecord>,
    /// How long the voter waits for an entry, in milliseconds.
    #[prost(uint32, tag = "2")]
    pub(super) wait_ms: u32,
    /// The observer's cluster; empty if it does not know the id yet.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) cluster: Vec<u8>,
    /// The checksum of the last entry's record; none if the observer has that entry from a snapshot.
    #[prost(fixed32, optional, tag = "4")]
    pub(super) checksum: Option<u32>,
}

/// Asks for a part of the newest snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct ReadSnapshot {
    /// The last entry that the snapshot covers; none for the newest snapshot, whichever it is.
    #[prost(uint64, optional, tag = "1")]
    pub(super) last: Option<u64>,
    /// The position of the first byte.
    #[prost(uint64, tag = "2")]
    pub(super) from: u64,
    /// The number of bytes.
    #[prost(uint32, tag = "3")]
    pub(super) bytes: u32,
    /// The observer's cluster; empty if it does not know the id yet.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) cluster: Vec<u8>,
}

/// Proposes a command.
#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct Propose {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) command: Option<crate::Command>,
    /// The observer's cluster.
    #[prost(bytes = "vec", tag = "2")]
    pub(in crate::raft) cluster: Vec<u8>,
}

/// Says that a node epoch lives, and its standing.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Heartbeat {
    #[prost(int32, tag = "1")]
    pub(super) node: i32,
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    /// The observer's cluster.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) cluster: Vec<u8>,
    #[prost(enumeration = "Standing", tag = "4")]
    pub(super) standing: i32,
    /// The index after the last entry that the observer has; none from a voter.
    #[prost(uint64, optional, tag = "5")]
    pub(super) log_end: Option<u64>,
    /// Its load, if that was measured since it was sent last.
    #[prost(message, optional, tag = "6")]
    pub(super) load: Option<Load>,
    /// How it reaches the store; none from a broker on the disk WAL.
    #[prost(message, optional, tag = "7")]
    pub(super) store: Option<StoreSight>,
}

impl Heartbeat {
    pub(in crate::raft) fn new(
        node: NodeId,
        epoch: NodeEpoch,
        cluster: Vec<u8>,
        told: &Told,
    ) -> Self {
        Self {
            node: node.0,
            epoch: epoch.0,
            cluster,
            standing: told.standing.into(),
            log_end: None,
            load: told.load.as_deref().cloned(),
            store: told.store,
        }
    }

    /// What the broker says.
    pub(super) fn told(&self) -> Told {
        Told {
            standing: self.standing(),
            load: self.load.clone().map(Arc::new),
            store: self.store,
        }
    }
}

/// Committed entries in order, as their records on disk; none if nothing was committed within the wait.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Entries {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) records: Vec<bytes::Bytes>,
    /// The index after the last entry that the voter knows to be committed.
    #[prost(uint64, tag = "2")]
    pub(super) committed_end: u64,
}

/// A part of a snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Piece {
    /// The last entry that the snapshot covers.
    #[prost(uint64, tag = "1")]
    pub(super) last: u64,
    /// The size of the snapshot.
    #[prost(uint64, tag = "2")]
    pub(super) bytes_total: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) bytes: bytes::Bytes,
}

/// A command that was decided.
#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct Decided {
    #[prost(uint64, tag = "1")]
    pub(super) at: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) outcome: Option<OutcomeRecord>,
}

/// The voter is not the active controller, so that the command was not proposed.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct NotLeader {
    #[prost(int32, optional, tag = "1")]
    pub(super) leader: Option<i32>,
    /// The addresses of the voter that leads, for a node that does not know them.
    #[prost(message, repeated, tag = "2")]
    pub(in crate::raft) endpoints: Vec<Endpoint>,
}

impl NotLeader {
    pub(in crate::raft) fn new(leader: Option<u64>) -> Self {
        Self {
            leader: leader.map(|leader| replica::node_id(leader).0),
            endpoints: Vec::new(),
        }
    }
}

/// The command may be decided or not.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Unavailable {
    #[prost(string, tag = "1")]
    pub(in crate::raft) reason: String,
}

/// The voter belongs to another cluster than the observer.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct OtherCluster {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) cluster: Vec<u8>,
}

/// The observer has entries that the voter does not know to be committed.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in crate::raft) struct Behind {
    /// The index after the last entry that the voter knows to be committed.
    #[prost(uint64, tag = "1")]
    pub(super) committed_end: u64,
}

impl Decided {
    pub(super) fn new(at: LogIndex, decided: &Result<Outcome, Rejection>) -> Self {
        Self {
            at: at.0,
            outcome: Some(decided.into()),
        }
    }
}
