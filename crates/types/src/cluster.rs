//! Identifiers of a cluster and its consensus.

use std::fmt;

use crate::kafka::{Uuid, number};

/// The id of a cluster; carried by its bucket prefix and by every data directory.
pub type ClusterId = Uuid;

number! {
    /// The controllers' number for one incarnation of a node: the Raft log index of its registration (rule E1).
    NodeEpoch(u64)
}
number! {
    /// An index of the metadata's Raft log.
    LogIndex(u64)
}
number! {
    /// A term of the metadata's Raft log: in each, at most one node is the active controller.
    Term(u64)
}
