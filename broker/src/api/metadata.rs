//! Metadata (key 3), versions 0..=13.
//! Source: schema/metadata_request.kmsg; KIP-430, KIP-516, KIP-700, KIP-1102.
//! Behaviour: KAFKA-BEHAVIOUR 6, 7; topics are created on first use where that is enabled and allowed.
//! Deviations from Apache Kafka: none.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_kraft_meta::TopicImage;
use highwater_protocol::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_protocol::{ErrorCode, StrBytes};

use highwater_types::TopicId;

use super::error::Refusal;
use super::topic::resolve_topic;
use super::{Handler, Reply, RequestContext, of_elements};
use crate::auth::{Operation, Resource};
use crate::topics::{CLUSTER_METADATA, on_first_use};

/// Serves Metadata.
#[derive(Debug)]
pub(crate) struct Metadata;

impl Handler for Metadata {
    type Request = MetadataRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=13;

    fn answer_bytes(ctx: &RequestContext, request: &Self::Request, elements: usize) -> u64 {
        let image = ctx.broker.metadata.image();
        let partitions = |topic: &Arc<TopicImage>| topic.partitions.len();
        let told: usize = match &request.topics {
            Some(topics) if ctx.version > 0 || !topics.is_empty() => {
                let one = |asked: &MetadataRequestTopic| match &asked.name {
                    Some(name) => image.topic(name).map_or(0, partitions),
                    None => image.topic_by_id(asked.topic_id).map_or(0, partitions),
                };
                // a topic named twice is told of once
                let most: usize = image.topics().map(partitions).sum();
                topics.iter().map(one).sum::<usize>().min(most)
            }
            _ => {
                let one = |topic| partitions(topic).saturating_add(1);
                image.topics().map(one).sum()
            }
        };
        of_elements(elements.saturating_add(told))
    }

    async fn handle(ctx: RequestContext, request: MetadataRequest) -> Reply<MetadataResponse> {
        let asks_operations = request.include_topic_authorized_operations;
        let all = match &request.topics {
            None => true,
            Some(topics) => ctx.version == 0 && topics.is_empty(),
        };
        let mut topics = Vec::new();
        if all {
            let image = ctx.broker.metadata.image();
            for topic in image.topics() {
                ctx.give_way().await;
                if ctx.authorize(Operation::Describe, Resource::Topic(&topic.name)) {
                    topics.push(describe(&ctx, topic, asks_operations));
                }
            }
        }
        let creates = request.allow_auto_topic_creation
            && ctx.broker.config.bool("auto.create.topics.enable");
        let by_id =
            |topic: &MetadataRequestTopic| topic.name.is_none() || topic.topic_id != TopicId::ZERO;
        if (10..12).contains(&ctx.version) && request.topics.iter().flatten().any(by_id) {
            return Reply::Ready(without_ids(request));
        }
        let mut told = BTreeSet::new();
        for asked in request.topics.into_iter().flatten() {
            ctx.give_way().await;
            if !told.insert((asked.name.clone(), asked.topic_id)) {
                continue;
            }
            let found = find(&ctx, &asked, creates, asks_operations).await;
            topics.push(found.unwrap_or_else(|refusal| MetadataResponseTopic {
                error_code: refusal.code.code(),
                name: asked.name,
                topic_id: asked.topic_id,
                ..Default::default()
            }));
        }
        let cluster_operations = request.include_cluster_authorized_operations;
        Reply::Ready(MetadataResponse {
            brokers: brokers(&ctx),
            cluster_id: Some(StrBytes::from(
                ctx.broker.metadata.image().cluster().to_string(),
            )),
            controller_id: ctx.broker.config.node_id.0,
            topics,
            cluster_authorized_operations: ctx
                .authorized_operations(cluster_operations, Resource::Cluster),
            ..Default::default()
        })
    }
}

/// Versions 10 and 11 have a place for ids, and may not use it (KAFKA-12702): each topic is refused, and nothing told.
fn without_ids(request: MetadataRequest) -> MetadataResponse {
    let refused = |asked: MetadataRequestTopic| MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(asked.name.unwrap_or_default()),
        topic_id: asked.topic_id,
        ..Default::default()
    };
    MetadataResponse {
        topics: request.topics.into_iter().flatten().map(refused).collect(),
        ..Default::default()
    }
}

fn brokers(ctx: &RequestContext) -> Vec<MetadataResponseBroker> {
    let (host, port) = ctx.broker.address(&ctx.connection.listener);
    vec![MetadataResponseBroker {
        node_id: ctx.broker.config.node_id.0,
        host,
        port,
        ..Default::default()
    }]
}

async fn find(
    ctx: &RequestContext,
    asked: &MetadataRequestTopic,
    creates: bool,
    asks_operations: bool,
) -> Result<MetadataResponseTopic, Refusal> {
    let id = asked.name.is_none().then_some(asked.topic_id);
    let name = asked.name.as_deref().unwrap_or_default();
    match resolve_topic(ctx, id, name, Operation::Describe) {
        Ok(topic) => return Ok(describe(ctx, &topic, asks_operations)),
        // that there is a topic of that id is not told
        Err(_) if id.is_some() => return Err(ErrorCode::UnknownTopicId.into()),
        Err(ErrorCode::UnknownTopicOrPartition) => {}
        Err(refused) => return Err(refused.into()),
    }
    crate::topics::check_name(name)?;
    if !creates || name == CLUSTER_METADATA {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    }
    let may_create = ctx.authorize(Operation::Create, Resource::Cluster)
        || ctx.authorize(Operation::Create, Resource::Topic(name));
    if !may_create {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    let new = on_first_use(name, &ctx.broker.config);
    match ctx.broker.create_topic(new).await {
        Ok(topic) => Ok(describe(ctx, &topic, asks_operations)),
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {
            let topic = resolve_topic(ctx, None, name, Operation::Describe)?;
            Ok(describe(ctx, &topic, asks_operations))
        }
        Err(refusal) => Err(refusal),
    }
}

pub(super) fn describe(
    ctx: &RequestContext,
    topic: &TopicImage,
    asks_operations: bool,
) -> MetadataResponseTopic {
    let image = ctx.broker.metadata.image();
    let partition = |(index, partition): (i32, &highwater_kraft_meta::PartitionImage)| {
        let replicas: Vec<i32> = partition.replicas.iter().map(|node| node.0).collect();
        let (isr, offline): (Vec<i32>, Vec<i32>) = replicas
            .iter()
            .partition(|id| image.nodes().any(|(node, _)| node.0 == **id));
        let leader = partition.leader.map(|(node, _)| node.0);
        let code = if leader.is_some() {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        };
        MetadataResponsePartition {
            error_code: code.code(),
            partition_index: index,
            leader_id: leader.unwrap_or(-1),
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: replicas,
            isr_nodes: isr,
            offline_replicas: offline,
        }
    };
    let resource = Resource::Topic(&topic.name);
    MetadataResponseTopic {
        error_code: 0,
        name: Some(StrBytes::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: topic
            .partition_indexes()
            .zip(&topic.partitions)
            .map(partition)
            .collect(),
        topic_authorized_operations: ctx.authorized_operations(asks_operations, resource),
    }
}
