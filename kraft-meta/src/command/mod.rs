//! Commands, as they stand in the log: prost messages, so that a library bump cannot change the format.
//!
//! Field numbers are for ever; a new field is optional and means "as before" when it is missing.

use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, Uuid, WalPosition};
use prost::{Message, Oneof};

mod nodes;
mod objects;
mod streams;
mod topics;

pub use nodes::{AllocateProducerIds, CloseEpoch, Endpoint, Format, RegisterNode};
pub use objects::{
    ClaimOfStream, ClaimRecord, CommitObject, ObjectName, ObjectsDeleted, RollRecord,
};
pub use streams::{OpenStreams, StreamEpoch, TrimStream};
pub use topics::{CreatePartitions, CreateTopic, DeleteTopic, Replicas, SetTopicConfigs};

/// What a proposal asks for.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The one thing.
    #[prost(oneof = "Action", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub action: Option<Action>,
}

/// The kinds of commands.
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    /// A node starts (E1, E2).
    #[prost(message, tag = "1")]
    RegisterNode(RegisterNode),
    /// A former epoch of a node is recovered (E3); its partitions get new leader epochs of the live one (E5).
    #[prost(message, tag = "2")]
    CloseEpoch(CloseEpoch),
    /// A topic is created.
    #[prost(message, tag = "3")]
    CreateTopic(CreateTopic),
    /// A topic is deleted; what its streams hold is condemned.
    #[prost(message, tag = "4")]
    DeleteTopic(DeleteTopic),
    /// A topic gets more partitions.
    #[prost(message, tag = "5")]
    CreatePartitions(CreatePartitions),
    /// A topic's own configurations are replaced.
    #[prost(message, tag = "6")]
    SetTopicConfigs(SetTopicConfigs),
    /// Streams are opened by the node that leads them (E5).
    #[prost(message, tag = "7")]
    OpenStreams(OpenStreams),
    /// An upload is registered (U3).
    #[prost(message, tag = "8")]
    CommitObject(CommitObject),
    /// A stream's start moves up (U4).
    #[prost(message, tag = "9")]
    TrimStream(TrimStream),
    /// Condemned objects are gone (G1).
    #[prost(message, tag = "10")]
    ObjectsDeleted(ObjectsDeleted),
    /// A block of producer ids is given to a node, never again.
    #[prost(message, tag = "11")]
    AllocateProducerIds(AllocateProducerIds),
    /// The cluster gets its id: the first command there is.
    #[prost(message, tag = "12")]
    Format(Format),
}

impl From<Action> for Command {
    fn from(action: Action) -> Self {
        Self {
            action: Some(action),
        }
    }
}

/// The id that 16 bytes are; zero for any other number of bytes.
#[must_use]
pub fn uuid(bytes: &[u8]) -> Uuid {
    bytes.try_into().map(Uuid).unwrap_or_default()
}

/// What a command did.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing to say.
    Done,
    /// The node's epoch (E1), where its WAL's floor is, and how far it was heard to be confirmed (D2).
    Registered {
        /// The epoch.
        epoch: NodeEpoch,
        /// The floor of the former epochs.
        floor: WalPosition,
        /// The highest position heard.
        confirmed: u64,
    },
    /// For each stream, in order: its start and committed end, or why it is refused.
    Opened(Vec<Result<(i64, i64), Rejection>>),
    /// Streams whose claim was dropped whole (U3).
    Committed {
        /// Those streams.
        dropped: Vec<StreamId>,
    },
    /// The first of the block.
    ProducerIds(i64),
}

/// Why a command was refused: the state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is such a topic.
    #[error("topic exists")]
    TopicExists,
    /// There is no such topic.
    #[error("no such topic")]
    UnknownTopic,
    /// There is no such stream.
    #[error("no such stream stream_id={0}")]
    UnknownStream(StreamId),
    /// The node epoch is not open (E6).
    #[error("node epoch is not open node_epoch={0}")]
    Fenced(NodeEpoch),
    /// Another leader epoch holds the stream.
    #[error("stream is held under another leader epoch stream_id={stream} leader_epoch={held}")]
    NotHeld {
        /// The stream.
        stream: StreamId,
        /// The epoch that holds it.
        held: LeaderEpoch,
    },
    /// A claim does not begin at the committed end: records are missing (A1, I4).
    #[error("claim leaves a gap stream_id={stream} committed_end={committed} first={first}")]
    Gap {
        /// The stream.
        stream: StreamId,
        /// Where it had to begin.
        committed: i64,
        /// Where it begins.
        first: i64,
    },
    /// The state has moved on since the proposer looked.
    #[error("state has changed since")]
    Changed,
    /// The command is malformed, or of a newer version.
    #[error("command is not understood")]
    NotUnderstood,
}
