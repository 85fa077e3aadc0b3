//! Identifiers of streams, objects and the WAL.

use std::fmt;
use std::ops::Range;

use crate::cluster::NodeEpoch;
use crate::kafka::{NodeId, number};

number! {
    /// The append-only sequence of record batches that stores one partition.
    StreamId(u64)
}

/// An offset in a stream, which is Kafka's offset: at least 0, or -1 where Kafka means "none".
pub type StreamOffset = i64;

/// A half-open range of offsets.
pub type StreamRange = Range<StreamOffset>;

/// Milliseconds since 1970, as in Kafka's records; -1 where Kafka means "none".
pub type Timestamp = i64;

/// A position in a node's WAL.
///
/// On the disk WAL `at` counts the bytes since the log began, over all epochs; on the object WAL it is a sequence
/// number. The positions of one node are ordered; those of different nodes can't be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WalPosition {
    /// The node epoch in which it was written.
    pub epoch: NodeEpoch,
    /// Bytes (disk WAL) or a sequence number (object WAL).
    pub at: u64,
}

/// The kind of an object. Within a node epoch each kind is numbered separately.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectKind {
    /// A data object made of batches from the WAL (U2).
    Upload,
    /// A data object that replaces older ones (G2).
    Rewrite,
    /// A group commit of the object WAL, or the seal of a WAL (W1, W7).
    Wal,
    /// An object with indexes only (W9, G3).
    Index,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Upload, Self::Rewrite, Self::Wal, Self::Index];

    /// The number of the kind in formats. It never changes.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Upload => 0,
            Self::Rewrite => 1,
            Self::Wal => 2,
            Self::Index => 3,
        }
    }

    /// The kind with this number in formats.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// The name of an object. `layout::object` of the crate `object-storage` derives its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    /// The node that wrote the object.
    pub node: NodeId,
    /// The epoch of that node.
    pub epoch: NodeEpoch,
    /// The object's kind.
    pub kind: ObjectKind,
    /// The object's number. One number never names two different bodies.
    pub number: u64,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ObjectKind::Upload => 'u',
            ObjectKind::Rewrite => 'r',
            ObjectKind::Wal => 'w',
            ObjectKind::Index => 'i',
        };
        write!(f, "{}/{}/{kind}/{}", self.node, self.epoch, self.number)
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.at, self.epoch)
    }
}
