//! Metadata (key 3), versions 0..=13.
//! Source: schema/metadata_request.kmsg; KIP-430, KIP-516, KIP-700, KIP-1102.
//! Behaviour: KAFKA-BEHAVIOUR 6, 7; topics are created on first use if that is enabled and allowed. The
//! response names the live brokers that have an endpoint on the client's listener (`KRaftMetadataCache`).
//! Deviations from Apache Kafka: none.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_kraft_meta::{PartitionImage, TopicImage};
use highwater_protocol::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_protocol::{ErrorCode, StrBytes};

use highwater_types::{NodeId, TopicId};
use tokio::time::Instant;

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, element_bytes};
use super::topic::{resolve_topic, wait_created};
use crate::auth::{Operation, Resource};
use crate::cluster::{BrokerEndpoint, Cluster, NO_BROKER};
use crate::topics::{CLUSTER_METADATA, CREATION_DEADLINE, on_first_use};

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
                // A topic that is named twice is described once.
                let most: usize = image.topics().map(partitions).sum();
                topics.iter().map(one).sum::<usize>().min(most)
            }
            _ => {
                let one = |topic| partitions(topic).saturating_add(1);
                image.topics().map(one).sum()
            }
        };
        element_bytes(elements.saturating_add(told))
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
                    topics.push(describe(&ctx, topic, ctx.version, asks_operations));
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
        let named = request.topics.into_iter().flatten();
        let named = find_all(&ctx, named, creates).await;
        topics.extend(named.into_iter().map(|(asked, found)| match found {
            Ok(topic) => describe(&ctx, &topic, ctx.version, asks_operations),
            Err(refusal) => MetadataResponseTopic {
                error_code: refusal.code.code(),
                name: asked.name,
                topic_id: asked.topic_id,
                ..Default::default()
            },
        }));
        let cluster_operations = request.include_cluster_authorized_operations;
        let cluster = ctx.broker.cluster();
        let brokers = cluster.live_brokers(&ctx.connection.listener);
        Reply::Ready(MetadataResponse {
            brokers: brokers.map(told_broker).collect(),
            cluster_id: Some(StrBytes::from(cluster.id().to_string())),
            controller_id: cluster.controller().0,
            topics,
            cluster_authorized_operations: ctx
                .authorized_operations(cluster_operations, Resource::Cluster),
            ..Default::default()
        })
    }
}

/// Versions 10 and 11 have a field for ids that must not be used (KAFKA-12702): each topic in it is refused, and none
/// is described.
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

fn told_broker(broker: BrokerEndpoint) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id: broker.id.0,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
    }
}

type Found = Result<Arc<TopicImage>, Refusal>;

/// Finds each of the topics once, and creates those that are missing if that is asked for. The leaders of all new topics
/// come in few commands, so they are waited for together.
async fn find_all(
    ctx: &RequestContext,
    asked: impl Iterator<Item = MetadataRequestTopic>,
    creates: bool,
) -> Vec<(MetadataRequestTopic, Found)> {
    let deadline = Instant::now() + CREATION_DEADLINE;
    let mut told = BTreeSet::new();
    let (mut all, mut new) = (Vec::new(), Vec::<usize>::new());
    for asked in asked {
        ctx.give_way().await;
        if !told.insert((asked.name.clone(), asked.topic_id)) {
            continue;
        }
        let found = match find(ctx, &asked) {
            Ok(None) if creates => {
                let name = asked.name.as_deref().unwrap_or_default();
                let created = create(ctx, name, deadline).await;
                new.extend(created.is_ok().then_some(all.len()));
                created
            }
            Ok(None) => Err(ErrorCode::UnknownTopicOrPartition.into()),
            Ok(Some(topic)) => Ok(topic),
            Err(refusal) => Err(refusal),
        };
        all.push((asked, found));
    }
    let created = new.iter().filter_map(|at| {
        let topic = all[*at].1.as_ref().ok()?;
        Some((topic.id, topic.partition_indexes()))
    });
    let created: Vec<_> = created.collect();
    wait_created(ctx, created, deadline).await;
    for at in new {
        if let Some((_, Ok(topic))) = all.get_mut(at)
            && let Some(led) = ctx.broker.topic_by_id(topic.id)
        {
            *topic = led;
        }
    }
    all
}

/// Finds a topic; `None` if it does not exist and may be created.
fn find(
    ctx: &RequestContext,
    asked: &MetadataRequestTopic,
) -> Result<Option<Arc<TopicImage>>, Refusal> {
    let id = asked.name.is_none().then_some(asked.topic_id);
    let name = asked.name.as_deref().unwrap_or_default();
    match resolve_topic(ctx, id, name, Operation::Describe) {
        Ok(topic) => return Ok(Some(topic)),
        // The answer does not reveal that a topic of that id exists.
        Err(_) if id.is_some() => return Err(ErrorCode::UnknownTopicId.into()),
        Err(ErrorCode::UnknownTopicOrPartition) => {}
        Err(refused) => return Err(refused.into()),
    }
    crate::topics::check_name(name)?;
    match name == CLUSTER_METADATA {
        true => Err(ErrorCode::UnknownTopicOrPartition.into()),
        false => Ok(None),
    }
}

async fn create(ctx: &RequestContext, name: &str, deadline: Instant) -> Found {
    let may_create = ctx.authorize(Operation::Create, Resource::Cluster)
        || ctx.authorize(Operation::Create, Resource::Topic(name));
    if !may_create {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    let new = on_first_use(name, &ctx.broker.config);
    match ctx.broker.add_topic(new, deadline).await {
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {
            Ok(resolve_topic(ctx, None, name, Operation::Describe)?)
        }
        created => created,
    }
}

/// Describes a topic as a version of the response does.
pub(super) fn describe(
    ctx: &RequestContext,
    topic: &TopicImage,
    version: i16,
    asks_operations: bool,
) -> MetadataResponseTopic {
    let cluster = ctx.broker.cluster();
    let listener = &*ctx.connection.listener;
    let numbered = topic.partition_indexes().zip(&topic.partitions);
    let partitions = numbered.map(|(index, partition)| MetadataResponsePartition {
        partition_index: index,
        ..described_partition(&cluster, partition, listener, version)
    });
    let resource = Resource::Topic(&topic.name);
    MetadataResponseTopic {
        error_code: 0,
        name: Some(StrBytes::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: ctx.authorized_operations(asks_operations, resource),
    }
}

/// Describes a partition as the clients of a listener see it. Version 0 leaves out the replicas that they can't reach,
/// with an error that says so. Up to version 5 a leader without an endpoint on that listener counts as none.
fn described_partition(
    cluster: &Cluster,
    partition: &PartitionImage,
    listener: &str,
    version: i16,
) -> MetadataResponsePartition {
    let is_reachable = |id: &NodeId| cluster.is_reachable(*id, listener);
    let leader = cluster.leader(partition);
    let told_leader = leader.filter(is_reachable);
    let replicas = cluster.replicas(partition);
    let offline = replicas.iter().filter(|id| !is_reachable(id));
    let offline = numbers(offline);
    let code = match (leader, told_leader) {
        (_, Some(_)) if version == 0 && !offline.is_empty() => ErrorCode::ReplicaNotAvailable,
        (_, Some(_)) => ErrorCode::None,
        (Some(_), None) if version >= 6 => ErrorCode::ListenerNotFound,
        (_, None) => ErrorCode::LeaderNotAvailable,
    };
    let is_told = |id: &&NodeId| version > 0 || is_reachable(id);
    MetadataResponsePartition {
        error_code: code.code(),
        leader_id: told_leader.unwrap_or(NO_BROKER).0,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: numbers(replicas.iter().filter(is_told)),
        isr_nodes: numbers(cluster.in_sync(partition).iter().filter(is_told)),
        offline_replicas: offline,
        ..Default::default()
    }
}

fn numbers<'a>(ids: impl Iterator<Item = &'a NodeId>) -> Vec<i32> {
    ids.map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ImageBuilder;

    // Kafka's `KRaftMetadataCache.getPartitionMetadata`
    #[test]
    fn a_partition_is_told_as_the_clients_of_the_listener_see_it() {
        let mut images = ImageBuilder::default();
        images.register(1, &[("A", "one", 1), ("B", "one", 2)]);
        images.register(2, &[("A", "two", 1)]);
        images.register(3, &[("A", "three", 1), ("B", "three", 2)]);
        images.create("t", &[&[2, 1, 3]]);
        let told = |images: &ImageBuilder, listener, version| {
            let cluster = Cluster::new(images.image(), NodeId(1));
            let topic = images.topic("t");
            let told = described_partition(&cluster, &topic.partitions[0], listener, version);
            let code = ErrorCode::from_code(told.error_code);
            let lists = [told.replica_nodes, told.isr_nodes, told.offline_replicas];
            (code, told.leader_id, lists)
        };
        let (all, of_b) = (vec![2, 1, 3], vec![1, 3]);
        let lists = |offline: &[i32]| [all.clone(), all.clone(), offline.to_vec()];
        let none = Some(ErrorCode::None);
        assert_eq!(told(&images, "A", 13), (none, 2, lists(&[])));
        assert_eq!(told(&images, "A", 0), (none, 2, lists(&[])));
        let not_found = Some(ErrorCode::ListenerNotFound);
        assert_eq!(told(&images, "B", 6), (not_found, -1, lists(&[2])));
        let not_available = Some(ErrorCode::LeaderNotAvailable);
        assert_eq!(told(&images, "B", 5), (not_available, -1, lists(&[2])));
        let only_of_b = [of_b.clone(), of_b, vec![2]];
        assert_eq!(told(&images, "B", 0), (not_available, -1, only_of_b));
        images.fence(3);
        let without_3 = |replicas: &[i32]| [replicas.to_vec(), vec![2, 1], vec![3]];
        assert_eq!(told(&images, "A", 13), (none, 2, without_3(&[2, 1, 3])));
        let some_missing = Some(ErrorCode::ReplicaNotAvailable);
        assert_eq!(told(&images, "A", 0), (some_missing, 2, without_3(&[2, 1])));
        images.fence(2);
        let (code, leader, _) = told(&images, "A", 13);
        assert_eq!((code, leader), (not_available, -1));
    }
}
