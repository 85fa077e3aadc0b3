//! Streams and their claims.

use std::sync::Arc;

use highwater_types::{LeaderEpoch, NodeEpoch, StreamId};
use imbl::OrdMap;
use prost::Message;

use crate::command::{ClaimRecord, RollRecord, uuid};
use crate::image::StreamImage;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamRecord {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "vec", tag = "2")]
    topic: Vec<u8>,
    #[prost(int32, tag = "3")]
    partition: i32,
    #[prost(int64, tag = "4")]
    start: i64,
    #[prost(int64, tag = "5")]
    committed_end: i64,
    #[prost(uint64, optional, tag = "6")]
    held_by: Option<u64>,
    #[prost(int32, tag = "7")]
    leader_epoch: i32,
    #[prost(message, repeated, tag = "8")]
    leader_epochs: Vec<EpochRecord>,
    #[prost(message, optional, tag = "9")]
    checkpoint: Option<ClaimRecord>,
    #[prost(int64, tag = "10")]
    lost_from: i64,
    #[prost(int64, tag = "11")]
    lost_to: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimsRecord {
    #[prost(uint64, tag = "1")]
    pub(super) stream: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) claims: Vec<ClaimRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RollsRecord {
    #[prost(uint64, tag = "1")]
    pub(super) stream: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) rolls: Vec<RollRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct EpochRecord {
    #[prost(int32, tag = "1")]
    epoch: i32,
    #[prost(int64, tag = "2")]
    first: i64,
}

pub(super) fn record(id: StreamId, stream: &StreamImage) -> StreamRecord {
    let epoch = |(epoch, first): &(LeaderEpoch, i64)| EpochRecord {
        epoch: epoch.0,
        first: *first,
    };
    StreamRecord {
        id: id.0,
        topic: stream.topic.0.to_vec(),
        partition: stream.partition,
        start: stream.start,
        committed_end: stream.committed_end,
        held_by: stream.held_by.map(|epoch| epoch.0),
        leader_epoch: stream.leader_epoch.0,
        leader_epochs: stream.leader_epochs.iter().map(epoch).collect(),
        checkpoint: stream.checkpoint.as_deref().cloned(),
        lost_from: stream.lost.start,
        lost_to: stream.lost.end,
    }
}

pub(super) fn image(stream: StreamRecord) -> StreamImage {
    StreamImage {
        topic: uuid(&stream.topic),
        partition: stream.partition,
        start: stream.start,
        committed_end: stream.committed_end,
        held_by: stream.held_by.map(NodeEpoch),
        leader_epoch: LeaderEpoch(stream.leader_epoch),
        leader_epochs: stream
            .leader_epochs
            .into_iter()
            .map(|record| (LeaderEpoch(record.epoch), record.first))
            .collect(),
        claims: OrdMap::new(),
        rolls: OrdMap::new(),
        checkpoint: stream.checkpoint.map(Arc::new),
        lost: stream.lost_from..stream.lost_to,
    }
}
