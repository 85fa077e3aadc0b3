//! Commands of the cluster and its nodes (rules E).

use prost::Message;

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

/// See [`super::Action::CloseEpoch`].
#[derive(Clone, PartialEq, Message)]
pub struct CloseEpoch {
    /// The node.
    #[prost(int32, tag = "1")]
    pub node: i32,
    /// Every epoch of the node below this one is closed.
    #[prost(uint64, tag = "2")]
    pub below: u64,
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
