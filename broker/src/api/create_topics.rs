//! CreateTopics (key 19), versions 2..=7.
//! Source: schema/create_topics_request.kmsg; KIP-464, KIP-525, KIP-516.
//! Behaviour: KAFKA-BEHAVIOUR 8; the request is answered when this node's image has the topics with leaders (E4), and the
//! partitions that it leads are open. If no broker serves within the request's timeout, the topics exist without leaders.
//! Deviations from Apache Kafka: none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_kraft_meta::TopicImage;
use highwater_kraft_meta::command::Replicas;
use highwater_protocol::messages::create_topics_request::CreatableTopic;
use highwater_protocol::messages::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_types::TopicId;
use tokio::time::Instant;

use super::alter_configs::twice;
use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, deadline_of};
use super::topic::wait_created;
use crate::auth::{Operation, Resource};
use crate::topic_configs::TOPIC_KEYS;
use crate::topics::NewTopic;

/// Serves CreateTopics.
#[derive(Debug)]
pub(crate) struct CreateTopics;

impl Handler for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 2..=7;

    async fn handle(
        ctx: RequestContext,
        request: CreateTopicsRequest,
    ) -> Reply<CreateTopicsResponse> {
        let mut response = CreateTopicsResponse::default();
        let twice = twice(request.topics.iter().map(|topic| topic.name.clone()));
        let mut told = BTreeSet::new();
        let deadline = deadline_of(request.timeout_ms);
        let mut created_topics = Vec::new();
        for topic in request.topics {
            ctx.give_way().await;
            let name = topic.name.clone();
            let is_twice = twice.contains(&name);
            if is_twice && !told.insert(name.clone()) {
                continue;
            }
            let created = if is_twice {
                Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    "Duplicate topic name.",
                ))
            } else if Instant::now() >= deadline {
                // As in Kafka, whose controller begins nothing after its deadline.
                Err(ErrorCode::RequestTimedOut.into())
            } else {
                create(&ctx, topic, request.validate_only, deadline).await
            };
            let answer = created.map(|(answer, created)| {
                created_topics.extend(created.map(|topic| (topic.id, topic.partition_indexes())));
                answer
            });
            response
                .topics
                .push(answer.unwrap_or_else(|refusal| CreatableTopicResult {
                    name,
                    error_code: refusal.code.code(),
                    error_message: refusal.text(),
                    configs: Some(Vec::new()),
                    ..Default::default()
                }));
        }
        wait_created(&ctx, created_topics, deadline).await;
        Reply::Ready(response)
    }
}

/// Creates a topic, unless it is only to be checked; returns what is told of it.
async fn create(
    ctx: &RequestContext,
    topic: CreatableTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<(CreatableTopicResult, Option<Arc<TopicImage>>), Refusal> {
    let allowed = ctx.authorize(Operation::Create, Resource::Cluster)
        || ctx.authorize(Operation::Create, Resource::Topic(&topic.name));
    if !allowed {
        return Err(Refusal::new(
            ErrorCode::TopicAuthorizationFailed,
            "Authorization failed.",
        ));
    }
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let name = config.name.to_string();
        let null = || {
            Refusal::new(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {name}"),
            )
        };
        let value = config.value.as_ref().ok_or_else(null)?.to_string();
        configs.insert(name, value);
    }
    let mut assignments = BTreeMap::new();
    for one in topic.assignments {
        let index = one.partition_index;
        if assignments.insert(index, one.broker_ids).is_some() {
            let why = format!("Found multiple manual partition assignments for partition {index}");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        }
    }
    let new = NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs: configs.clone(),
    };
    let plan = ctx.broker.plan_topic(&new)?;
    let created = match validate_only {
        true => None,
        false => Some(ctx.broker.add_topic(new, deadline).await?),
    };
    let id = created.as_ref().map_or(TopicId::ZERO, |topic| topic.id);
    Ok((result(ctx, topic.name, id, &plan, &configs), created))
}

fn result(
    ctx: &RequestContext,
    name: StrBytes,
    topic_id: TopicId,
    plan: &[Replicas],
    own: &BTreeMap<String, String>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult {
        name,
        topic_id,
        error_message: None,
        ..Default::default()
    };
    if !ctx.authorize(Operation::DescribeConfigs, Resource::Topic(&result.name)) {
        result.topic_config_error_code = ErrorCode::TopicAuthorizationFailed.code();
        result.configs = None;
        return result;
    }
    result.num_partitions = i32::try_from(plan.len()).unwrap_or(i32::MAX);
    let factor = plan.first().map_or(0, |replicas| replicas.nodes.len());
    result.replication_factor = i16::try_from(factor).unwrap_or(i16::MAX);
    let config = |key: &crate::topic_configs::TopicKey| {
        let origin = key.origins(own, &ctx.broker.config).swap_remove(0);
        CreatableTopicConfigs {
            name: StrBytes::from_static(key.name),
            value: Some(StrBytes::from(origin.value)),
            read_only: false,
            config_source: origin.source as i8,
            is_sensitive: false,
        }
    };
    result.configs = Some(TOPIC_KEYS.iter().map(config).collect());
    result
}
