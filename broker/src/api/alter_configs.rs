//! AlterConfigs (key 33), versions 0..=2.
//! Source: schema/alter_configs_request.kmsg; KIP-133.
//! Behaviour: the request replaces all configurations of a topic.
//! Deviations from Apache Kafka: a broker's configurations can't be altered while it runs; loggers, client metrics and
//! groups have no configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_kraft_meta::command::SetTopicConfigs;
use highwater_kraft_meta::{Action, ProposeError, Rejection, TopicImage};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::alter_configs_request::AlterConfigsResource;
use highwater_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use highwater_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{Handler, Reply};
use super::topic::resolve_topic;
use crate::auth::{Operation, Resource};
use crate::topic_configs;

/// Serves AlterConfigs.
#[derive(Debug)]
pub(crate) struct AlterConfigs;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

impl Handler for AlterConfigs {
    type Request = AlterConfigsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;

    async fn handle(
        ctx: RequestContext,
        request: AlterConfigsRequest,
    ) -> Reply<AlterConfigsResponse> {
        let keys = request
            .resources
            .iter()
            .map(|resource| (resource.resource_type, resource.resource_name.to_string()));
        let twice = twice(keys);
        let mut response = AlterConfigsResponse::default();
        for resource in request.resources {
            ctx.give_way().await;
            let key = (resource.resource_type, resource.resource_name.to_string());
            let altered = if twice.contains(&key) {
                Err(each_once())
            } else {
                alter(&ctx, &resource, request.validate_only).await
            };
            let refusal = altered.err();
            response.responses.push(AlterConfigsResourceResponse {
                error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
                error_message: refusal.and_then(|refusal| refusal.text()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            });
        }
        Reply::Ready(response)
    }
}

/// The first name that a list has more than once.
pub(super) fn twice<T: Ord + Clone>(items: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut once = BTreeSet::new();
    items.filter(|item| !once.insert(item.clone())).collect()
}

pub(super) fn each_once() -> Refusal {
    let why = "Each resource must appear at most once.";
    Refusal::new(ErrorCode::InvalidRequest, why)
}

pub(super) fn duplicate_keys() -> Refusal {
    let why = "Error due to duplicate config keys";
    Refusal::new(ErrorCode::InvalidRequest, why)
}

pub(super) fn null_value(name: &str) -> Refusal {
    let why = format!("Null value not supported for : {name}");
    Refusal::new(ErrorCode::InvalidRequest, why)
}

async fn alter(
    ctx: &RequestContext,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let names = resource.configs.iter().map(|config| &*config.name);
    let twice = !twice(names.clone()).is_empty();
    let topic = target(ctx, resource.resource_type, &resource.resource_name, names)?;
    if twice {
        return Err(duplicate_keys());
    }
    let mut configs = BTreeMap::new();
    for config in &resource.configs {
        let value = config.value.as_ref();
        let value = value.ok_or_else(|| null_value(&config.name))?;
        configs.insert(config.name.to_string(), value.to_string());
    }
    change(ctx, topic, validate_only, |_now| Ok(configs.clone())).await
}

/// The refusal of a resource that has configurations in Kafka and none in Highwater.
pub(super) fn without_configs(kind: i8) -> Option<Refusal> {
    let why_not = match kind {
        BROKER_LOGGER => {
            "Highwater sets the levels of its loggers by RUST_LOG when it starts, so they cannot be"
        }
        CLIENT_METRICS => {
            "Highwater collects no metrics of clients, so subscriptions to them cannot be"
        }
        GROUP => "Groups have no configurations in Highwater, so these cannot be",
        _ => return None,
    };
    let why = format!("{why_not} described or altered.");
    Some(Refusal::new(ErrorCode::UnsupportedVersion, why))
}

/// The topic whose configurations are altered.
pub(super) fn target<'a>(
    ctx: &RequestContext,
    kind: i8,
    name: &str,
    configs: impl Iterator<Item = &'a str>,
) -> Result<Arc<TopicImage>, Refusal> {
    match kind {
        TOPIC => {
            let found = resolve_topic(ctx, None, name, Operation::AlterConfigs);
            if let Err(ErrorCode::UnknownTopicOrPartition) = found {
                crate::topics::check_name(name)?;
                let why = format!("The topic '{name}' does not exist.");
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
            }
            Ok(found?)
        }
        BROKER => {
            if !ctx.authorize(Operation::AlterConfigs, Resource::Cluster) {
                return Err(ErrorCode::ClusterAuthorizationFailed.into());
            }
            let own = ctx.broker.config.node_id.0;
            let why = match name.parse::<i32>() {
                Err(_) if !name.is_empty() => {
                    format!("Node id must be an integer, but it is: {name}")
                }
                Ok(id) if id != own => {
                    format!("Unexpected broker id, expected {own}, but received {name}")
                }
                _ => {
                    let names: Vec<&str> = configs.collect();
                    format!(
                        "Cannot update these configs dynamically: [{}]",
                        names.join(", ")
                    )
                }
            };
            Err(Refusal::new(ErrorCode::InvalidRequest, why))
        }
        other => Err(without_configs(other).unwrap_or_else(|| {
            let why = format!("Unknown resource type {other}");
            Refusal::new(ErrorCode::InvalidRequest, why)
        })),
    }
}

/// The most attempts at a change that other requests overtake; each of those requests did change the topic.
const ATTEMPTS: usize = 100;

/// Changes a topic's own configurations to the result of `decide`. If another request changed them meanwhile, `decide`
/// is called again, so that neither change is lost.
pub(super) async fn change(
    ctx: &RequestContext,
    mut topic: Arc<TopicImage>,
    validate_only: bool,
    decide: impl Fn(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal>,
) -> Result<(), Refusal> {
    for _ in 0..ATTEMPTS {
        let configs = decide(&topic.configs)?;
        topic_configs::check(&configs)
            .map_err(|why| Refusal::new(ErrorCode::InvalidConfig, why))?;
        if validate_only || configs == topic.configs {
            return Ok(());
        }
        let command = SetTopicConfigs {
            topic: topic.id.0.to_vec(),
            configs,
            decided_at: topic.configs_at.0,
        };
        let metadata = &ctx.broker.metadata;
        match metadata
            .propose(Action::SetTopicConfigs(command).into())
            .await
        {
            Err(ProposeError::Rejected(Rejection::Changed)) => {}
            other => {
                other.map_err(|error| error::from_proposal(&error))?;
                tracing::info!(topic = %topic.name, "topic configurations changed");
                return Ok(());
            }
        }
        let now = ctx.broker.topic_by_id(topic.id);
        topic = now.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    }
    let why = "The topic's configurations are being changed concurrently; try again.";
    Err(Refusal::new(ErrorCode::RequestTimedOut, why))
}
