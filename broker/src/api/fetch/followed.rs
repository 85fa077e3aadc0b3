//! Reads by a broker that is a replica of a partition and does not lead it, for consumers of its rack (KIP-392).
//!
//! Such a broker has what objects hold, as its image shows it. That ends behind the leader's high watermark, by as much as
//! the leader has not uploaded yet, so only consumers that are far behind are sent here. A consumer that this broker can't
//! serve, for whatever reason, is sent back to the leader by the same field of the answer, because some clients stay at a
//! replica that answers with an error. The leader serves one that comes back for the same offset for a minute.

use highwater_kraft_meta::{MetadataImage, PartitionImage, TopicImage};
use highwater_partition_log::{Isolation, ReadError, ReadOutcome};
use highwater_protocol::ErrorCode;
use highwater_s3stream::{FetchLimit, ObjectStreamStore, StreamBounds};
use highwater_types::{NodeId, StreamId, StreamOffset};

use super::outcome::Outcome;
use crate::api::context::RequestContext;
use crate::api::error::{self, Refusal};
use crate::partitions::Partition;

/// The value of `replica.selector.class` with which consumers are sent to replicas in their rack.
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// The least bytes that a consumer is behind when it is sent to another replica: clients wait before they follow the second
/// time within a minute.
const FAR_BEHIND: u64 = 4 << 20;

/// Whether this broker sends consumers to replicas in their rack. Replicas serve them in any case.
fn sends_on(ctx: &RequestContext) -> bool {
    ctx.broker.config.get("replica.selector.class") == Some(RACK_AWARE)
}

/// A partition that another broker leads, or none.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    streams: ObjectStreamStore,
    stream: StreamId,
    bounds: StreamBounds,
    /// Whether this broker serves it: it is one of the replicas, and has heard from the controllers within a session, so
    /// that its image is not old.
    is_served: bool,
    /// The broker that leads it, if one does.
    leader: Option<NodeId>,
}

impl Followed {
    /// The partition as this broker's image shows it; `None` if this broker neither serves it nor knows its leader.
    pub(super) fn find(ctx: &RequestContext, topic: &TopicImage, index: i32) -> Option<Self> {
        let broker = &ctx.broker;
        let own = broker.config.node_id;
        let image = broker.metadata.image();
        let partition = image.topic_by_id(topic.id)?.partition(index)?;
        let stream = image.stream(partition.stream)?;
        let is_served = partition.replicas.contains(&own) && !broker.is_cut_off();
        let leader = image.live_leader(partition).map(|(leader, _)| leader);
        let leader = leader.filter(|leader| *leader != own);
        (is_served || leader.is_some()).then(|| Self {
            streams: broker.streams.clone(),
            stream: partition.stream,
            bounds: StreamBounds {
                start: stream.start,
                confirmed: stream.committed_end,
                next: stream.committed_end,
            },
            is_served,
            leader,
        })
    }

    /// What a fetch from an offset finds without a read of objects: [`Outcome::Cold`] if they have it.
    pub(super) fn look(&self, from: StreamOffset, isolation: Isolation) -> Outcome {
        let has = (self.bounds.start..self.bounds.confirmed).contains(&from);
        match self.is_served && has {
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
            Err(error) if self.leader.is_none() => {
                Outcome::Failed(error::from_read(&ReadError::Stream(error)))
            }
            Err(error) => {
                tracing::debug!(%error, "a replica cannot read for a consumer, which is sent to the leader");
                self.back(isolation)
            }
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

/// The replica to which a consumer in a rack is sent: a live one in that rack which clients of the listener reach and which
/// may lead. `None` if this broker, which leads the partition, is in that rack too, or there is no such replica.
fn nearer(
    image: &MetadataImage,
    (own, listener): (NodeId, &str),
    rack: &str,
    partition: &PartitionImage,
) -> Option<NodeId> {
    let is_in_rack = |id: NodeId| image.node(id).is_some_and(|node| node.rack == rack);
    if is_in_rack(own) {
        return None;
    }
    let is_ready = |id: &NodeId| {
        image.node(*id).is_some_and(|node| {
            let mut endpoints = node.endpoints.iter();
            let is_reached = endpoints.any(|endpoint| endpoint.listener == listener);
            // one that still recovers its former epochs answers no client
            let has_recovered = node.unclosed().all(|(epoch, _)| epoch == node.epoch);
            node.may_lead() && is_reached && has_recovered
        })
    };
    let replicas = partition.replicas.iter().copied();
    let mut others = replicas.filter(|id| *id != own && is_in_rack(*id));
    others.find(is_ready)
}

/// The replica to which a consumer of this request is sent for a partition that this broker leads, if it needs objects from
/// an offset on; `None` if it is not far behind, or has come back from there a short while ago, or the controllers are away,
/// so that replicas may not serve it. A consumer at the tail costs the first of these questions alone.
pub(super) fn nearer_to(
    ctx: &RequestContext,
    rack: &str,
    (topic, partition): (&TopicImage, &Partition),
    offset: StreamOffset,
) -> Option<NodeId> {
    if !partition.log.has_bytes(offset, FAR_BEHIND) || !sends_on(ctx) || ctx.broker.is_cut_off() {
        return None;
    }
    if ctx
        .connection
        .stays_for((topic.id, partition.index), offset)
    {
        return None;
    }
    let image = ctx.broker.metadata.image();
    let own = (ctx.broker.config.node_id, &*ctx.connection.listener);
    nearer(&image, own, rack, topic.partition(partition.index)?)
}
