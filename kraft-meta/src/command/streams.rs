//! Commands of streams (rules E4, E5, U4).

use prost::Message;

/// See [`super::Action::OpenStreams`].
#[derive(Clone, PartialEq, Message)]
pub struct OpenStreams {
    /// The node epoch that opens the streams.
    #[prost(uint64, tag = "1")]
    pub node_epoch: u64,
    /// The streams, each under its leader epoch.
    #[prost(message, repeated, tag = "2")]
    pub streams: Vec<StreamEpoch>,
}

/// A stream under a leader epoch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StreamEpoch {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The leader epoch.
    #[prost(int32, tag = "2")]
    pub leader_epoch: i32,
}

/// See [`super::Action::TrimStream`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct TrimStream {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The new start.
    #[prost(int64, tag = "2")]
    pub start: i64,
    /// The node epoch that trims the stream, and must hold it (E6).
    #[prost(uint64, tag = "3")]
    pub node_epoch: u64,
    /// The leader epoch under which it holds the stream.
    #[prost(int32, tag = "4")]
    pub leader_epoch: i32,
}
