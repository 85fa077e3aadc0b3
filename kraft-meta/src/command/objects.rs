//! Commands of data objects and claims on them (rules U, G).

use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind};
use prost::Message;

use super::{HandedOver, Position, Rejection};

/// See [`super::Action::CommitObject`].
#[derive(Clone, PartialEq, Message)]
pub struct CommitObject {
    /// The node that has uploaded the object.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch, which must be open.
    #[prost(uint64, tag = "2")]
    pub node_epoch: u64,
    /// The upload's number.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// The object's size in bytes.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// The claims of the object, one for each stream.
    #[prost(message, repeated, tag = "5")]
    pub claims: Vec<ClaimOfStream>,
    /// The WAL's new floor.
    #[prost(message, optional, tag = "6")]
    pub floor: Option<Position>,
    /// The lowest number among its uploads in flight (U5).
    #[prost(uint64, tag = "7")]
    pub lowest_in_flight: u64,
    /// The position up to which its WAL is confirmed (D2).
    #[prost(message, optional, tag = "8")]
    pub confirmed: Option<Position>,
    /// Whether the batches are those of a fenced epoch of the same node, read back from its disk WAL.
    #[prost(bool, tag = "9")]
    pub recovering: bool,
    /// The streams that this epoch has closed, whose last claims are in this command or in an earlier one. They go to the
    /// brokers that they are to be moved to (C2).
    #[prost(message, repeated, tag = "10")]
    pub handed_over: Vec<HandedOver>,
}

/// A claim and the stream it is on.
#[derive(Clone, PartialEq, Message)]
pub struct ClaimOfStream {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The claim.
    #[prost(message, optional, tag = "2")]
    pub claim: Option<ClaimRecord>,
    /// The claim's parts of rolls, in order (F6). Every batch of the claim is in one of them.
    #[prost(message, repeated, tag = "3")]
    pub rolls: Vec<RollRecord>,
}

/// A claim on a range of a stream (U4).
#[derive(Clone, PartialEq, Message)]
pub struct ClaimRecord {
    /// The first offset.
    #[prost(int64, tag = "1")]
    pub first: i64,
    /// The offset after the last one.
    #[prost(int64, tag = "2")]
    pub next: i64,
    /// The position in the object at which the claim's part begins.
    #[prost(uint64, tag = "3")]
    pub part_start: u64,
    /// The position at which it ends.
    #[prost(uint64, tag = "4")]
    pub part_end: u64,
    /// The largest timestamp, or -1.
    #[prost(int64, tag = "5")]
    pub max_timestamp: i64,
    /// The first offset of the oldest open transaction, or -1.
    #[prost(int64, tag = "7")]
    pub open_from: i64,
    /// The size in bytes of the checkpoint at the claim's end, if there is one; 0 for a checkpoint that says that there
    /// is no state.
    #[prost(uint64, optional, tag = "8")]
    pub checkpoint_bytes: Option<u64>,
    /// The leader epoch of its batches.
    #[prost(int32, tag = "9")]
    pub leader_epoch: i32,
    /// The object; none for a range without records.
    #[prost(message, optional, tag = "10")]
    pub object: Option<ObjectName>,
}

/// A roll of a stream, or a claim's part of one (F6).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RollRecord {
    /// The first offset.
    #[prost(int64, tag = "1")]
    pub base: i64,
    /// Whether the roll begins there; otherwise it continues the roll of the claim before.
    #[prost(bool, tag = "2")]
    pub begins: bool,
    /// The bytes of its batches.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// The largest timestamp of its batches, or -1.
    #[prost(int64, tag = "4")]
    pub max_timestamp: i64,
    /// The largest timestamp of its first batch, or -1.
    #[prost(int64, tag = "5")]
    pub first_timestamp: i64,
    /// The time at which its first batch was appended.
    #[prost(int64, tag = "6")]
    pub first_append: i64,
    /// The time at which its last batch was appended.
    #[prost(int64, tag = "7")]
    pub last_append: i64,
}

/// The name of an object.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ObjectName {
    /// The node that wrote it.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// The epoch in which the node wrote it.
    #[prost(uint64, tag = "2")]
    pub node_epoch: u64,
    /// The kind of object, an [`ObjectKind::number`].
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// Its number within the epoch.
    #[prost(uint64, tag = "4")]
    pub number: u64,
}

/// See [`super::Action::ObjectsDeleted`].
#[derive(Clone, PartialEq, Message)]
pub struct ObjectsDeleted {
    /// The names of the objects.
    #[prost(message, repeated, tag = "1")]
    pub objects: Vec<ObjectName>,
}

impl From<ObjectId> for ObjectName {
    fn from(id: ObjectId) -> Self {
        Self {
            node: id.node.0,
            node_epoch: id.epoch.0,
            kind: id.kind.number().into(),
            number: id.number,
        }
    }
}

impl TryFrom<ObjectName> for ObjectId {
    type Error = Rejection;

    fn try_from(name: ObjectName) -> Result<Self, Rejection> {
        let kind = u8::try_from(name.kind).ok();
        let kind = kind.and_then(ObjectKind::from_number);
        Ok(Self {
            node: NodeId(name.node),
            epoch: NodeEpoch(name.node_epoch),
            kind: kind.ok_or(Rejection::NotUnderstood)?,
            number: name.number,
        })
    }
}
