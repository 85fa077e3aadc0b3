//! Commands of the cluster, its nodes and their epochs (rules E).

use highwater_types::{NodeEpoch, WalPosition};
use prost::{Enumeration, Message, Oneof};

use super::{ClaimOfStream, ObjectName, StreamEpoch};

/// See [`super::Action::Format`].
#[derive(Clone, PartialEq, Message)]
pub struct Format {
    /// The cluster's id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster_id: Vec<u8>,
}

/// See [`super::Action::ClaimStore`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClaimStore {
    /// The store's id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub store: Vec<u8>,
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
    /// The addresses at which clients reach it.
    #[prost(message, repeated, tag = "3")]
    pub endpoints: Vec<Endpoint>,
    /// The kind of the WAL that the epoch will write: a [`WalKind`] (D4).
    #[prost(enumeration = "WalKind", tag = "4")]
    pub wal: i32,
    /// The node's last epoch, as the proposer knows it; 0 for a node that never registered.
    #[prost(uint64, tag = "5")]
    pub after: u64,
    /// The id of the node's data directory; empty if it has none (E2).
    #[prost(bytes = "vec", tag = "6")]
    pub directory: Vec<u8>,
    /// The rack of the node (`broker.rack`); empty for none.
    #[prost(string, tag = "7")]
    pub rack: String,
    /// The newest `metadata.version` that its program knows; 0 for [`crate::MetadataVersion::FIRST`].
    #[prost(int32, tag = "8")]
    pub metadata_version: i32,
    /// Where the data directory is, by which a copy of it is told from it; empty if that is not known (E2).
    #[prost(string, tag = "9")]
    pub place: String,
}

/// See [`super::Action::SetMetadataVersion`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SetMetadataVersion {
    /// The level, which is not below the present one.
    #[prost(int32, tag = "1")]
    pub version: i32,
}

/// The kind of WAL that a node epoch writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum WalKind {
    /// A ring of files in the node's data directory: only that node can recover it.
    Disk = 1,
    /// Objects in the bucket: any node can seal it.
    Object = 2,
}

/// A position in a node's WAL.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Position {
    /// The node epoch that wrote at it.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// On a disk WAL, bytes since the log began; on an object WAL, a sequence number.
    #[prost(uint64, tag = "2")]
    pub at: u64,
}

/// An advertised listener.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Endpoint {
    /// The name of the listener.
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
    /// Its epoch, which must be open.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// See [`super::Action::CloseEpoch`].
#[derive(Clone, PartialEq, Message)]
pub struct CloseEpoch {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch, which must be fenced.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The epoch that recovered or sealed the WAL; it must be open.
    #[prost(uint64, tag = "3")]
    pub by: u64,
    /// The end of the epoch's WAL.
    #[prost(oneof = "Closing", tags = "4, 5")]
    pub how: Option<Closing>,
}

/// The way in which the WAL of a closed epoch ended (E3).
#[derive(Clone, PartialEq, Oneof)]
pub enum Closing {
    /// A disk WAL: its own node has uploaded all batches in it.
    #[prost(message, tag = "4")]
    Recovered(Recovered),
    /// An object WAL: a seal ends it for good (W8).
    #[prost(message, tag = "5")]
    Sealed(Sealed),
}

/// See [`Closing::Recovered`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Recovered {}

/// See [`Closing::Sealed`].
#[derive(Clone, PartialEq, Message)]
pub struct Sealed {
    /// The position of the seal.
    #[prost(message, optional, tag = "1")]
    pub at: Option<Position>,
    /// The object with the joined footers of the sealed range (W9); none for a range without records.
    #[prost(message, optional, tag = "2")]
    pub index: Option<ObjectName>,
    /// The bytes of that object and of the sealed range.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// The claims on the sealed range, one for each stream.
    #[prost(message, repeated, tag = "4")]
    pub claims: Vec<ClaimOfStream>,
}

/// See [`super::Action::EpochSwept`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EpochSwept {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its epoch, which must be closed.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// See [`super::Action::GiveUpEpoch`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct GiveUpEpoch {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Its last epoch on a disk WAL that is not closed. With it every earlier one is given up, because they are one log.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// See [`super::Action::AssignLeaders`].
#[derive(Clone, PartialEq, Message)]
pub struct AssignLeaders {
    /// The new leader's epoch, which must be open.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// The streams, each under the leader epoch on which the proposer decided; it gets the next one.
    #[prost(message, repeated, tag = "2")]
    pub streams: Vec<StreamEpoch>,
}

/// See [`super::Action::AllocateProducerIds`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AllocateProducerIds {
    /// The epoch that asks for the ids.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// The number of ids.
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
