//! IncrementalAlterConfigs (key 44), versions 0..=1.
//! Source: schema/incremental_alter_configs_request.kmsg; KIP-339.
//! Behaviour: single configurations of a topic are set, deleted, or changed as lists.
//! Deviations from Apache Kafka: a broker's configurations can't be altered while it runs, but throttles of replication, of
//! which it has none, can be deleted; loggers, client metrics and groups have no configurations.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ErrorCode;
use highwater_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use highwater_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use highwater_protocol::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::alter_configs::{change, duplicate_keys, each_once, null_value, target, twice};
use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};
use crate::config::Kind;
use crate::topic_configs;

/// Serves IncrementalAlterConfigs.
#[derive(Debug)]
pub(crate) struct IncrementalAlterConfigs;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
const BROKER: i8 = 4;
/// The throttles of a broker that `kafka-reassign-partitions` sets and takes away.
const THROTTLES: [&str; 3] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

impl Handler for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: IncrementalAlterConfigsRequest,
    ) -> Reply<IncrementalAlterConfigsResponse> {
        let keys = request
            .resources
            .iter()
            .map(|resource| (resource.resource_type, resource.resource_name.to_string()));
        let twice = twice(keys);
        let mut response = IncrementalAlterConfigsResponse::default();
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

async fn alter(
    ctx: &RequestContext,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    if is_unthrottled(ctx, resource) {
        return Ok(());
    }
    let names = || resource.configs.iter().map(|config| &*config.name);
    let topic = target(
        ctx,
        resource.resource_type,
        &resource.resource_name,
        names(),
    )?;
    if !twice(names()).is_empty() {
        return Err(duplicate_keys());
    }
    let decide = |now: &BTreeMap<String, String>| {
        let mut configs = now.clone();
        for config in &resource.configs {
            apply(ctx, &mut configs, config)?;
        }
        Ok(configs)
    };
    change(ctx, topic, validate_only, decide).await
}

/// Whether a request only takes throttles of replication from a broker, which none has here: `kafka-reassign-partitions`
/// sends it after every reassignment, and for each of the brokers.
fn is_unthrottled(ctx: &RequestContext, resource: &AlterConfigsResource) -> bool {
    let is_throttle = |config: &AlterableConfig| {
        config.config_operation == DELETE && THROTTLES.contains(&&*config.name)
    };
    resource.resource_type == BROKER
        && !resource.configs.is_empty()
        && resource.configs.iter().all(is_throttle)
        && ctx.authorize(Operation::AlterConfigs, Resource::Cluster)
}

fn apply(
    ctx: &RequestContext,
    configs: &mut BTreeMap<String, String>,
    config: &AlterableConfig,
) -> Result<(), Refusal> {
    let name = config.name.to_string();
    if config.config_operation == DELETE {
        configs.remove(&name);
        return Ok(());
    }
    let value = config.value.as_deref();
    let value = value.ok_or_else(|| null_value(&name))?;
    let (verb, keeps_old): (&str, bool) = match config.config_operation {
        SET => {
            configs.insert(name, value.to_owned());
            return Ok(());
        }
        APPEND => ("APPEND", true),
        SUBTRACT => ("SUBTRACT", false),
        other => {
            let why = format!("Unknown operation type {other}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, why));
        }
    };
    let key = topic_configs::find(&name);
    let is_list = |kind: Kind| matches!(kind, Kind::List | Kind::Replicas | Kind::SomeOf(_));
    let Some(key) = key.filter(|key| is_list(key.kind)) else {
        let why = format!("Can't {verb} to key {name} because its type is not LIST.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, why));
    };
    let now = key.effective(configs, &ctx.broker.config);
    let mut items: Vec<&str> = split(&now).collect();
    if keeps_old {
        let mut known: BTreeSet<&str> = items.iter().copied().collect();
        items.extend(split(value).filter(|item| known.insert(item)));
    } else {
        let gone: BTreeSet<&str> = split(value).collect();
        items.retain(|item| !gone.contains(item));
    }
    let joined = items.join(",");
    configs.insert(name, joined);
    Ok(())
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}
