//! DeleteRecords (key 21), versions 0..=2.
//! Source: schema/delete_records_request.kmsg; KIP-107.
//! Behaviour: KAFKA-BEHAVIOUR 9; the new start is durable before the answer.
//! Deviations from Apache Kafka: none.

use highwater_protocol::ErrorCode;
use highwater_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use highwater_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tokio::time::Instant;

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{Handler, Reply};
use super::topic::resolve_topic;
use crate::auth::Operation;
use crate::partitions::OPENING_WAIT;

/// Serves DeleteRecords.
#[derive(Debug)]
pub(crate) struct DeleteRecords;

impl Handler for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;

    async fn handle(
        ctx: RequestContext,
        request: DeleteRecordsRequest,
    ) -> Reply<DeleteRecordsResponse> {
        let deadline = Instant::now() + OPENING_WAIT;
        let mut response = DeleteRecordsResponse::default();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                ctx.give_way().await;
                let index = asked.partition_index;
                let deleted = delete(&ctx, &topic.name, (index, asked.offset), deadline).await;
                partitions.push(DeleteRecordsPartitionResult {
                    partition_index: index,
                    low_watermark: *deleted.as_ref().unwrap_or(&-1),
                    error_code: deleted.err().map_or(0, |refusal| refusal.code.code()),
                });
            }
            response.topics.push(DeleteRecordsTopicResult {
                name: topic.name,
                partitions,
            });
        }
        Reply::Ready(response)
    }
}

async fn delete(
    ctx: &RequestContext,
    name: &str,
    (index, offset): (i32, i64),
    deadline: Instant,
) -> Result<i64, Refusal> {
    let topic = resolve_topic(ctx, None, name, Operation::Delete)?;
    if topic.internal {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let partition = ctx.broker.partitions.led(&topic, index, -1)?;
    let partition = partition.open(deadline).await?;
    partition
        .log
        .delete_records(offset)
        .await
        .map_err(|error| error::from_read(&error))
}
