//! Commands of the cluster, its nodes and their epochs (rules E).

use highwater_types::{NodeEpoch, WalPosition};
use prost::{Enumeration, Message, Oneof};

use super::{ClaimOfStream, ObjectName, StreamEpoch};

/// See [`super::Action::Format`].
#[derive(Clone, PartialEq, Message)]
pub struct Format {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster_id: Vec<u8>,
}

/// See [`super::Action::RegisterNode`].
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
    /// The kind of the WAL that the epoch will write: a [`WalKind`] (D4).
    #[prost(enumeration = "WalKind", tag = "4")]
    pub wal: i32,
    /// The node's last epoch, as the proposer knows it; 0 for a node that never registered.
    #[prost(uint64, tag = "5")]
    pub after: u64,
}

/// What a node epoch writes ahead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum WalKind {
    /// A ring of files in its node's data directory: its own node alone recovers it.
    Disk = 1,
    /// Objects in the bucket: any node seals it.
    Object = 2,
}

/// A place in a node's WAL.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Position {
    /// The node epoch that wrote it.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Bytes since the log began (disk), or the sequence number (object).
    #[prost(uint64, tag = "2")]
    pub at: u64,
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

/// See [`super::Action::FenceEpoch`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct FenceEpoch {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch; must be open.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// See [`super::Action::CloseEpoch`].
#[derive(Clone, PartialEq, Message)]
pub struct CloseEpoch {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch; must be fenced.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The epoch that has done it; must be open.
    #[prost(uint64, tag = "3")]
    pub by: u64,
    /// What has become of its WAL.
    #[prost(oneof = "Closing", tags = "4, 5")]
    pub how: Option<Closing>,
}

/// What has become of the WAL of an epoch that is closed (E3).
#[derive(Clone, PartialEq, Oneof)]
pub enum Closing {
    /// A disk WAL: its own node has uploaded what it held.
    #[prost(message, tag = "4")]
    Recovered(Recovered),
    /// An object WAL: it ends at a seal for good (W8).
    #[prost(message, tag = "5")]
    Sealed(Sealed),
}

/// See [`Closing::Recovered`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Recovered {}

/// See [`Closing::Sealed`].
#[derive(Clone, PartialEq, Message)]
pub struct Sealed {
    /// Where the seal is.
    #[prost(message, optional, tag = "1")]
    pub at: Option<Position>,
    /// The object that holds the joined footers of the sealed range (W9); none for one without records.
    #[prost(message, optional, tag = "2")]
    pub index: Option<ObjectName>,
    /// Its bytes, and those of the range.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// What the sealed range holds, one for each stream.
    #[prost(message, repeated, tag = "4")]
    pub claims: Vec<ClaimOfStream>,
}

/// See [`super::Action::EpochSwept`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EpochSwept {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch; must be closed.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// See [`super::Action::AssignLeaders`].
#[derive(Clone, PartialEq, Message)]
pub struct AssignLeaders {
    /// The epoch that leads from now on; must be open.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// What it leads, each under the leader epoch that was decided on; the new one is the next.
    #[prost(message, repeated, tag = "2")]
    pub streams: Vec<StreamEpoch>,
}

/// See [`super::Action::AllocateProducerIds`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AllocateProducerIds {
    /// The epoch that asks.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// How many.
    #[prost(int64, tag = "2")]
    pub count: i64,
}

impl From<WalPosition> for Position {
    fn from(position: WalPosition) -> Self {
        Self {
            epoch: position.epoch.0,
            at: position.at,
        }
    }
}

impl From<Position> for WalPosition {
    fn from(position: Position) -> Self {
        Self {
            epoch: NodeEpoch(position.epoch),
            at: position.at,
        }
    }
}
