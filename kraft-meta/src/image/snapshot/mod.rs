//! Images as bytes: prost messages, version 5. An image is encoded in parts, each with some of the fields and at most
//! some hundred claims or rolls of a stream, so that neither writing nor reading takes memory for the whole image.

mod nodes;
mod objects;
mod streams;
mod topics;

use std::iter;
use std::sync::Arc;

use highwater_types::{LogIndex, StreamId};
use prost::Message;

use self::nodes::NodeRecord;
use self::objects::ObjectRecord;
use self::streams::{ClaimsRecord, RollsRecord, StreamRecord};
use self::topics::TopicRecord;
use super::{MetadataImage, StreamImage};
use crate::MetadataVersion;
use crate::command::uuid;

/// The reason why bytes are no image of the metadata. It is fatal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes can't be decoded.
    #[error("snapshot cannot be read reason={0}")]
    Unreadable(String),
    /// The bytes have another version of the format.
    #[error("snapshot has another format version={0}")]
    OtherVersion(u32),
}

const VERSION: u32 = 5;
/// The number of claims, rolls or objects in one part.
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
    /// Claims; they follow the part of their stream.
    #[prost(message, repeated, tag = "10")]
    claims: Vec<ClaimsRecord>,
    /// Rolls; they follow the part of their stream.
    #[prost(message, repeated, tag = "11")]
    rolls: Vec<RollsRecord>,
    #[prost(int32, tag = "12")]
    metadata_version: i32,
    #[prost(bytes = "vec", tag = "13")]
    store: Vec<u8>,
}

impl MetadataImage {
    /// Encodes the image in parts: the head first, then each part with a topic, a stream, some of a stream's claims or
    /// rolls, or some objects.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Vec<u8>> + Send {
        let head = Snapshot {
            version: VERSION,
            at: self.at.0,
            cluster: self.cluster.0.to_vec(),
            nodes: self
                .nodes
                .iter()
                .map(|(id, node)| nodes::record(*id, node))
                .collect(),
            next_stream: self.next_stream,
            next_producer: self.next_producer,
            metadata_version: self.metadata_version.record(),
            store: match self.store.is_zero() {
                true => Vec::new(),
                false => self.store.0.to_vec(),
            },
            ..Snapshot::default()
        };
        let topics = self.topics.values().map(|topic| Snapshot {
            topics: vec![topics::record(topic)],
            ..Snapshot::default()
        });
        let streams = self.streams.iter().flat_map(|(id, stream)| {
            let itself = Snapshot {
                streams: vec![streams::record(*id, stream)],
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
            let rolls = some_at_a_time(stream.rolls.values().copied()).map(|rolls| Snapshot {
                rolls: vec![RollsRecord {
                    stream: id.0,
                    rolls,
                }],
                ..Snapshot::default()
            });
            iter::once(itself).chain(claims).chain(rolls)
        });
        let named = self.objects.iter();
        let named = named.map(|(id, object)| objects::named(*id, *object));
        let condemned = self.condemned.iter();
        let condemned = condemned.map(|(id, object)| objects::condemned(*id, *object));
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

/// An image that is being read, part by part in the order in which the parts were written.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    image: MetadataImage,
    has_head: bool,
}

impl Restored {
    /// Adds the next part.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), SnapshotError> {
        let part = Snapshot::decode(part).map_err(|error| unreadable(&error))?;
        if !self.has_head {
            if part.version != VERSION {
                return Err(SnapshotError::OtherVersion(part.version));
            }
            self.has_head = true;
            self.image.at = LogIndex(part.at);
            self.image.cluster = uuid(&part.cluster);
            self.image.store = uuid(&part.store);
            self.image.next_stream = part.next_stream;
            self.image.next_producer = part.next_producer;
            self.image.metadata_version = MetadataVersion::read(part.metadata_version);
        }
        let image = &mut self.image;
        for node in part.nodes {
            image.nodes.insert(node.node, Arc::new(nodes::image(node)));
        }
        for topic in part.topics {
            let topic = Arc::new(topics::image(topic));
            image.topic_names.insert(topic.id, Arc::clone(&topic.name));
            image.topics.insert(Arc::clone(&topic.name), topic);
        }
        for stream in part.streams {
            image
                .streams
                .insert(StreamId(stream.id), Arc::new(streams::image(stream)));
        }
        for ClaimsRecord { stream, claims } in part.claims {
            let stream = image.stream_mut(stream)?;
            let claims = claims
                .into_iter()
                .map(|claim| (claim.first, Arc::new(claim)));
            stream.claims.extend(claims);
        }
        for RollsRecord { stream, rolls } in part.rolls {
            let rolls = rolls.into_iter().map(|roll| (roll.base, roll));
            image.stream_mut(stream)?.rolls.extend(rolls);
        }
        for object in part.objects {
            object.push(image).map_err(|error| unreadable(&error))?;
        }
        Ok(())
    }

    /// The image, once every part was added.
    pub(crate) fn image(self) -> Result<MetadataImage, SnapshotError> {
        match self.has_head {
            true => Ok(self.image),
            false => Err(unreadable(&"its head is missing")),
        }
    }
}

impl MetadataImage {
    fn stream_mut(&mut self, id: u64) -> Result<&mut StreamImage, SnapshotError> {
        let stream = self.streams.get_mut(&StreamId(id));
        let stream = stream.ok_or_else(|| unreadable(&"a part is of a stream that is not there"));
        stream.map(Arc::make_mut)
    }
}

fn unreadable(why: &impl ToString) -> SnapshotError {
    SnapshotError::Unreadable(why.to_string())
}
