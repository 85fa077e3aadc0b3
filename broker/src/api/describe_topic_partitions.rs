//! DescribeTopicPartitions (key 75), version 0.
//! Source: schema/describe_topic_partitions_request.kmsg; KIP-966.
//! Behaviour: the answer has topics in the order of names, a bounded number of partitions, and a cursor from which the
//! next request goes on.
//! Deviations from Apache Kafka: none; there are no eligible leader replicas beside the in-sync replicas.

use highwater_kraft_meta::TopicImage;
use highwater_protocol::messages::describe_topic_partitions_response::Cursor;
use highwater_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use highwater_protocol::{ErrorCode, StrBytes};

use super::context::RequestContext;
use super::handler::{Handler, Reply, element_bytes};
use super::metadata::{self, Metadata};
use super::topic::resolve_topic;
use crate::auth::Operation;

/// Serves DescribeTopicPartitions.
#[derive(Debug)]
pub(crate) struct DescribeTopicPartitions;

/// Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

impl Handler for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;

    fn answer_bytes(ctx: &RequestContext, _request: &Self::Request, elements: usize) -> u64 {
        let image = ctx.broker.metadata.image();
        let all: usize = image.topics().map(|topic| topic.partitions.len()).sum();
        // A partition takes twice the bytes of an element: Metadata's structure, and the one of this API.
        let partitions = all.min(PARTITIONS_MAX).saturating_mul(2);
        element_bytes(elements.saturating_add(partitions))
    }

    async fn handle(
        ctx: RequestContext,
        request: DescribeTopicPartitionsRequest,
    ) -> Reply<DescribeTopicPartitionsResponse> {
        let all = request.topics.is_empty();
        let mut names: Vec<String> = if all {
            let image = ctx.broker.metadata.image();
            image.topics().map(|topic| topic.name.to_string()).collect()
        } else {
            let names = request.topics.iter();
            names.map(|topic| topic.name.to_string()).collect()
        };
        names.sort();
        names.dedup();
        if let Some(cursor) = &request.cursor
            && (cursor.partition_index < 0
                || !(all || names.contains(&cursor.topic_name.to_string())))
        {
            let refused = |name: String| refused(name, ErrorCode::InvalidRequest);
            return Reply::Ready(DescribeTopicPartitionsResponse {
                topics: names.into_iter().map(refused).collect(),
                ..Default::default()
            });
        }
        let mut first = 0;
        if let Some(cursor) = &request.cursor {
            names.retain(|name| **name >= *cursor.topic_name);
            if names
                .first()
                .is_some_and(|name| *name == *cursor.topic_name)
            {
                first = cursor.partition_index.max(0);
            }
        }
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut left = limit.clamp(1, PARTITIONS_MAX);
        let mut response = DescribeTopicPartitionsResponse::default();
        for name in names {
            ctx.give_way().await;
            let from = std::mem::take(&mut first);
            let topic = match resolve_topic(&ctx, None, &name, Operation::Describe) {
                Ok(topic) => topic,
                // A request for all topics is answered with those that the client may see.
                Err(_) if all => continue,
                Err(error) => {
                    response.topics.push(refused(name, error));
                    continue;
                }
            };
            if left == 0 {
                response.next_cursor = Some(cursor(name, from));
                break;
            }
            let described = describe(&ctx, &topic, from, left);
            left = left.saturating_sub(described.partitions.len());
            let next =
                from.saturating_add(i32::try_from(described.partitions.len()).unwrap_or(i32::MAX));
            let whole = usize::try_from(next).is_ok_and(|next| next >= topic.partitions.len());
            response.topics.push(described);
            if !whole {
                response.next_cursor = Some(cursor(name, next));
                break;
            }
        }
        Reply::Ready(response)
    }
}

fn cursor(name: String, partition_index: i32) -> Cursor {
    Cursor {
        topic_name: StrBytes::from(name),
        partition_index,
    }
}

fn refused(name: String, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(StrBytes::from(name)),
        ..Default::default()
    }
}

fn describe(
    ctx: &RequestContext,
    topic: &TopicImage,
    from: i32,
    limit: usize,
) -> DescribeTopicPartitionsResponseTopic {
    // These are the facts that Metadata has too.
    let whole = metadata::describe(ctx, topic, *Metadata::VERSIONS.end(), true);
    let partitions = whole
        .partitions
        .into_iter()
        .filter(|partition| partition.partition_index >= from)
        .take(limit)
        .map(|partition| DescribeTopicPartitionsResponsePartition {
            error_code: ErrorCode::None.code(),
            partition_index: partition.partition_index,
            leader_id: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replica_nodes,
            isr_nodes: partition.isr_nodes,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: partition.offline_replicas,
        });
    DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: whole.name,
        topic_id: whole.topic_id,
        is_internal: whole.is_internal,
        partitions: partitions.collect(),
        topic_authorized_operations: whole.topic_authorized_operations,
    }
}
