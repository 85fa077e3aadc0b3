//! Nodes and their epochs.

use highwater_types::{NodeEpoch, StreamId};
use prost::{Enumeration, Message};

use crate::MetadataVersion;
use crate::command::{Duty, Endpoint, Position, WalKind};
use crate::image::{EpochImage, EpochState, NodeImage};

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeRecord {
    #[prost(int32, tag = "1")]
    pub(super) node: i32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(bytes = "vec", tag = "3")]
    incarnation: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "5")]
    epochs: Vec<NodeEpochRecord>,
    #[prost(bytes = "vec", tag = "6")]
    directory: Vec<u8>,
    #[prost(string, tag = "7")]
    rack: String,
    #[prost(enumeration = "Duty", tag = "8")]
    duty: i32,
    #[prost(bool, tag = "9")]
    is_unregistered: bool,
    #[prost(int32, tag = "10")]
    metadata_version: i32,
    #[prost(string, tag = "11")]
    place: String,
}

#[derive(Clone, PartialEq, Message)]
struct NodeEpochRecord {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(enumeration = "WalKind", tag = "2")]
    wal: i32,
    #[prost(enumeration = "StateRecord", tag = "3")]
    state: i32,
    #[prost(message, optional, tag = "4")]
    floor: Option<Position>,
    #[prost(message, optional, tag = "5")]
    confirmed: Option<Position>,
    #[prost(message, optional, tag = "6")]
    seal: Option<Position>,
    #[prost(uint64, tag = "7")]
    last_upload: u64,
    #[prost(uint64, repeated, tag = "8")]
    last_dropped: Vec<u64>,
    #[prost(uint64, tag = "9")]
    last_index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum StateRecord {
    Open = 1,
    Fenced = 2,
    Closed = 3,
}

pub(super) fn record(id: i32, node: &NodeImage) -> NodeRecord {
    NodeRecord {
        node: id,
        epoch: node.epoch.0,
        incarnation: node.incarnation.clone(),
        directory: node.directory.clone(),
        place: node.place.clone(),
        endpoints: node.endpoints.clone(),
        epochs: node
            .epochs
            .iter()
            .map(|(epoch, image)| epoch_record(*epoch, image))
            .collect(),
        rack: node.rack.clone(),
        duty: node.duty.into(),
        is_unregistered: node.is_unregistered,
        metadata_version: node.metadata_version.record(),
    }
}

fn epoch_record(epoch: NodeEpoch, image: &EpochImage) -> NodeEpochRecord {
    let (state, seal) = match image.state {
        EpochState::Open => (StateRecord::Open, None),
        EpochState::Fenced => (StateRecord::Fenced, None),
        EpochState::Closed(seal) => (StateRecord::Closed, Some(seal.into())),
    };
    NodeEpochRecord {
        epoch: epoch.0,
        wal: image.wal.into(),
        state: state.into(),
        floor: Some(image.floor.into()),
        confirmed: Some(image.confirmed.into()),
        seal,
        last_upload: image.last_upload,
        last_dropped: image.last_dropped.iter().map(|stream| stream.0).collect(),
        last_index: image.last_index,
    }
}

pub(super) fn image(node: NodeRecord) -> NodeImage {
    NodeImage {
        duty: node.duty(),
        rack: node.rack,
        is_unregistered: node.is_unregistered,
        metadata_version: MetadataVersion::read(node.metadata_version),
        epoch: NodeEpoch(node.epoch),
        incarnation: node.incarnation,
        directory: node.directory,
        place: node.place,
        endpoints: node.endpoints,
        epochs: node.epochs.into_iter().map(epoch_image).collect(),
    }
}

fn epoch_image(record: NodeEpochRecord) -> (NodeEpoch, EpochImage) {
    let position = |position: Option<Position>| position.unwrap_or_default().into();
    let state = match record.state() {
        StateRecord::Open => EpochState::Open,
        StateRecord::Fenced => EpochState::Fenced,
        StateRecord::Closed => EpochState::Closed(position(record.seal)),
    };
    let image = EpochImage {
        wal: record.wal(),
        state,
        floor: position(record.floor),
        confirmed: position(record.confirmed),
        last_upload: record.last_upload,
        last_dropped: record.last_dropped.into_iter().map(StreamId).collect(),
        last_index: record.last_index,
    };
    (NodeEpoch(record.epoch), image)
}
