//! Images as bytes: prost messages, version 3. A part holds some of the fields, and of a stream's claims some hundred, so
//! that neither writing nor reading an image takes memory for the whole of it.

use std::iter;
use std::sync::Arc;

use highwater_types::{LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, StreamId};
use imbl::OrdMap;
use prost::{Enumeration, Message};

use super::{
    EpochImage, EpochState, MetadataImage, NodeImage, ObjectImage, PartitionImage, StreamImage,
    TopicImage,
};
use crate::command::{ClaimRecord, Endpoint, ObjectName, Position, Replicas, WalKind, uuid};

/// Why bytes are no image. Fatal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// They can't be read.
    #[error("snapshot cannot be read reason={0}")]
    Unreadable(String),
    /// They are of another version.
    #[error("snapshot is of another version version={0}")]
    OtherVersion(u32),
}

const VERSION: u32 = 3;
/// Claims and objects in one part.
const RECORDS_OF_A_PART: usize = 256;

#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(bytes = "vec", tag = "3")]
    cluster: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    nodes: Vec<NodeRecord>,
    #[prost(message, repeated, tag = "5")]
    topics: Vec<TopicRecord>,
    #[prost(message, repeated, tag = "6")]
    streams: Vec<StreamRecord>,
    #[prost(message, repeated, tag = "7")]
    objects: Vec<ObjectRecord>,
    #[prost(uint64, tag = "8")]
    next_stream: u64,
    #[prost(int64, tag = "9")]
    next_producer: i64,
    /// After their streams.
    #[prost(message, repeated, tag = "10")]
    claims: Vec<ClaimsRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeRecord {
    #[prost(int32, tag = "1")]
    node: i32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(bytes = "vec", tag = "3")]
    incarnation: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "5")]
    epochs: Vec<NodeEpochRecord>,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum StateRecord {
    Open = 1,
    Fenced = 2,
    Closed = 3,
}

#[derive(Clone, PartialEq, Message)]
struct TopicRecord {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    internal: bool,
    #[prost(btree_map = "string, string", tag = "4")]
    configs: std::collections::BTreeMap<String, String>,
    #[prost(message, repeated, tag = "5")]
    partitions: Vec<PartitionRecord>,
    #[prost(uint64, tag = "6")]
    configs_at: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionRecord {
    #[prost(uint64, tag = "1")]
    stream: u64,
    #[prost(message, optional, tag = "2")]
    replicas: Option<Replicas>,
    #[prost(message, optional, tag = "3")]
    leader: Option<LeaderRecord>,
    #[prost(int32, tag = "4")]
    leader_epoch: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct LeaderRecord {
    #[prost(int32, tag = "1")]
    node: i32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StreamRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
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
}

#[derive(Clone, PartialEq, Message)]
struct ClaimsRecord {
    #[prost(uint64, tag = "1")]
    stream: u64,
    #[prost(message, repeated, tag = "2")]
    claims: Vec<ClaimRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct EpochRecord {
    #[prost(int32, tag = "1")]
    epoch: i32,
    #[prost(int64, tag = "2")]
    first: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ObjectRecord {
    #[prost(message, optional, tag = "1")]
    name: Option<ObjectName>,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(uint64, tag = "3")]
    references: u64,
    #[prost(uint64, optional, tag = "4")]
    condemned_at: Option<u64>,
}

impl MetadataImage {
    /// The image as bytes in parts: the head, then a topic, a stream, some of its claims, or some objects each.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Vec<u8>> + Send {
        let head = Snapshot {
            version: VERSION,
            at: self.at.0,
            cluster: self.cluster.0.to_vec(),
            nodes: self
                .nodes
                .iter()
                .map(|(id, node)| node_record(*id, node))
                .collect(),
            next_stream: self.next_stream,
            next_producer: self.next_producer,
            ..Snapshot::default()
        };
        let topics = self.topics.values().map(|topic| Snapshot {
            topics: vec![topic_record(topic)],
            ..Snapshot::default()
        });
        let streams = self.streams.iter().flat_map(|(id, stream)| {
            let itself = Snapshot {
                streams: vec![stream_record(*id, stream)],
                ..Snapshot::default()
            };
            let claims = stream.claims.values().map(|claim| (**claim).clone());
            let claims = some_at_a_time(claims).map(|claims| Snapshot {
                claims: vec![ClaimsRecord {
                    stream: id.0,
                    claims,
                }],
                ..Snapshot::default()
            });
            iter::once(itself).chain(claims)
        });
        let named = self.objects.iter().map(|(id, object)| ObjectRecord {
            name: Some((*id).into()),
            bytes: object.bytes,
            references: object.references,
            condemned_at: None,
        });
        let condemned = self.condemned.iter().map(|(id, at)| ObjectRecord {
            name: Some((*id).into()),
            condemned_at: Some(at.0),
            ..ObjectRecord::default()
        });
        let objects = some_at_a_time(named.chain(condemned)).map(|objects| Snapshot {
            objects,
            ..Snapshot::default()
        });
        let parts = iter::once(head).chain(topics).chain(streams).chain(objects);
        parts.map(|part| part.encode_to_vec())
    }
}

fn some_at_a_time<T>(mut records: impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    iter::from_fn(move || {
        let some: Vec<T> = records.by_ref().take(RECORDS_OF_A_PART).collect();
        (!some.is_empty()).then_some(some)
    })
}

/// An image that is read part by part, in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    image: MetadataImage,
    has_head: bool,
}

impl Restored {
    /// Takes the next part.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), SnapshotError> {
        let part = Snapshot::decode(part).map_err(|error| unreadable(&error))?;
        if !self.has_head {
            if part.version != VERSION {
                return Err(SnapshotError::OtherVersion(part.version));
            }
            self.has_head = true;
            self.image.at = LogIndex(part.at);
            self.image.cluster = uuid(&part.cluster);
            self.image.next_stream = part.next_stream;
            self.image.next_producer = part.next_producer;
        }
        let image = &mut self.image;
        for node in part.nodes {
            image.nodes.insert(node.node, Arc::new(node_image(node)));
        }
        for topic in part.topics {
            let topic = Arc::new(topic_image(topic));
            image.topic_names.insert(topic.id, Arc::clone(&topic.name));
            image.topics.insert(Arc::clone(&topic.name), topic);
        }
        for stream in part.streams {
            image
                .streams
                .insert(StreamId(stream.id), Arc::new(stream_image(stream)));
        }
        for ClaimsRecord { stream, claims } in part.claims {
            let stream = image.streams.get_mut(&StreamId(stream));
            let stream =
                stream.ok_or_else(|| unreadable(&"claims of a stream that is not there"))?;
            let claims = claims
                .into_iter()
                .map(|claim| (claim.first, Arc::new(claim)));
            Arc::make_mut(stream).claims.extend(claims);
        }
        for object in part.objects {
            self.push_object(object)?;
        }
        Ok(())
    }

    fn push_object(&mut self, object: ObjectRecord) -> Result<(), SnapshotError> {
        let name = ObjectId::try_from(object.name.unwrap_or_default())
            .map_err(|error| unreadable(&error))?;
        match object.condemned_at {
            Some(at) => drop(self.image.condemned.insert(name, LogIndex(at))),
            None => {
                let ObjectRecord {
                    bytes, references, ..
                } = object;
                let object = ObjectImage { bytes, references };
                self.image.objects.insert(name, object);
            }
        }
        Ok(())
    }

    /// The image, when every part was pushed.
    pub(crate) fn image(self) -> Result<MetadataImage, SnapshotError> {
        match self.has_head {
            true => Ok(self.image),
            false => Err(unreadable(&"its head is missing")),
        }
    }
}

fn unreadable(why: &impl ToString) -> SnapshotError {
    SnapshotError::Unreadable(why.to_string())
}

fn node_record(id: i32, node: &NodeImage) -> NodeRecord {
    NodeRecord {
        node: id,
        epoch: node.epoch.0,
        incarnation: node.incarnation.clone(),
        endpoints: node.endpoints.clone(),
        epochs: node
            .epochs
            .iter()
            .map(|(epoch, image)| node_epoch_record(*epoch, image))
            .collect(),
    }
}

fn node_epoch_record(epoch: NodeEpoch, image: &EpochImage) -> NodeEpochRecord {
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
    }
}

fn node_image(node: NodeRecord) -> NodeImage {
    NodeImage {
        epoch: NodeEpoch(node.epoch),
        incarnation: node.incarnation,
        endpoints: node.endpoints,
        epochs: node.epochs.into_iter().map(node_epoch_image).collect(),
    }
}

fn node_epoch_image(record: NodeEpochRecord) -> (NodeEpoch, EpochImage) {
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
    };
    (NodeEpoch(record.epoch), image)
}

fn topic_record(topic: &TopicImage) -> TopicRecord {
    let partition = |partition: &PartitionImage| PartitionRecord {
        stream: partition.stream.0,
        replicas: Some(Replicas {
            nodes: partition.replicas.iter().map(|node| node.0).collect(),
        }),
        leader: partition.leader.map(|(node, epoch)| LeaderRecord {
            node: node.0,
            epoch: epoch.0,
        }),
        leader_epoch: partition.leader_epoch.0,
    };
    TopicRecord {
        id: topic.id.0.to_vec(),
        name: topic.name.to_string(),
        internal: topic.internal,
        configs: topic.configs.clone(),
        configs_at: topic.configs_at.0,
        partitions: topic.partitions.iter().map(partition).collect(),
    }
}

fn topic_image(topic: TopicRecord) -> TopicImage {
    let partition = |partition: PartitionRecord| PartitionImage {
        stream: StreamId(partition.stream),
        replicas: partition
            .replicas
            .unwrap_or_default()
            .nodes
            .into_iter()
            .map(NodeId)
            .collect(),
        leader: partition
            .leader
            .map(|leader| (NodeId(leader.node), NodeEpoch(leader.epoch))),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
    };
    TopicImage {
        id: uuid(&topic.id),
        name: topic.name.into(),
        internal: topic.internal,
        configs: topic.configs,
        configs_at: LogIndex(topic.configs_at),
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}

fn stream_record(id: StreamId, stream: &StreamImage) -> StreamRecord {
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
    }
}

fn stream_image(stream: StreamRecord) -> StreamImage {
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
        checkpoint: stream.checkpoint.map(Arc::new),
    }
}
