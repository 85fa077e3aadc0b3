//! The state of the quorum, as the active controller tells it.

use std::time::Duration;

use highwater_types::{NodeId, Term};
use prost::Message;

use crate::command::Endpoint;
use crate::quorum_state::{QuorumState, ReplicaState};
use crate::raft::record::DirectoryRecord;
use crate::raft::replica;

/// Asks the active controller for the state of the quorum.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Describe {
    /// The cluster of the node that asks.
    #[prost(bytes = "vec", tag = "1")]
    pub(in crate::raft) cluster: Vec<u8>,
}

/// The answer to [`Describe`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Described {
    #[prost(int32, tag = "1")]
    leader: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    committed_end: u64,
    #[prost(message, repeated, tag = "4")]
    voters: Vec<Replica>,
    #[prost(message, repeated, tag = "5")]
    observers: Vec<Replica>,
    #[prost(bool, tag = "6")]
    has_decided: bool,
}

/// How far a node has the metadata.
#[derive(Clone, PartialEq, Eq, Message)]
struct Replica {
    #[prost(message, optional, tag = "1")]
    directory: Option<DirectoryRecord>,
    #[prost(uint64, optional, tag = "2")]
    log_end: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    heard_before_ms: Option<u64>,
    #[prost(bool, tag = "4")]
    is_caught_up: bool,
    #[prost(message, repeated, tag = "5")]
    endpoints: Vec<Endpoint>,
    #[prost(bool, tag = "6")]
    is_recorded: bool,
}

impl From<&ReplicaState> for Replica {
    fn from(state: &ReplicaState) -> Self {
        let node = u64::try_from(state.node.0).unwrap_or_default();
        let heard = state.heard_before.map(|before| before.as_millis());
        Self {
            directory: Some(DirectoryRecord::new(node, state.directory)),
            log_end: state.log_end,
            heard_before_ms: heard.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            is_caught_up: state.is_caught_up,
            endpoints: state.endpoints.clone(),
            is_recorded: state.is_recorded,
        }
    }
}

impl From<Replica> for ReplicaState {
    fn from(replica: Replica) -> Self {
        let directory = replica.directory.unwrap_or_default();
        Self {
            node: replica::node_id(directory.node),
            directory: directory.id(),
            log_end: replica.log_end,
            heard_before: replica.heard_before_ms.map(Duration::from_millis),
            is_caught_up: replica.is_caught_up,
            endpoints: replica.endpoints,
            is_recorded: replica.is_recorded,
        }
    }
}

impl From<QuorumState> for Described {
    fn from(state: QuorumState) -> Self {
        Self {
            leader: state.leader.0,
            term: state.term.0,
            committed_end: state.committed_end,
            voters: state.voters.iter().map(Replica::from).collect(),
            observers: state.observers.iter().map(Replica::from).collect(),
            has_decided: state.has_decided,
        }
    }
}

impl From<Described> for QuorumState {
    fn from(described: Described) -> Self {
        let replicas = |told: Vec<Replica>| told.into_iter().map(ReplicaState::from).collect();
        Self {
            leader: NodeId(described.leader),
            term: Term(described.term),
            committed_end: described.committed_end,
            voters: replicas(described.voters),
            observers: replicas(described.observers),
            has_decided: described.has_decided,
        }
    }
}
