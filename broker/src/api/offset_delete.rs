//! OffsetDelete (key 47), version 0.
//! Source: schema/offset_delete_request.kmsg; KIP-496.
//! Behaviour: the offsets of a topic to which a member subscribes are not deleted.
//! Deviations from Apache Kafka: none.

use highwater_protocol::messages::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use highwater_protocol::{ApiKey, ErrorCode};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use super::topic::resolve_topic;
use crate::auth::{Operation, Resource};

/// Serves OffsetDelete.
#[derive(Debug)]
pub(crate) struct OffsetDelete;

impl Handler for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;

    async fn handle(
        ctx: RequestContext,
        request: OffsetDeleteRequest,
    ) -> Reply<OffsetDeleteResponse> {
        let mut response = OffsetDeleteResponse::default();
        if !ctx.authorize(Operation::Delete, Resource::Group(&request.group_id)) {
            response.error_code = ErrorCode::GroupAuthorizationFailed.code();
            return Reply::Ready(response);
        }
        if request.group_id.is_empty() {
            response.error_code = ErrorCode::InvalidGroupId.code();
            return Reply::Ready(response);
        }
        let mut checks = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            ctx.give_way().await;
            checks.push(check(&ctx, topic));
        }
        let mut wanted: Vec<(String, i32)> = Vec::new();
        for (topic, checks) in request.topics.iter().zip(&checks) {
            let partitions = topic.partitions.iter().zip(checks);
            let allowed = partitions.filter(|(_, refused)| refused.is_none());
            wanted.extend(allowed.map(|(one, _)| (topic.name.to_string(), one.partition_index)));
        }
        let group = request.group_id.to_string();
        let deleted = ctx.broker.groups.call(
            &ctx.broker,
            ApiKey::OffsetDelete,
            &request.group_id,
            move |shard, effects, _| shard.delete_offsets(&group, &wanted, effects),
        );
        let mut errors = match deleted.await.and_then(|deleted| deleted) {
            Ok(errors) => errors.into_iter(),
            Err(error) => {
                response.error_code = error.code();
                return Reply::Ready(response);
            }
        };
        for (topic, refused) in request.topics.into_iter().zip(checks) {
            let partitions = topic.partitions.iter().zip(refused);
            let partitions = partitions.map(|(partition, refused)| {
                let error = refused.or_else(|| errors.next());
                OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.map_or(0, |error| error.code()),
                }
            });
            response.topics.push(OffsetDeleteResponseTopic {
                partitions: partitions.collect(),
                name: topic.name,
            });
        }
        Reply::Ready(response)
    }
}

/// The partitions of a topic that are refused before the group is called, with their errors.
fn check(ctx: &RequestContext, topic: &OffsetDeleteRequestTopic) -> Vec<Option<ErrorCode>> {
    let known = resolve_topic(ctx, None, &topic.name, Operation::Read);
    let of = |index| match &known {
        Ok(known) if known.partition(index).is_some() => None,
        Ok(_) => Some(ErrorCode::UnknownTopicOrPartition),
        Err(refused) => Some(*refused),
    };
    let partitions = topic.partitions.iter();
    partitions.map(|one| of(one.partition_index)).collect()
}
