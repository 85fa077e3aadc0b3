//! Commands that move partitions and say what brokers may lead (rules E4, C1, C2).

use prost::{Enumeration, Message};

use super::Replicas;
use crate::image::PartitionImage;

/// See [`super::Action::MovePartitions`].
#[derive(Clone, PartialEq, Message)]
pub struct MovePartitions {
    /// The partitions, each independent of the others.
    #[prost(message, repeated, tag = "1")]
    pub moves: Vec<PartitionMove>,
}

/// A change of one partition.
#[derive(Clone, PartialEq, Message)]
pub struct PartitionMove {
    /// The partition's stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The leader epoch on which the proposer decided.
    #[prost(int32, tag = "2")]
    pub leader_epoch: i32,
    /// The index of the command that must have changed the partition's replicas or its move last: see
    /// [`crate::PartitionImage::decided_at`].
    #[prost(uint64, tag = "3")]
    pub decided_at: u64,
    /// The new replicas; the list stays as it is without them.
    #[prost(message, optional, tag = "4")]
    pub replicas: Option<Replicas>,
    /// Whether an operator chose these replicas.
    #[prost(bool, tag = "5")]
    pub by_operator: bool,
    /// The live broker to which the leader hands the partition over. Without it a move that is under way is cancelled,
    /// unless its leader has closed the stream already (C1).
    #[prost(int32, optional, tag = "6")]
    pub to: Option<i32>,
}

impl PartitionMove {
    /// A change of a partition that is decided on this image of it, and changes nothing yet but to cancel a move.
    #[must_use]
    pub fn of(partition: &PartitionImage) -> Self {
        Self {
            stream: partition.stream.0,
            leader_epoch: partition.leader_epoch.0,
            decided_at: partition.decided_at.0,
            ..Self::default()
        }
    }
}

/// A stream that its leader has closed, in the command that commits the stream's last claim (C2).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HandedOver {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The leader epoch under which it was open.
    #[prost(int32, tag = "2")]
    pub leader_epoch: i32,
    /// The offset after the last batch that was ever appended under it.
    #[prost(int64, tag = "3")]
    pub end: i64,
}

/// See [`super::Action::SetDuty`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SetDuty {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its duty from now on: a [`Duty`].
    #[prost(enumeration = "Duty", tag = "2")]
    pub duty: i32,
}

/// Which leaderships an operator lets a broker have. It outlives restarts of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Duty {
    /// It leads its share.
    Full = 0,
    /// It keeps what it leads, and gets nothing.
    Cordoned = 1,
    /// It gets nothing, and hands over what it leads.
    Draining = 2,
}

/// See [`super::Action::UnregisterNode`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct UnregisterNode {
    /// The node, none of whose epochs may be open, or closed only partly.
    #[prost(int32, tag = "1")]
    pub node: i32,
}
