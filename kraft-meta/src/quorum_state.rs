//! What is told of the quorum to an operator.

use std::time::Duration;

use highwater_types::{NodeId, Term, Uuid};

use crate::MetadataStore;
use crate::command::Endpoint;

/// A change of the voters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VotersChange {
    /// A controller that follows the metadata becomes a voter.
    Add {
        /// The node.
        node: NodeId,
        /// The id of its data directory.
        directory: Uuid,
        /// The addresses of its listeners for calls between nodes; at least one.
        endpoints: Vec<Endpoint>,
        /// How long it may take until it has all of the log, and until the change is decided.
        within: Duration,
        /// Whether the change is answered once it is committed; otherwise once it is in the log of the active controller.
        awaits_commit: bool,
    },
    /// A voter goes on without a vote.
    Remove {
        /// The node.
        node: NodeId,
        /// The id of its data directory.
        directory: Uuid,
    },
}

/// Why the voters were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VotersError {
    /// The node is a voter already, with this directory or another one. Nothing has changed.
    #[error("{0}")]
    Duplicate(String),
    /// There is no such voter, or it is the last one. Nothing has changed.
    #[error("{0}")]
    NotFound(String),
    /// The change names no node or directory, or no address. Nothing has changed.
    #[error("{0}")]
    Invalid(String),
    /// Another change is under way, the controller to be added does not answer or lags behind, or there is no active
    /// controller. Whether the change is made may be unknown; it may be asked for again.
    #[error("{0}")]
    Unavailable(String),
}

/// How often a controller that has decided nothing yet is asked again.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The index after the last entry that the active controller knows to be committed, once it has decided something itself:
/// only then it knows of all that its predecessors had committed. Cancellation safe.
///
/// # Errors
/// The reason why there is no answer.
pub(crate) async fn committed_end(metadata: &dyn MetadataStore) -> Result<u64, String> {
    loop {
        let state = metadata.quorum().await?;
        if state.has_decided {
            return Ok(state.committed_end);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The quorum as the active controller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumState {
    /// The active controller.
    pub leader: NodeId,
    /// Its term.
    pub term: Term,
    /// The index after the last entry that is committed.
    pub committed_end: u64,
    /// Whether an entry of this term is committed. Before that more may be committed than the controller knows.
    pub has_decided: bool,
    /// The voters, the active controller among them.
    pub voters: Vec<ReplicaState>,
    /// The brokers and controllers that follow the metadata without a vote.
    pub observers: Vec<ReplicaState>,
}

/// How far a node has the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    /// The node.
    pub node: NodeId,
    /// The id of its data directory; all zeroes if it is not known.
    pub directory: Uuid,
    /// The addresses of its listeners for calls between nodes; none if it is a broker, or if none is known.
    pub endpoints: Vec<Endpoint>,
    /// Whether the metadata has these addresses; otherwise the active controller is configured with them.
    pub is_recorded: bool,
    /// The index after the last entry that it is known to have.
    pub log_end: Option<u64>,
    /// How long ago it was heard; `None` if it was not heard by this active controller.
    pub heard_before: Option<Duration>,
    /// Whether it had everything when it was heard.
    pub is_caught_up: bool,
}
