//! Commands, as they stand in the log: prost messages, so that a library bump cannot change the format.
//!
//! Field numbers are for ever; a new field is optional and means "as before" when it is missing.

use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, ObjectId, StreamId, Uuid, WalPosition};
use prost::{Message, Oneof};

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

/// See [`Action::Format`].
#[derive(Clone, PartialEq, Message)]
pub struct Format {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster_id: Vec<u8>,
}

/// See [`Action::RegisterNode`].
#[derive(Clone, PartialEq, Message)]
pub struct RegisterNode {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// 16 random bytes, one for each start (E2).
    #[prost(bytes = "vec", tag = "2")]
    pub incarnation: Vec<u8>,
    /// Where clients reach it.
    #[prost(message, repeated, tag = "3")]
    pub endpoints: Vec<Endpoint>,
}

/// An advertised address.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Endpoint {
    /// The listener's name.
    #[prost(string, tag = "1")]
    pub listener: String,
    /// The host.
    #[prost(string, tag = "2")]
    pub host: String,
    /// The port.
    #[prost(uint32, tag = "3")]
    pub port: u32,
}

/// See [`Action::CloseEpoch`].
#[derive(Clone, PartialEq, Message)]
pub struct CloseEpoch {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Every epoch of the node below this one is closed.
    #[prost(uint64, tag = "2")]
    pub below: u64,
}

/// See [`Action::CreateTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct CreateTopic {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    /// For each partition its replicas.
    #[prost(message, repeated, tag = "3")]
    pub partitions: Vec<Replicas>,
    /// Its own configurations.
    #[prost(btree_map = "string, string", tag = "4")]
    pub configs: std::collections::BTreeMap<String, String>,
    /// Whether it is one of Kafka's internal topics.
    #[prost(bool, tag = "5")]
    pub internal: bool,
}

/// The replicas of one partition.
#[derive(Clone, PartialEq, Message)]
pub struct Replicas {
    /// Nodes, the preferred leader first.
    #[prost(int32, repeated, tag = "1")]
    pub nodes: Vec<i32>,
}

/// See [`Action::DeleteTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct DeleteTopic {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
}

/// See [`Action::CreatePartitions`].
#[derive(Clone, PartialEq, Message)]
pub struct CreatePartitions {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub topic: Vec<u8>,
    /// Refused unless the topic has this many now.
    #[prost(uint32, tag = "2")]
    pub existing: u32,
    /// The new ones.
    #[prost(message, repeated, tag = "3")]
    pub added: Vec<Replicas>,
}

/// See [`Action::SetTopicConfigs`].
#[derive(Clone, PartialEq, Message)]
pub struct SetTopicConfigs {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub topic: Vec<u8>,
    /// All of them.
    #[prost(btree_map = "string, string", tag = "2")]
    pub configs: std::collections::BTreeMap<String, String>,
}

/// See [`Action::OpenStreams`].
#[derive(Clone, PartialEq, Message)]
pub struct OpenStreams {
    /// The epoch that opens.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// What.
    #[prost(message, repeated, tag = "2")]
    pub streams: Vec<StreamEpoch>,
}

/// A stream under a leader epoch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StreamEpoch {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The leader epoch.
    #[prost(int32, tag = "2")]
    pub leader_epoch: i32,
}

/// See [`Action::CommitObject`].
#[derive(Clone, PartialEq, Message)]
pub struct CommitObject {
    /// The node that uploads.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch; must be open.
    #[prost(uint64, tag = "2")]
    pub node_epoch: u64,
    /// The upload's number.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// The object's bytes.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// One for each stream.
    #[prost(message, repeated, tag = "5")]
    pub claims: Vec<ClaimOfStream>,
    /// The WAL's new floor.
    #[prost(uint64, tag = "6")]
    pub floor: u64,
    /// The lowest number in flight (U5).
    #[prost(uint64, tag = "7")]
    pub lowest_in_flight: u64,
    /// How far the WAL is confirmed (D2).
    #[prost(uint64, tag = "8")]
    pub confirmed: u64,
    /// Whether what is uploaded is of a former epoch of the same node, read back from its WAL.
    #[prost(bool, tag = "9")]
    pub recovering: bool,
}

/// A claim and whose it is.
#[derive(Clone, PartialEq, Message)]
pub struct ClaimOfStream {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The claim.
    #[prost(message, optional, tag = "2")]
    pub claim: Option<ClaimRecord>,
}

/// A claim (U4).
#[derive(Clone, PartialEq, Message)]
pub struct ClaimRecord {
    /// Its first offset.
    #[prost(int64, tag = "1")]
    pub first: i64,
    /// Just after its last offset.
    #[prost(int64, tag = "2")]
    pub next: i64,
    /// Where its part of the object begins.
    #[prost(uint64, tag = "3")]
    pub part_start: u64,
    /// Where it ends.
    #[prost(uint64, tag = "4")]
    pub part_end: u64,
    /// The largest timestamp, or -1.
    #[prost(int64, tag = "5")]
    pub max_timestamp: i64,
    /// Where the stream rolled within it.
    #[prost(message, repeated, tag = "6")]
    pub rolls: Vec<RollRecord>,
    /// First offset of the oldest open transaction, or -1.
    #[prost(int64, tag = "7")]
    pub open_from: i64,
    /// Whether a checkpoint stands at its end.
    #[prost(bool, tag = "8")]
    pub has_checkpoint: bool,
    /// The leader epoch of its batches.
    #[prost(int32, tag = "9")]
    pub leader_epoch: i32,
    /// The object; none for a range without records.
    #[prost(message, optional, tag = "10")]
    pub object: Option<ObjectName>,
}

/// A roll within a claim (F6).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RollRecord {
    /// The first offset of the new roll.
    #[prost(int64, tag = "1")]
    pub base: i64,
    /// Bytes of the claim before it.
    #[prost(uint64, tag = "2")]
    pub bytes_before: u64,
    /// Largest timestamp before it.
    #[prost(int64, tag = "3")]
    pub max_timestamp_before: i64,
}

/// The name of a data object.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ObjectName {
    /// The node that wrote it.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch.
    #[prost(uint64, tag = "2")]
    pub node_epoch: u64,
    /// Whether it is a rewrite.
    #[prost(bool, tag = "3")]
    pub rewrite: bool,
    /// Its number.
    #[prost(uint64, tag = "4")]
    pub number: u64,
}

/// See [`Action::TrimStream`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct TrimStream {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// Its new start.
    #[prost(int64, tag = "2")]
    pub start: i64,
    /// The epoch that asks, which must hold the stream (E6); 0 asks for nobody's.
    #[prost(uint64, tag = "3")]
    pub node_epoch: u64,
}

/// See [`Action::ObjectsDeleted`].
#[derive(Clone, PartialEq, Message)]
pub struct ObjectsDeleted {
    /// Which.
    #[prost(message, repeated, tag = "1")]
    pub objects: Vec<ObjectName>,
}

/// See [`Action::AllocateProducerIds`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AllocateProducerIds {
    /// The epoch that asks.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// How many.
    #[prost(int64, tag = "2")]
    pub count: i64,
}

impl From<ObjectId> for ObjectName {
    fn from(id: ObjectId) -> Self {
        Self {
            node: id.node.0,
            node_epoch: id.epoch.0,
            rewrite: id.rewrite,
            number: id.number,
        }
    }
}

impl From<ObjectName> for ObjectId {
    fn from(name: ObjectName) -> Self {
        Self {
            node: NodeId(name.node),
            epoch: NodeEpoch(name.node_epoch),
            rewrite: name.rewrite,
            number: name.number,
        }
    }
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
