//! Commands as they stand in the log: prost messages of our own, so that a new version of the library cannot change the
//! format.
//!
//! A field number is never used again. A new field is optional; a missing one has the meaning that commands had before.

use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId, Uuid, WalPosition};
use prost::{Message, Oneof};

use crate::MetadataVersion;

mod moves;
mod nodes;
mod objects;
mod streams;
mod topics;

pub use moves::{Duty, HandedOver, MovePartitions, PartitionMove, SetDuty, UnregisterNode};
pub use nodes::{
    AllocateProducerIds, AssignLeaders, ClaimStore, CloseEpoch, Closing, Endpoint, EpochSwept,
    FenceEpoch, Format, GiveUpEpoch, Position, Recovered, RegisterNode, Sealed, SetMetadataVersion,
    WalKind,
};
pub use objects::{
    ClaimOfStream, ClaimRecord, CommitObject, ObjectName, ObjectsDeleted, RollRecord,
};
pub use streams::{OpenStreams, StreamEpoch, TrimStream};
pub use topics::{CreatePartitions, CreateTopic, DeleteTopic, Replicas, SetTopicConfigs};

/// A command of the metadata, as it is proposed.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The action; every command has exactly one.
    #[prost(
        oneof = "Action",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21"
    )]
    pub action: Option<Action>,
}

/// The actions of commands.
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    /// Registers a node that starts: it gets an epoch, and its earlier epochs are fenced (E1, E2).
    #[prost(message, tag = "1")]
    RegisterNode(RegisterNode),
    /// Closes a fenced epoch, whose partitions may then get another leader (E3).
    #[prost(message, tag = "2")]
    CloseEpoch(CloseEpoch),
    /// Creates a topic.
    #[prost(message, tag = "3")]
    CreateTopic(CreateTopic),
    /// Deletes a topic; objects that only its streams referred to are condemned.
    #[prost(message, tag = "4")]
    DeleteTopic(DeleteTopic),
    /// Adds partitions to a topic.
    #[prost(message, tag = "5")]
    CreatePartitions(CreatePartitions),
    /// Replaces the configurations of a topic, if they have not changed since the proposer looked.
    #[prost(message, tag = "6")]
    SetTopicConfigs(SetTopicConfigs),
    /// Opens streams on the node that leads them (E5).
    #[prost(message, tag = "7")]
    OpenStreams(OpenStreams),
    /// Registers an upload (U3).
    #[prost(message, tag = "8")]
    CommitObject(CommitObject),
    /// Moves the start of a stream up (U4).
    #[prost(message, tag = "9")]
    TrimStream(TrimStream),
    /// Forgets condemned objects that were deleted (G1).
    #[prost(message, tag = "10")]
    ObjectsDeleted(ObjectsDeleted),
    /// Gives a node a block of producer ids, which no node gets again.
    #[prost(message, tag = "11")]
    AllocateProducerIds(AllocateProducerIds),
    /// Gives the cluster its id; it is the first command of all.
    #[prost(message, tag = "12")]
    Format(Format),
    /// Fences an epoch that the active controller hears from no longer (E6).
    #[prost(message, tag = "13")]
    FenceEpoch(FenceEpoch),
    /// Gives partitions a leader and the next leader epoch: new ones, and those whose leader's epoch is closed (E4, E5).
    #[prost(message, tag = "14")]
    AssignLeaders(AssignLeaders),
    /// Forgets a closed epoch, after the prefix of its object WAL was swept (W12).
    #[prost(message, tag = "15")]
    EpochSwept(EpochSwept),
    /// Gives up what only a lost disk WAL holds (D5).
    #[prost(message, tag = "16")]
    GiveUpEpoch(GiveUpEpoch),
    /// Changes the replicas of partitions, and asks leaders to hand partitions over (C1).
    #[prost(message, tag = "17")]
    MovePartitions(MovePartitions),
    /// Says which leaderships a broker may get and keep.
    #[prost(message, tag = "18")]
    SetDuty(SetDuty),
    /// Forgets a node that will not come back.
    #[prost(message, tag = "19")]
    UnregisterNode(UnregisterNode),
    /// Raises the version of the metadata. The active controller has asked every controller before it proposes this.
    #[prost(message, tag = "20")]
    SetMetadataVersion(SetMetadataVersion),
    /// Says which object store the cluster has claimed; the first one stays (D2). It is proposed before a broker registers.
    #[prost(message, tag = "21")]
    ClaimStore(ClaimStore),
}

impl From<Action> for Command {
    fn from(action: Action) -> Self {
        Self {
            action: Some(action),
        }
    }
}

/// The id of 16 bytes; zero for any other number of bytes.
#[must_use]
pub fn uuid(bytes: &[u8]) -> Uuid {
    bytes.try_into().map(Uuid).unwrap_or_default()
}

/// The effect of a command that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The command was carried out and has no other answer.
    Done,
    /// The node was registered.
    Registered {
        /// The node's new epoch (E1).
        epoch: NodeEpoch,
        /// The WAL floor, taken over from its former epochs.
        floor: WalPosition,
        /// The highest position up to which its WAL was reported as confirmed (D2).
        confirmed: WalPosition,
    },
    /// For each stream, in order: its start and committed end, or the reason why it is refused.
    Opened(Vec<Result<(i64, i64), Rejection>>),
    /// For each stream, in order: its new leader epoch, or the reason why it is refused.
    Assigned(Vec<Result<LeaderEpoch, Rejection>>),
    /// For each partition, in order: whether it was changed, or the reason why it is refused.
    Moved(Vec<Result<(), Rejection>>),
    /// The upload was registered.
    Committed {
        /// The streams whose claims were dropped as a whole (U3).
        dropped: Vec<StreamId>,
    },
    /// The first id of the block.
    ProducerIds(i64),
}

/// The reason why a command was refused; a refused command changes nothing, except for the index object
/// of a refused closing, which is condemned (W8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A topic of this name exists.
    #[error("topic exists")]
    TopicExists,
    /// The topic does not exist.
    #[error("no such topic")]
    UnknownTopic,
    /// The stream does not exist.
    #[error("no such stream stream_id={0}")]
    UnknownStream(StreamId),
    /// The node epoch is not open (E6).
    #[error("node epoch is not open node_epoch={0}")]
    Fenced(NodeEpoch),
    /// An earlier start of the node, with another data directory or another copy of it, was heard within its session (E2).
    #[error(
        "another process with this node.id and another data directory, or another copy of this one, is alive node_epoch={0}"
    )]
    InSession(NodeEpoch),
    /// An epoch of the node that is not closed has its log in another data directory (D2).
    #[error(
        "the write-ahead log of node_epoch={epoch} is in the data directory with directory.id={recorded}"
    )]
    OtherDirectory {
        /// The last epoch of the node on a disk WAL that is not closed.
        epoch: NodeEpoch,
        /// The data directory with which it registered.
        recorded: Uuid,
    },
    /// The node epoch is not closed: its partitions and its WAL may still belong to it (E4).
    #[error("node epoch is not closed node_epoch={0}")]
    Unclosed(NodeEpoch),
    /// Another leader epoch holds the stream.
    #[error("stream is held under another leader epoch stream_id={stream} leader_epoch={held}")]
    NotHeld {
        /// The leader epoch that holds it.
        stream: StreamId,
        /// The epoch that holds it.
        held: LeaderEpoch,
    },
    /// A claim does not begin at the committed end: records are missing (A1, I4).
    #[error("claim leaves a gap stream_id={stream} committed_end={committed} first={first}")]
    Gap {
        /// The stream.
        stream: StreamId,
        /// The committed end, where the claim had to begin.
        committed: i64,
        /// The offset at which the claim begins.
        first: i64,
    },
    /// The node is not registered.
    #[error("no such node node_id={0}")]
    UnknownNode(NodeId),
    /// The id of a broker that registers is the id of a controller, which is another process.
    #[error("node.id {0} is the id of a controller: give this broker another one")]
    IdOfController(NodeId),
    /// A node does not know the version of the metadata that is asked for.
    #[error("node {node} {}", supports(*newest))]
    OlderNode {
        /// The node: a broker that is registered, or a controller.
        node: NodeId,
        /// The newest version that its program knows; `None` for a controller that does not answer.
        newest: Option<MetadataVersion>,
    },
    /// The node that registers does not know the version of the metadata.
    #[error(
        "the metadata of the cluster has metadata.version={0}, which the program of this node does not know: start it \
         with a newer one"
    )]
    OldProgram(MetadataVersion),
    /// The state has changed since the proposer looked.
    #[error("state has changed since")]
    Changed,
    /// The command is malformed, or of a newer version.
    #[error("command is not understood")]
    NotUnderstood,
}

fn supports(newest: Option<MetadataVersion>) -> String {
    match newest {
        Some(newest) => format!("only supports versions up to {newest}"),
        None => "does not answer, and may not support this version".to_owned(),
    }
}
