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

/// The name of a data object (rule U2): `data/<hash>/<node>/<node epoch>/<u or r>/<n>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    /// The node that wrote it.
    pub node: NodeId,
    /// That node's epoch.
    pub epoch: NodeEpoch,
    /// Whether it is a rewrite of older objects; uploads and rewrites are numbered apart.
    pub rewrite: bool,
    /// Its number; names one body for ever.
    pub number: u64,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.rewrite { 'r' } else { 'u' };
        write!(f, "{}/{}/{kind}/{}", self.node, self.epoch, self.number)
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.at, self.epoch)
    }
}
