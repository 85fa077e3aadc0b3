//! Commands, as they stand in the log: prost messages, so that a library bump cannot change the format.
//!
//! Field numbers are for ever; a new field is optional and means "as before" when it is missing.

use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, Uuid, WalPosition};
use prost::{Message, Oneof};

mod nodes;
mod objects;
mod streams;
mod topics;

pub use nodes::{
    AllocateProducerIds, AssignLeaders, CloseEpoch, Closing, Endpoint, EpochSwept, FenceEpoch,
    Format, Position, Recovered, RegisterNode, Sealed, WalKind,
};
pub use objects::{
    ClaimOfStream, ClaimRecord, CommitObject, ObjectName, ObjectsDeleted, RollRecord,
};
pub use streams::{OpenStreams, StreamEpoch, TrimStream};
pub use topics::{CreatePartitions, CreateTopic, DeleteTopic, Replicas, SetTopicConfigs};

/// What a proposal asks for.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The one thing.
    #[prost(
        oneof = "Action",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"
    )]
    pub action: Option<Action>,
}

/// The kinds of commands.
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    /// A node starts (E1, E2): it gets an epoch, and every earlier one of it is fenced.
    #[prost(message, tag = "1")]
    RegisterNode(RegisterNode),
    /// A fenced epoch is closed (E3): what it led may be given to another.
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
    /// A topic's own configurations are replaced, if they are what they were when that was decided.
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
    /// An epoch is fenced, by what can't hear it any more (E6).
    #[prost(message, tag = "13")]
    FenceEpoch(FenceEpoch),
    /// Partitions that nobody leads any more get a leader, and a new leader epoch (E4, E5).
    #[prost(message, tag = "14")]
    AssignLeaders(AssignLeaders),
    /// The prefix of a closed epoch's object WAL is cleared (W12).
    #[prost(message, tag = "15")]
    EpochSwept(EpochSwept),
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
        confirmed: WalPosition,
    },
    /// For each stream, in order: its start and committed end, or why it is refused.
    Opened(Vec<Result<(i64, i64), Rejection>>),
    /// For each stream, in order: its leader epoch from now on, or why it is refused.
    Assigned(Vec<Result<LeaderEpoch, Rejection>>),
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
    /// The node epoch is not closed: what it leads or wrote may still be its own (E4).
    #[error("node epoch is not closed node_epoch={0}")]
    Unclosed(NodeEpoch),
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
