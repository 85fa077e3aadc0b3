//! The messages by which the voters are changed.

use std::time::Duration;

use highwater_types::NodeId;
use prost::Message;

use crate::command::Endpoint;
use crate::quorum_state::{VotersChange, VotersError};
use crate::raft::record::DirectoryRecord;

/// Asks the active controller to change the voters.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct ChangeVoters {
    /// The cluster of the node that asks.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) cluster: Vec<u8>,
    /// The node, which may have any number here, and its directory.
    #[prost(message, optional, tag = "2")]
    voter: Option<DirectoryRecord>,
    #[prost(message, optional, tag = "3")]
    add: Option<Add>,
}

/// What is asked of a voter that is added.
#[derive(Clone, PartialEq, Eq, Message)]
struct Add {
    #[prost(message, repeated, tag = "1")]
    endpoints: Vec<Endpoint>,
    #[prost(uint64, tag = "2")]
    within_ms: u64,
    #[prost(bool, tag = "3")]
    awaits_commit: bool,
}

/// Asks the active controller to send its log to a controller without a vote, or tells it that a controller has another
/// address.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct Join {
    /// The cluster of the controller; empty if it does not know the id yet.
    #[prost(bytes = "vec", tag = "1")]
    pub(in crate::raft) cluster: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::raft) endpoints: Vec<Endpoint>,
}

/// The answer to [`ChangeVoters`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::raft) struct VotersChanged {
    #[prost(enumeration = "Refused", tag = "1")]
    refused: i32,
    #[prost(string, tag = "2")]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
enum Refused {
    /// The voters were changed.
    No = 0,
    Duplicate = 1,
    NotFound = 2,
    Invalid = 3,
    Unavailable = 4,
}

impl ChangeVoters {
    pub(in crate::raft) fn new(change: &VotersChange, cluster: Vec<u8>) -> Self {
        let (node, directory, add) = match change {
            VotersChange::Add {
                node,
                directory,
                endpoints,
                within,
                awaits_commit,
            } => {
                let add = Add {
                    endpoints: endpoints.clone(),
                    within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
                    awaits_commit: *awaits_commit,
                };
                (node, directory, Some(add))
            }
            VotersChange::Remove { node, directory } => (node, directory, None),
        };
        let node = u64::try_from(node.0).unwrap_or(u64::MAX);
        Self {
            cluster,
            voter: Some(DirectoryRecord::new(node, *directory)),
            add,
        }
    }

    /// The change that is asked for; `None` if it names no voter.
    pub(super) fn change(self) -> Option<VotersChange> {
        let voter = self.voter?;
        let (node, directory) = (NodeId(i32::try_from(voter.node).ok()?), voter.id());
        Some(match self.add {
            Some(add) => VotersChange::Add {
                node,
                directory,
                endpoints: add.endpoints,
                within: Duration::from_millis(add.within_ms),
                awaits_commit: add.awaits_commit,
            },
            None => VotersChange::Remove { node, directory },
        })
    }
}

impl From<Result<(), VotersError>> for VotersChanged {
    fn from(changed: Result<(), VotersError>) -> Self {
        let (refused, reason) = match changed {
            Ok(()) => (Refused::No, String::new()),
            Err(VotersError::Duplicate(reason)) => (Refused::Duplicate, reason),
            Err(VotersError::NotFound(reason)) => (Refused::NotFound, reason),
            Err(VotersError::Invalid(reason)) => (Refused::Invalid, reason),
            Err(VotersError::Unavailable(reason)) => (Refused::Unavailable, reason),
        };
        Self {
            refused: refused.into(),
            reason,
        }
    }
}

impl From<VotersChanged> for Result<(), VotersError> {
    fn from(changed: VotersChanged) -> Self {
        let refused = changed.refused();
        let reason = changed.reason;
        Err(match refused {
            Refused::No => return Ok(()),
            Refused::Duplicate => VotersError::Duplicate(reason),
            Refused::NotFound => VotersError::NotFound(reason),
            Refused::Invalid => VotersError::Invalid(reason),
            Refused::Unavailable => VotersError::Unavailable(reason),
        })
    }
}
