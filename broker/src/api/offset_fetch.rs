//! OffsetFetch (key 9), versions 1..=10.
//! Source: schema/offset_fetch_request.kmsg; KIP-447, KIP-709, KIP-848.
//! Behaviour: KAFKA-BEHAVIOUR 24.
//! Deviations from Apache Kafka: a broker that is cut off answers NOT_COORDINATOR where it knows of no offset
//! (DESIGN 6); there are no transactional offsets for which `require_stable` could wait.

use std::collections::{BTreeMap, BTreeSet};

use highwater_coordinator::CommittedOffset;
use highwater_protocol::messages::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use highwater_protocol::{ApiKey, ErrorCode, StrBytes};
use highwater_types::TopicId;

use super::context::RequestContext;
use super::handler::{Handler, Reply, element_bytes, unknown_size};
use super::topic::resolve_topic;
use crate::auth::{Operation, Resource};

/// Serves OffsetFetch.
#[derive(Debug)]
pub(crate) struct OffsetFetch;

impl Handler for OffsetFetch {
    type Request = OffsetFetchRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=10;

    fn answer_bytes(ctx: &RequestContext, request: &Self::Request, elements: usize) -> u64 {
        let mut groups = request.groups.iter();
        let asks_all = match ctx.version >= 8 {
            true => groups.any(|group| group.topics.is_none()),
            false => request.topics.is_none(),
        };
        let all = if asks_all { unknown_size(ctx) } else { 0 };
        element_bytes(elements).saturating_add(all)
    }

    async fn handle(
        ctx: RequestContext,
        mut request: OffsetFetchRequest,
    ) -> Reply<OffsetFetchResponse> {
        if ctx.version >= 8 {
            let mut response = OffsetFetchResponse::default();
            let mut told = BTreeSet::new();
            for group in std::mem::take(&mut request.groups) {
                ctx.give_way().await;
                if group.topics.is_none() && !told.insert(group.group_id.clone()) {
                    continue;
                }
                response.groups.push(fetch(&ctx, group).await);
            }
            return Reply::Ready(response);
        }
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..Default::default()
            });
            topics.collect()
        });
        let group = OffsetFetchRequestGroup {
            group_id: request.group_id,
            topics,
            ..Default::default()
        };
        Reply::Ready(flat(&ctx, fetch(&ctx, group).await))
    }
}

/// The answer in versions 1 to 7, which have one group; version 1 repeats an error in each partition.
fn flat(ctx: &RequestContext, group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let error_code = group.error_code;
    let of_partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: if ctx.version < 2 && error_code != 0 {
            error_code
        } else {
            partition.error_code
        },
    };
    let topics = group
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(of_partition).collect(),
        });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code,
        ..Default::default()
    }
}

async fn fetch(ctx: &RequestContext, group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let mut response = OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        ..Default::default()
    };
    let topics = match find(ctx, &group).await {
        Ok(topics) => topics,
        Err(error) => {
            response.error_code = error.code();
            if ctx.version < 2 {
                response.topics = group
                    .topics
                    .unwrap_or_default()
                    .into_iter()
                    .map(|topic| failed(topic, error))
                    .collect();
            }
            return response;
        }
    };
    response.topics = topics;
    response
}

async fn find(
    ctx: &RequestContext,
    group: &OffsetFetchRequestGroup,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    if !ctx.authorize(Operation::Describe, Resource::Group(&group.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let Some(topics) = &group.topics else {
        return all(ctx, &group.group_id).await;
    };
    let mut answers = Vec::with_capacity(topics.len());
    let mut wanted = Vec::new();
    for topic in topics {
        ctx.give_way().await;
        match identify(ctx, topic) {
            Ok((name, topic_id)) => {
                let indexes = topic.partition_indexes.clone();
                wanted.push((name, topic_id, indexes));
                answers.push(Ok(topic));
            }
            Err(error) => answers.push(Err(failed(topic.clone(), error))),
        }
    }
    let id = group.group_id.to_string();
    let asked = ctx.broker.groups.read(
        &ctx.broker,
        ApiKey::OffsetFetch,
        &group.group_id,
        move |shard| {
            let mut found = Vec::new();
            for (name, topic_id, indexes) in &wanted {
                let topic = (&**name, *topic_id);
                found.extend(indexes.iter().map(|index| shard.offset(&id, topic, *index)));
            }
            found
        },
    );
    let found = asked.await?;
    check_known(ctx, found.iter().all(Option::is_some))?;
    let mut found = found.into_iter();
    let answers = answers.into_iter().map(|answer| match answer {
        Err(failed) => failed,
        Ok(topic) => OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| committed(*index, found.next().flatten()))
                .collect(),
        },
    });
    Ok(answers.collect())
}

/// A broker that is cut off may have been replaced as the coordinator, and must not say that there is no offset: the
/// client would reset its position.
fn check_known(ctx: &RequestContext, is_known: bool) -> Result<(), ErrorCode> {
    match !is_known && ctx.broker.is_cut_off() {
        true => Err(ErrorCode::NotCoordinator),
        false => Ok(()),
    }
}

/// The name of a topic, and its id if it exists, if the client may see its offsets.
fn identify(
    ctx: &RequestContext,
    topic: &OffsetFetchRequestTopics,
) -> Result<(StrBytes, TopicId), ErrorCode> {
    let id = (ctx.version >= 10).then_some(topic.topic_id);
    match resolve_topic(ctx, id, &topic.name, Operation::Describe) {
        Ok(found) => Ok((StrBytes::from(&*found.name), found.id)),
        Err(ErrorCode::UnknownTopicOrPartition) => Ok((topic.name.clone(), TopicId::ZERO)),
        Err(refused) => Err(refused),
    }
}

fn id_of(ctx: &RequestContext, name: &str) -> TopicId {
    let topic = ctx.broker.topic(name);
    topic.map_or(TopicId::ZERO, |topic| topic.id)
}

/// Every offset of a group that the client may see.
async fn all(
    ctx: &RequestContext,
    group: &StrBytes,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    let id = group.to_string();
    let asked = ctx
        .broker
        .groups
        .read(&ctx.broker, ApiKey::OffsetFetch, group, move |shard| {
            shard.offsets(&id)
        });
    let mut topics: BTreeMap<String, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    let found = asked.await?;
    check_known(ctx, !found.is_empty())?;
    for (topic, partition, offset) in found {
        ctx.give_way().await;
        let is_of = offset.is_of(id_of(ctx, &topic));
        if is_of && ctx.authorize(Operation::Describe, Resource::Topic(&topic)) {
            let partitions = topics.entry(topic).or_default();
            partitions.push(committed(partition, Some(offset)));
        }
    }
    let topics = topics.into_iter().filter_map(|(name, partitions)| {
        let topic_id = ctx.broker.topic(&name).map(|topic| topic.id);
        let topic_id = match topic_id {
            None if ctx.version >= 10 => return None,
            other => other.unwrap_or(TopicId::default()),
        };
        Some(OffsetFetchResponseTopics {
            name: StrBytes::from(name),
            topic_id,
            partitions,
        })
    });
    Ok(topics.collect())
}

fn committed(index: i32, offset: Option<CommittedOffset>) -> OffsetFetchResponsePartitions {
    match offset {
        Some(offset) => OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            metadata: Some(StrBytes::from(offset.metadata)),
            error_code: 0,
        },
        None => none(index, ErrorCode::None),
    }
}

fn none(index: i32, error: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(StrBytes::default()),
        error_code: error.code(),
    }
}

fn failed(topic: OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    OffsetFetchResponseTopics {
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| none(*index, error))
            .collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    }
}
