//! DescribeConfigs (key 32), versions 1..=4.
//! Source: schema/describe_configs_request.kmsg; KIP-133, KIP-226, KIP-569.
//! Behaviour: topic and broker configurations with source, synonyms, type and documentation.
//! Deviations from Apache Kafka: a broker has those of Kafka's configurations that Highwater supports, and Highwater's
//! own; loggers, client metrics and groups have no configurations.

use std::collections::BTreeSet;

use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use highwater_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use highwater_protocol::{ErrorCode, StrBytes};

use super::alter_configs::without_configs;
use super::context::RequestContext;
use super::error::{MALFORMED, Refusal};
use super::handler::{Handler, Reply, element_bytes};
use super::topic::resolve_topic;
use crate::auth::{Operation, Resource};
use crate::config::{Kind, keys};
use crate::topic_configs::{ConfigSource, Origin, TOPIC_KEYS};

/// Serves DescribeConfigs.
#[derive(Debug)]
pub(crate) struct DescribeConfigs;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// The approximate bytes of one configuration in an answer, and of one with its synonyms or its documentation.
const CONFIG_BYTES: usize = 256;
const DETAILED_BYTES: usize = 512;

impl Handler for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=4;

    fn answer_bytes(_ctx: &RequestContext, request: &Self::Request, elements: usize) -> u64 {
        let details = request.include_synonyms || request.include_documentation;
        let one = match details {
            true => DETAILED_BYTES,
            false => CONFIG_BYTES,
        };
        let configs = |resource: &DescribeConfigsResource| {
            let all = match resource.resource_type {
                TOPIC => TOPIC_KEYS.len(),
                BROKER => keys::all().count(),
                _ => 0,
            };
            match &resource.configuration_keys {
                Some(wanted) if !wanted.is_empty() => wanted.len().min(all),
                _ => all,
            }
        };
        let configs: usize = request.resources.iter().map(configs).sum();
        let bytes = configs.saturating_mul(one) as u64;
        element_bytes(elements).saturating_add(bytes)
    }

    async fn handle(
        ctx: RequestContext,
        request: DescribeConfigsRequest,
    ) -> Reply<DescribeConfigsResponse> {
        let mut response = DescribeConfigsResponse::default();
        for resource in request.resources {
            ctx.give_way().await;
            let described = describe(&ctx, &resource);
            let mut result = DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                error_message: Some(StrBytes::default()),
                ..Default::default()
            };
            match described {
                Ok(mut configs) => {
                    // An empty list of keys means all of them, as null does.
                    if let Some(wanted) = &resource.configuration_keys
                        && !wanted.is_empty()
                    {
                        let wanted: BTreeSet<_> = wanted.iter().collect();
                        configs.retain(|config| wanted.contains(&&config.name));
                        configs.shrink_to_fit();
                    }
                    for config in &mut configs {
                        if !request.include_synonyms {
                            config.synonyms = Vec::new();
                        }
                        if !request.include_documentation {
                            config.documentation = None;
                        }
                    }
                    result.configs = configs;
                }
                Err(refusal) => {
                    result.error_code = refusal.code.code();
                    result.error_message = Some(refusal.text().unwrap_or_default());
                }
            }
            response.results.push(result);
        }
        Reply::Ready(response)
    }
}

fn describe(
    ctx: &RequestContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = &resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let found = resolve_topic(ctx, None, name, Operation::DescribeConfigs);
            if let Err(ErrorCode::UnknownTopicOrPartition) = found {
                crate::topics::check_name(name)?;
            }
            let topic = found?;
            let one = |key: &crate::topic_configs::TopicKey| {
                let origins = key.origins(&topic.configs, &ctx.broker.config);
                let mut described = result(key.name, key.kind, key.doc, &origins, false);
                if !key.lists_default() {
                    let default = ConfigSource::Default as i8;
                    described.synonyms.retain(|one| one.source != default);
                }
                described
            };
            Ok(TOPIC_KEYS.iter().map(one).collect())
        }
        BROKER => {
            if !ctx.authorize(Operation::DescribeConfigs, Resource::Cluster) {
                return Err(ErrorCode::ClusterAuthorizationFailed.into());
            }
            // An empty name means the configurations that are set for all brokers together, of which there are none.
            if name.is_empty() {
                return Ok(Vec::new());
            }
            let own = ctx.broker.config.node_id.to_string();
            if **name != *own {
                let why = match name.parse::<i32>() {
                    Ok(_) => format!(
                        "Unexpected broker id, expected {own} or empty string, but received {name}"
                    ),
                    Err(_) => format!("Broker id must be an integer, but it is: {name}"),
                };
                return Err(Refusal::new(ErrorCode::InvalidRequest, why));
            }
            Ok(broker_configs(ctx))
        }
        other => Err(without_configs(other)
            .unwrap_or_else(|| Refusal::new(ErrorCode::InvalidRequest, MALFORMED))),
    }
}

fn broker_configs(ctx: &RequestContext) -> Vec<DescribeConfigsResourceResult> {
    let config = &ctx.broker.config;
    let one = |key: &crate::config::Key| {
        let mut origins = Vec::new();
        let mut push = |value: Option<&str>, source| {
            if let Some(value) = value {
                origins.push(Origin {
                    name: key.name,
                    value: value.to_owned(),
                    source,
                });
            }
        };
        if config.source(key.name).is_given() {
            push(config.get(key.name), ConfigSource::StaticBroker);
        }
        push(config.default_of(key.name), ConfigSource::Default);
        result(key.name, key.kind, key.doc, &origins, true)
    };
    keys::all().map(one).collect()
}

fn result(
    name: &'static str,
    kind: Kind,
    doc: &'static str,
    origins: &[Origin],
    read_only: bool,
) -> DescribeConfigsResourceResult {
    let effective = origins.first();
    let source = effective.map_or(ConfigSource::Default, |origin| origin.source);
    // as in Kafka, a value that is not shown is null
    let is_sensitive = kind == Kind::Password;
    let value = |origin: &Origin| (!is_sensitive).then(|| StrBytes::from(origin.value.as_str()));
    let synonym = |origin: &Origin| DescribeConfigsSynonym {
        name: StrBytes::from_static(origin.name),
        value: value(origin),
        source: origin.source as i8,
    };
    DescribeConfigsResourceResult {
        name: StrBytes::from_static(name),
        value: effective.and_then(value),
        read_only,
        config_source: source as i8,
        is_sensitive,
        synonyms: origins.iter().map(synonym).collect(),
        config_type: config_type(kind),
        documentation: Some(StrBytes::from_static(doc)),
    }
}

/// Kafka's `ConfigType` codes.
fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => 1,
        Kind::Text | Kind::OneOf(_) | Kind::Size { .. } => 2,
        Kind::Int { .. } => 3,
        Kind::Long { .. } => 5,
        Kind::Ratio => 6,
        Kind::List | Kind::Replicas | Kind::SomeOf(_) => 7,
        Kind::Password => 9,
    }
}
