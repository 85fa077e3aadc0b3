//! Reads by a broker that is a replica of a partition and does not lead it, for consumers of its rack (KIP-392).
//!
//! Such a broker has what objects hold, as its image shows it. That ends behind the leader's high watermark, by as much as
//! the leader has not uploaded yet, so only consumers that are far behind are sent here. At the end it sends them back to the
//! leader, by the same field of the answer.

use std::sync::Arc;

use highwater_kraft_meta::{MetadataImage, PartitionImage, TopicImage};
use highwater_partition_log::{Isolation, ReadError, ReadOutcome};
use highwater_protocol::ErrorCode;
use highwater_s3stream::{FetchLimit, ObjectStreamStore, StreamBounds};
use highwater_types::{NodeId, StreamId, StreamOffset};

use super::tail::Outcome;
use crate::api::context::RequestContext;
use crate::api::error::{self, Refusal};

/// The value of `replica.selector.class` with which consumers are sent to replicas in their rack.
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Whether replicas serve consumers of their rack here.
pub(super) fn is_on(ctx: &RequestContext) -> bool {
    ctx.broker.config.get("replica.selector.class") == Some(RACK_AWARE)
}

/// A partition of which this broker is a replica.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    streams: ObjectStreamStore,
    stream: StreamId,
    bounds: StreamBounds,
    /// The broker that leads it, if one does.
    leader: Option<NodeId>,
}

impl Followed {
    /// The partition as this broker's image shows it; `None` if this broker is no replica of it, or hasn't heard from the
    /// controllers for a session, so that the image may be old.
    pub(super) fn find(ctx: &RequestContext, topic: &TopicImage, index: i32) -> Option<Self> {
        let broker = &ctx.broker;
        let image = broker.metadata.image();
        let partition = image.topic_by_id(topic.id)?.partition(index)?;
        let is_replica = partition.replicas.contains(&broker.config.node_id);
        if !is_replica || broker.is_cut_off() {
            return None;
        }
        let stream = image.stream(partition.stream)?;
        Some(Self {
            streams: broker.streams.clone(),
            stream: partition.stream,
            bounds: StreamBounds {
                start: stream.start,
                confirmed: stream.committed_end,
                next: stream.committed_end,
            },
            leader: image.live_leader(partition).map(|(leader, _)| leader),
        })
    }

    /// What a fetch from an offset finds without a read of objects: [`Outcome::Cold`] if they have it.
    pub(super) fn look(&self, from: StreamOffset, isolation: Isolation) -> Outcome {
        if from < self.bounds.start {
            return Outcome::Failed(error::from_read(&ReadError::OutOfRange { offset: from }));
        }
        match from < self.bounds.confirmed {
            true => Outcome::Cold,
            false => self.back(isolation),
        }
    }

    /// Reads whole batches from an offset on, as [`highwater_partition_log::PartitionLog::read_cold`] does.
    pub(super) async fn read(
        &self,
        from: StreamOffset,
        bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Outcome {
        let limit = FetchLimit {
            bytes,
            before: self.bounds.confirmed,
            at_least_one,
        };
        match self.streams.read_objects(self.stream, from, limit).await {
            // offsets without records, which the leader knows how to pass
            Ok(batches) if batches.is_empty() && at_least_one => self.back(isolation),
            Ok(batches) => Outcome::Read(ReadOutcome::new(self.bounds, batches, isolation)),
            Err(error) => Outcome::Failed(error::from_read(&ReadError::Stream(error))),
        }
    }

    /// The watermarks, as a result without records.
    pub(super) fn nothing(&self, isolation: Isolation) -> ReadOutcome {
        ReadOutcome::new(self.bounds, Vec::new(), isolation)
    }

    /// Sends the consumer to the leader, for what only the leader has.
    fn back(&self, isolation: Isolation) -> Outcome {
        match self.leader {
            Some(leader) => Outcome::Elsewhere(leader, self.nothing(isolation)),
            None => Outcome::Failed(Refusal::from(ErrorCode::OffsetNotAvailable)),
        }
    }
}

/// The replica to which a consumer in a rack is sent: a live one in that rack which clients of the listener reach. `None`
/// if this broker, which leads the partition, is in that rack too, or there is no such replica.
pub(super) fn nearer(
    image: &MetadataImage,
    (own, listener): (NodeId, &str),
    rack: &str,
    partition: &PartitionImage,
) -> Option<NodeId> {
    let is_in_rack = |id: NodeId| image.node(id).is_some_and(|node| node.rack == rack);
    if rack.is_empty() || is_in_rack(own) {
        return None;
    }
    let reaches = |id: NodeId| {
        let node = image.node(id)?;
        let mut endpoints = node.endpoints.iter();
        let is_reached = endpoints.any(|endpoint| endpoint.listener == listener);
        (node.is_live() && node.may_lead() && is_reached).then_some(id)
    };
    let replicas = partition.replicas.iter().copied();
    replicas
        .filter(|id| *id != own && is_in_rack(*id))
        .find_map(reaches)
}

/// The replica to which a consumer of this request is sent for a partition that this broker leads.
pub(super) fn nearer_to(
    ctx: &RequestContext,
    rack: &str,
    topic: &Arc<TopicImage>,
    index: i32,
) -> Option<NodeId> {
    let image = ctx.broker.metadata.image();
    let own = (ctx.broker.config.node_id, &*ctx.connection.listener);
    nearer(&image, own, rack, topic.partition(index)?)
}
