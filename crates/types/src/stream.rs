//! Identifiers of streams, objects and the WAL.

use std::fmt;
use std::ops::Range;

use crate::cluster::NodeEpoch;
use crate::kafka::{NodeId, number};

number! {
    /// The append-only sequence of record batches behind one partition.
    StreamId(u64)
}

/// An offset in a stream: Kafka's offset, at least 0 (-1 where Kafka says "none").
pub type StreamOffset = i64;

/// A half-open range of offsets.
pub type StreamRange = Range<StreamOffset>;

/// Milliseconds since 1970, as Kafka's record timestamps; -1 where Kafka says "none".
pub type Timestamp = i64;

/// A place in a node's WAL.
///
/// `at` counts bytes since the log began on the disk WAL (it only grows, over epochs too), and is the sequence number
/// on the object WAL. Positions of one node are ordered; those of different nodes are not comparable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WalPosition {
    /// The node epoch that wrote it.
    pub epoch: NodeEpoch,
    /// Bytes (disk WAL) or sequence (object WAL).
    pub at: u64,
}

/// What an object is. Those of one node epoch are numbered apart, kind by kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectKind {
    /// A data object of batches that the WAL held (U2).
    Upload,
    /// A data object that replaces older ones (G2).
    Rewrite,
    /// A group commit of the object WAL, or the seal of one (W1, W7).
    Wal,
    /// Indexes only (W9, G3).
    Index,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Upload, Self::Rewrite, Self::Wal, Self::Index];

    /// Its number in formats, for ever.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Upload => 0,
            Self::Rewrite => 1,
            Self::Wal => 2,
            Self::Index => 3,
        }
    }

    /// The kind that a number in a format names.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// The name of an object; `object-storage`'s `layout::object` makes its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    /// The node that wrote it.
    pub node: NodeId,
    /// That node's epoch.
    pub epoch: NodeEpoch,
    /// What it is.
    pub kind: ObjectKind,
    /// Its number; names one body for ever.
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
