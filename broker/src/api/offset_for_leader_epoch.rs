//! OffsetForLeaderEpoch (key 23), versions 2..=4.
//! Source: schema/offset_for_leader_epoch_request.kmsg; KIP-101, KIP-279, KIP-320.
//! Behaviour: KAFKA-BEHAVIOUR 22; the answer comes from the metadata's history of leader epochs and from the log end,
//! without I/O.
//! Deviations from Apache Kafka: none.

use highwater_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use highwater_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use highwater_types::LeaderEpoch;
use tokio::time::Instant;

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply};
use super::topic::resolve_topic;
use crate::auth::Operation;
use crate::partitions::OPENING_WAIT;

/// Serves OffsetForLeaderEpoch.
#[derive(Debug)]
pub(crate) struct OffsetForLeaderEpoch;

/// Kafka's `UNDEFINED_EPOCH`, which is below every known epoch.
const NO_EPOCH: i32 = -1;

impl Handler for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 2..=4;

    async fn handle(
        ctx: RequestContext,
        request: OffsetForLeaderEpochRequest,
    ) -> Reply<OffsetForLeaderEpochResponse> {
        let deadline = Instant::now() + OPENING_WAIT;
        let mut response = OffsetForLeaderEpochResponse::default();
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                ctx.give_way().await;
                let found = look_up(&ctx, &topic.topic, asked, deadline).await;
                partitions.push(found.unwrap_or_else(|refusal| EpochEndOffset {
                    error_code: refusal.code.code(),
                    partition: asked.partition,
                    leader_epoch: -1,
                    end_offset: -1,
                }));
            }
            response.topics.push(OffsetForLeaderTopicResult {
                partitions,
                topic: topic.topic.clone(),
            });
        }
        Reply::Ready(response)
    }
}

async fn look_up(
    ctx: &RequestContext,
    name: &str,
    asked: &OffsetForLeaderPartition,
    deadline: Instant,
) -> Result<EpochEndOffset, Refusal> {
    let topic = resolve_topic(ctx, None, name, Operation::Describe)?;
    let (index, known) = (asked.partition, asked.current_leader_epoch);
    let partition = ctx.broker.partitions.led(&topic, index, known)?;
    let partition = partition.open(deadline).await?;
    if asked.leader_epoch == NO_EPOCH {
        return Ok(EpochEndOffset {
            partition: asked.partition,
            leader_epoch: NO_EPOCH,
            end_offset: -1,
            ..Default::default()
        });
    }
    let (epoch, end) = partition
        .log
        .end_offset_for_epoch(LeaderEpoch(asked.leader_epoch));
    Ok(EpochEndOffset {
        partition: asked.partition,
        leader_epoch: epoch.map_or(-1, |epoch| epoch.0),
        end_offset: end,
        ..Default::default()
    })
}
