//! OffsetCommit (key 8), versions 2..=10.
//! Source: schema/offset_commit_request.kmsg; KIP-211, KIP-320, KIP-848.
//! Behaviour: KAFKA-BEHAVIOUR 24; the request is answered when the offsets are durable.
//! Deviations from Apache Kafka: static members (KIP-345) are answered UNSUPPORTED_VERSION, as by Kafka before 2.3.

use std::sync::Arc;

use highwater_coordinator::{Commit, OffsetCommit as Offset};
use highwater_kraft_meta::TopicImage;
use highwater_protocol::messages::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use highwater_protocol::{ApiKey, ErrorCode};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use super::topic::resolve_topic;
use crate::auth::{Operation, Resource};

/// Serves OffsetCommit.
#[derive(Debug)]
pub(crate) struct OffsetCommit;

impl Handler for OffsetCommit {
    type Request = OffsetCommitRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 2..=10;

    async fn handle(
        ctx: RequestContext,
        request: OffsetCommitRequest,
    ) -> Reply<OffsetCommitResponse> {
        let refused = if !ctx.authorize(Operation::Read, Resource::Group(&request.group_id)) {
            Some(ErrorCode::GroupAuthorizationFailed)
        } else if request.group_instance_id.is_some() {
            Some(ErrorCode::UnsupportedVersion)
        } else {
            None
        };
        let mut response = OffsetCommitResponse::default();
        let mut commits = Vec::new();
        for topic in &request.topics {
            let checked = match refused {
                Some(error) => Err(error),
                None => check(&ctx, topic),
            };
            let mut answer = OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: Vec::with_capacity(topic.partitions.len()),
            };
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let checked = checked.as_ref().map_err(|error| *error);
                let checked = checked.and_then(|topic| has_partition(&ctx, topic, index));
                ctx.give_way().await;
                answer.partitions.push(OffsetCommitResponsePartition {
                    partition_index: index,
                    error_code: checked.err().map_or(0, |error| error.code()),
                });
                if let Ok(topic) = checked {
                    let metadata = partition.committed_metadata.as_deref();
                    commits.push(Offset {
                        topic: topic.name.to_string(),
                        topic_id: topic.id,
                        partition: index,
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: metadata.unwrap_or_default().to_owned(),
                        retention_ms: request.retention_time_ms,
                    });
                }
            }
            response.topics.push(answer);
        }
        let count = commits.len();
        let errors = if refused.is_some() || (count == 0 && !request.topics.is_empty()) {
            Vec::new()
        } else {
            commit(&ctx, &request, commits)
                .await
                .unwrap_or_else(|error| vec![error; count])
        };
        let answers = response
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
            .filter(|partition| partition.error_code == 0);
        for (answer, error) in answers.zip(errors) {
            answer.error_code = error.code();
        }
        Reply::Ready(response)
    }
}

/// The topic, if its offsets may be committed.
fn check(
    ctx: &RequestContext,
    topic: &OffsetCommitRequestTopic,
) -> Result<Arc<TopicImage>, ErrorCode> {
    let id = (ctx.version >= 10).then_some(topic.topic_id);
    resolve_topic(ctx, id, &topic.name, Operation::Read)
}

/// Passes the topic on if it has the partition. From version 10 on, which names topics by id, Kafka accepts any
/// partition.
fn has_partition<'a>(
    ctx: &RequestContext,
    topic: &'a TopicImage,
    index: i32,
) -> Result<&'a TopicImage, ErrorCode> {
    if topic.partition(index).is_some() || ctx.version >= 10 {
        Ok(topic)
    } else {
        Err(ErrorCode::UnknownTopicOrPartition)
    }
}

async fn commit(
    ctx: &RequestContext,
    request: &OffsetCommitRequest,
    offsets: Vec<Offset>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let commit = Commit {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        offsets,
    };
    let committed = ctx.broker.groups.call(
        &ctx.broker,
        ApiKey::OffsetCommit,
        &request.group_id,
        move |shard, effects, now| shard.commit(commit, now, effects),
    );
    match committed.await? {
        // Clients below version 9 do not know that code (KIP-848).
        Err(ErrorCode::GroupIdNotFound) if ctx.version < 9 => Err(ErrorCode::IllegalGeneration),
        other => other,
    }
}
