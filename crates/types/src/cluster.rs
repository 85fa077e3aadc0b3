//! Identifiers of a cluster and its consensus.

use std::fmt;

use crate::kafka::{Uuid, number};

/// The id of a cluster. Its prefix in the bucket and every data directory carry it.
pub type ClusterId = Uuid;

/// The id of an object store, which the claim in it carries; zero for a claim of an earlier release.
pub type StoreId = Uuid;

number! {
    /// One incarnation of a node. The controllers assign it at registration: it is the Raft log index of that command
    /// (rule E1).
    NodeEpoch(u64)
}
number! {
    /// An index in the metadata's Raft log.
    LogIndex(u64)
}
number! {
    /// A term of the metadata's Raft log: in each, at most one node is the active controller.
    Term(u64)
}
