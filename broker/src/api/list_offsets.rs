//! ListOffsets (key 2), versions 1..=11.
//! Source: schema/list_offsets_request.kmsg; KIP-79, KIP-207, KIP-320, KIP-734, KIP-405, KIP-1005, KIP-1023.
//! Behaviour: KAFKA-BEHAVIOUR 21. The whole log is local in Kafka's sense; no part of it is tiered.
//! Deviations from Apache Kafka: if the batch with the largest timestamp was deleted, -3 answers that record for as
//! long as its roll is active, retention has not given the roll up, and the partition is not opened again. After that
//! it answers the largest timestamp that is left. Kafka answers that record for as long as the file of its segment
//! exists.

use std::collections::BTreeSet;

use highwater_partition_log::{Isolation, OffsetQuery};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use tokio::time::Instant;

use super::alter_configs::twice;
use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{Handler, Reply};
use super::topic::resolve_topic;
use crate::auth::Operation;
use crate::partitions::OPENING_WAIT;

/// Serves ListOffsets.
#[derive(Debug)]
pub(crate) struct ListOffsets;

impl Handler for ListOffsets {
    type Request = ListOffsetsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=11;

    async fn handle(
        ctx: RequestContext,
        request: ListOffsetsRequest,
    ) -> Reply<ListOffsetsResponse> {
        let isolation = if request.isolation_level == 1 {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        };
        let deadline = Instant::now() + OPENING_WAIT;
        let mut response = ListOffsetsResponse::default();
        for topic in request.topics {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            let partitions = topic.partitions.iter();
            let twice = twice(partitions.map(|partition| partition.partition_index));
            let mut told = BTreeSet::new();
            for asked in &topic.partitions {
                ctx.give_way().await;
                let is_twice = twice.contains(&asked.partition_index);
                if is_twice && !told.insert(asked.partition_index) {
                    continue;
                }
                let found = if is_twice {
                    Err(Refusal::from(ErrorCode::InvalidRequest))
                } else {
                    look_up(&ctx, &topic.name, asked, isolation, deadline).await
                };
                answers.push(
                    found.unwrap_or_else(|refusal| ListOffsetsPartitionResponse {
                        partition_index: asked.partition_index,
                        error_code: refusal.code.code(),
                        timestamp: -1,
                        offset: -1,
                        leader_epoch: -1,
                    }),
                );
            }
            response.topics.push(ListOffsetsTopicResponse {
                name: topic.name,
                partitions: answers,
            });
        }
        Reply::Ready(response)
    }
}

/// The meaning of a timestamp in the request. Each special value needs the version that introduced it.
fn query(timestamp: i64, version: i16) -> Result<OffsetQuery, Refusal> {
    let (query, since) = match timestamp {
        -1 => (OffsetQuery::Latest, 1),
        -2 => (OffsetQuery::Earliest, 1),
        -3 => (OffsetQuery::MaxTimestamp, 7),
        -4 => (OffsetQuery::EarliestLocal, 8),
        -5 => (OffsetQuery::LatestTiered, 9),
        -6 => (OffsetQuery::EarliestPendingUpload, 11),
        at if at >= 0 => (OffsetQuery::AtTime(at), 1),
        _ => return Err(ErrorCode::UnsupportedVersion.into()),
    };
    if version < since {
        return Err(ErrorCode::UnsupportedVersion.into());
    }
    Ok(query)
}

async fn look_up(
    ctx: &RequestContext,
    name: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    deadline: Instant,
) -> Result<ListOffsetsPartitionResponse, Refusal> {
    let topic = resolve_topic(ctx, None, name, Operation::Describe)?;
    let (index, known) = (asked.partition_index, asked.current_leader_epoch);
    let partition = ctx.broker.partitions.led(&topic, index, known)?;
    let partition = partition.open(deadline).await?;
    let query = query(asked.timestamp, ctx.version)?;
    let found = partition
        .log
        .list_offsets(query, isolation)
        .await
        .map_err(|error| error::from_read(&error))?;
    Ok(ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: found.leader_epoch.map_or(-1, |epoch| epoch.0),
        ..Default::default()
    })
}
