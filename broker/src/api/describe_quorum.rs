//! DescribeQuorum (key 55), versions 0..=2.
//! Source: schema/describe_quorum_request.kmsg; KIP-595, KIP-836, KIP-853; KafkaRaftClient#handleDescribeQuorumRequest.
//! Behaviour: as of Kafka's broker, which asks the active controller. The brokers that are no controllers are the
//! observers, and controllers without a vote.
//! Deviations from Apache Kafka: a voter that lacks entries has no time at which it was caught up last (-1).

use highwater_kraft_meta::{Endpoint, MetadataStore, QuorumState, ReplicaState};
use highwater_protocol::messages::describe_quorum_request::{
    PartitionData as AskedPartition, TopicData as AskedTopic,
};
use highwater_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState as Replica, TopicData,
};
use highwater_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use highwater_protocol::{ErrorCode, StrBytes};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves DescribeQuorum.
#[derive(Debug)]
pub(crate) struct DescribeQuorum;

/// Kafka's name for the metadata, which has one partition.
const METADATA: &str = "__cluster_metadata";

impl Handler for DescribeQuorum {
    type Request = DescribeQuorumRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;

    async fn handle(
        ctx: RequestContext,
        request: DescribeQuorumRequest,
    ) -> Reply<DescribeQuorumResponse> {
        if !ctx.authorize(Operation::Describe, Resource::Cluster) {
            return Reply::Ready(refused(ErrorCode::ClusterAuthorizationFailed, None));
        }
        let now_ms = ctx.broker.clock.now_ms();
        Reply::Ready(describe(&*ctx.broker.metadata, now_ms, request).await)
    }
}

/// Describes the quorum by its active controller.
pub(crate) async fn describe(
    metadata: &dyn MetadataStore,
    now_ms: i64,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if !is_metadata(&request.topics) {
        return DescribeQuorumResponse {
            topics: request.topics.into_iter().map(unknown).collect(),
            ..Default::default()
        };
    }
    match metadata.quorum().await {
        Ok(quorum) => described(&quorum, now_ms),
        Err(why) => unavailable(&why),
    }
}

/// The answer while there is no active controller.
pub(crate) fn unavailable(why: &str) -> DescribeQuorumResponse {
    refused(ErrorCode::RequestTimedOut, Some(why.to_owned()))
}

/// Whether the request is for the metadata alone, as Kafka asks of it.
fn is_metadata(topics: &[AskedTopic]) -> bool {
    match topics {
        [topic] => {
            let is_first = |partition: &AskedPartition| partition.partition_index == 0;
            &*topic.topic_name == METADATA
                && matches!(&topic.partitions[..], [partition] if is_first(partition))
        }
        _ => false,
    }
}

fn refused(code: ErrorCode, why: Option<String>) -> DescribeQuorumResponse {
    DescribeQuorumResponse {
        error_code: code.code(),
        error_message: why.map(StrBytes::from),
        ..Default::default()
    }
}

fn unknown(topic: AskedTopic) -> TopicData {
    let partitions = topic.partitions.into_iter();
    let partitions = partitions.map(|partition| PartitionData {
        partition_index: partition.partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        error_message: Some("This server does not host this topic-partition.".into()),
        ..Default::default()
    });
    TopicData {
        topic_name: topic.topic_name,
        partitions: partitions.collect(),
    }
}

fn described(quorum: &QuorumState, now_ms: i64) -> DescribeQuorumResponse {
    let replicas = |states: &[ReplicaState]| {
        let states = states.iter();
        states.map(|state| replica(state, now_ms)).collect()
    };
    let partition = PartitionData {
        partition_index: 0,
        leader_id: quorum.leader.0,
        leader_epoch: i32::try_from(quorum.term.0).unwrap_or(i32::MAX),
        high_watermark: offset(quorum.committed_end),
        current_voters: replicas(&quorum.voters),
        observers: replicas(&quorum.observers),
        ..Default::default()
    };
    let listener = |endpoint: &Endpoint| Listener {
        name: StrBytes::from(endpoint.listener.clone()),
        host: StrBytes::from(endpoint.host.clone()),
        port: u16::try_from(endpoint.port).unwrap_or_default(),
    };
    // as in Kafka, the nodes are the voters
    let nodes = quorum.voters.iter().map(|voter| Node {
        node_id: voter.node.0,
        listeners: voter.endpoints.iter().map(listener).collect(),
    });
    DescribeQuorumResponse {
        topics: vec![TopicData {
            topic_name: StrBytes::from(METADATA),
            partitions: vec![partition],
        }],
        nodes: nodes.collect(),
        ..Default::default()
    }
}

fn replica(state: &ReplicaState, now_ms: i64) -> Replica {
    let heard = state.heard_before.map(|before| {
        let before_ms = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
        now_ms.saturating_sub(before_ms)
    });
    Replica {
        replica_id: state.node.0,
        replica_directory_id: state.directory,
        log_end_offset: state.log_end.map_or(-1, offset),
        last_fetch_timestamp: heard.unwrap_or(-1),
        last_caught_up_timestamp: heard.filter(|_| state.is_caught_up).unwrap_or(-1),
    }
}

/// An index of the log as an offset of Kafka's.
fn offset(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
