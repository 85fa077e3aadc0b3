//! ListPartitionReassignments (key 46), version 0.
//! Source: schema/list_partition_reassignments_request.kmsg; KIP-455;
//! `ReplicationControlManager.listPartitionReassignments`.
//! Behaviour: a reassignment is under way until the leader has handed the partition over. Topics and partitions that do not
//! exist are left out.
//! Deviations from Apache Kafka: none.

use highwater_kraft_meta::TopicImage;
use highwater_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_types::NodeId;

use super::context::RequestContext;
use super::handler::{Handler, Reply, unknown_size};
use crate::auth::{Operation, Resource};
use crate::reassignment::Reassignment;

/// Serves ListPartitionReassignments.
#[derive(Debug)]
pub(crate) struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;

    fn answer_bytes(ctx: &RequestContext, _request: &Self::Request, _elements: usize) -> u64 {
        unknown_size(ctx)
    }

    async fn handle(
        ctx: RequestContext,
        request: ListPartitionReassignmentsRequest,
    ) -> Reply<ListPartitionReassignmentsResponse> {
        if !ctx.authorize(Operation::Describe, Resource::Cluster) {
            return Reply::Ready(refused(request));
        }
        let image = ctx.broker.metadata.image();
        let mut topics = Vec::new();
        match request.topics {
            None => {
                for topic in image.topics() {
                    ctx.give_way().await;
                    topics.extend(described(topic, topic.partition_indexes()));
                }
            }
            Some(asked) => {
                for asked in asked {
                    ctx.give_way().await;
                    let indexes = asked.partition_indexes.into_iter();
                    let topic = image.topic(&asked.name);
                    topics.extend(topic.and_then(|topic| described(topic, indexes)));
                }
            }
        }
        Reply::Ready(ListPartitionReassignmentsResponse {
            error_message: None,
            topics,
            ..Default::default()
        })
    }
}

fn refused(request: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    let topics = request.topics.into_iter().flatten();
    let topics = topics.map(|asked| OngoingTopicReassignment {
        name: asked.name,
        partitions: asked
            .partition_indexes
            .into_iter()
            .map(|partition_index| OngoingPartitionReassignment {
                partition_index,
                ..Default::default()
            })
            .collect(),
    });
    ListPartitionReassignmentsResponse {
        error_code: ErrorCode::ClusterAuthorizationFailed.code(),
        error_message: None,
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Those of the partitions that are being reassigned; `None` if none is.
fn described(
    topic: &TopicImage,
    indexes: impl Iterator<Item = i32>,
) -> Option<OngoingTopicReassignment> {
    let partitions = indexes.filter_map(|partition_index| {
        let reassignment = Reassignment::of(topic.partition(partition_index)?)?;
        Some(OngoingPartitionReassignment {
            partition_index,
            replicas: numbers(&reassignment.replicas),
            adding_replicas: numbers(&reassignment.adding),
            removing_replicas: numbers(&reassignment.removing),
        })
    });
    let partitions: Vec<_> = partitions.collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: StrBytes::from(&*topic.name),
        partitions,
    })
}

fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}
