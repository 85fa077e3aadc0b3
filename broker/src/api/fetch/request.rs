//! The request of a fetch: its limits, and the partitions of its session, which are looked up.

use std::sync::Arc;
use std::time::Duration;

use highwater_partition_log::Isolation;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::FetchRequest;
use highwater_types::NodeId;
use tokio::time::Instant;

use super::followed::{Followed, nearer_to};
use crate::api::context::RequestContext;
use crate::api::error::Refusal;
use crate::api::topic::resolve_topic;
use crate::auth::Operation;
use crate::partitions::{
    FetchKey, FetchPlan, Led, Opening, Partition, PartitionRequest, SessionError, SessionRequest,
};

/// The limits of the whole request.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) max_bytes: usize,
    pub(super) min_bytes: usize,
    /// The time until which the fetch waits at the tail.
    pub(super) deadline: Instant,
    pub(super) isolation: Isolation,
}

impl Limits {
    /// The limits of a request that begins now, for a broker whose answers have at most `fetch.max.bytes`.
    pub(super) fn new(request: &FetchRequest, fetch_max_bytes: i32) -> Self {
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let max_bytes = size(request.max_bytes.min(fetch_max_bytes));
        let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        Self {
            max_bytes,
            min_bytes: size(request.min_bytes).min(max_bytes),
            deadline: Instant::now() + Duration::from_millis(wait),
            isolation: match request.isolation_level {
                1 => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
        }
    }
}

/// A partition to read, or the reason why it can't be read.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) wanted: PartitionRequest,
    pub(super) partition: Result<Arc<Partition>, Refusal>,
    /// Set while the partition is being opened here. The fetch waits for it as for new records; if it is answered before
    /// that, the partition is refused.
    pub(super) opening: Option<Opening>,
    /// Set if another broker leads the partition, and this one serves what objects have of it.
    pub(super) followed: Option<Box<Followed>>,
    /// The replica to which the consumer, which is far behind, is sent if it needs objects.
    pub(super) nearer: Option<NodeId>,
}

impl Target {
    /// Looks at a partition again that was being opened.
    pub(super) fn look_again(&mut self) {
        let found = self.opening.as_ref().map(Opening::look_again);
        let Some(Some(found)) = found.map(Result::transpose) else {
            return;
        };
        self.partition = found;
        self.opening = None;
    }

    /// The partition, as long as it is open.
    pub(super) fn partition(&self) -> Result<&Partition, Refusal> {
        match &self.partition {
            Ok(partition) => match partition.closed().get() {
                Some(closed) => Err(closed.code().into()),
                None => Ok(partition),
            },
            Err(refusal) => Err(refusal.clone()),
        }
    }
}

/// Plans all partitions of a request, with its session.
pub(super) fn plan(ctx: &RequestContext, request: FetchRequest) -> Result<FetchPlan, SessionError> {
    let session = SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        uses_topic_ids: ctx.version >= 13,
    };
    let (wanted, forgotten) = asked(request);
    ctx.broker.sessions.plan(session, wanted, &forgotten)
}

/// About the number of bytes that a fetch keeps while it waits: for each partition its name, its limits and a watch.
pub(super) fn waiting_bytes(plan: &FetchPlan) -> u64 {
    const PARTITION_BYTES: u64 = 480;
    let partitions = plan.partitions.iter();
    partitions.fold(0, |bytes: u64, (key, _)| {
        let name = key.name.len() as u64;
        bytes.saturating_add(PARTITION_BYTES).saturating_add(name)
    })
}

fn asked(request: FetchRequest) -> (Vec<(FetchKey, PartitionRequest)>, Vec<FetchKey>) {
    let mut wanted = Vec::new();
    for topic in request.topics {
        for partition in topic.partitions {
            let key = FetchKey {
                name: topic.topic.clone(),
                id: topic.topic_id,
                partition: partition.partition,
            };
            wanted.push((
                key,
                PartitionRequest {
                    offset: partition.fetch_offset,
                    current_leader_epoch: partition.current_leader_epoch,
                    max_bytes: partition.partition_max_bytes,
                },
            ));
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        for partition in topic.partitions {
            forgotten.push(FetchKey {
                name: topic.topic.clone(),
                id: topic.topic_id,
                partition,
            });
        }
    }
    (wanted, forgotten)
}

/// Looks up a partition to read. `rack` is that of a consumer that names one and may be told to read elsewhere.
pub(super) fn target(
    ctx: &RequestContext,
    key: &FetchKey,
    wanted: PartitionRequest,
    rack: Option<&str>,
) -> Target {
    let mut target = Target {
        wanted,
        partition: Err(ErrorCode::NotLeaderOrFollower.into()),
        opening: None,
        followed: None,
        nearer: None,
    };
    let id = (ctx.version >= 13).then_some(key.id);
    let topic = match resolve_topic(ctx, id, &key.name, Operation::Read) {
        Ok(topic) => topic,
        Err(refusal) => {
            target.partition = Err(refusal.into());
            return target;
        }
    };
    let led = ctx
        .broker
        .partitions
        .led(&topic, key.partition, wanted.current_leader_epoch);
    match led {
        Ok(Led::Here(partition)) => {
            let offset = wanted.offset;
            let sent = |rack| nearer_to(ctx, rack, (&topic, &partition), offset);
            target.nearer = rack.and_then(sent);
            target.partition = Ok(partition);
        }
        Ok(Led::Opening(opening)) => target.opening = Some(opening),
        Err(refusal) => {
            if rack.is_some() && refusal.code == ErrorCode::NotLeaderOrFollower {
                target.followed = Followed::find(ctx, &topic, key.partition).map(Box::new);
            }
            target.partition = Err(refusal);
        }
    }
    target
}
