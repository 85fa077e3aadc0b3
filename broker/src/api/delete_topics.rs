//! DeleteTopics (key 20), versions 1..=6.
//! Source: schema/delete_topics_request.kmsg; KIP-516.
//! Behaviour: the request is answered when this node's image no longer has the topic; its objects are deleted after the
//! grace.
//! Deviations from Apache Kafka: none.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_kraft_meta::command::DeleteTopic;
use highwater_kraft_meta::{Action, TopicImage};
use highwater_protocol::messages::delete_topics_request::DeleteTopicState;
use highwater_protocol::messages::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use highwater_protocol::{ErrorCode, StrBytes};

use highwater_types::TopicId;
use tokio::time::Instant;

use super::alter_configs::twice;
use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, deadline_of};
use super::topic::resolve_topic;
use crate::auth::Operation;

/// Serves DeleteTopics.
#[derive(Debug)]
pub(crate) struct DeleteTopics;

const SUPPLIED: &str = "The provided topic name maps to an ID that was already supplied.";

impl Handler for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=6;

    async fn handle(
        ctx: RequestContext,
        request: DeleteTopicsRequest,
    ) -> Reply<DeleteTopicsResponse> {
        let mut asked = request.topics;
        asked.extend(
            request
                .topic_names
                .into_iter()
                .map(|name| DeleteTopicState {
                    name: Some(name),
                    ..Default::default()
                }),
        );
        let mut response = DeleteTopicsResponse::default();
        let refusals = refused(&ctx, &asked);
        let deadline = deadline_of(request.timeout_ms);
        let mut told = BTreeSet::new();
        for (topic, refusal) in asked.into_iter().zip(refusals) {
            ctx.give_way().await;
            if !told.insert((topic.name.clone(), topic.topic_id)) {
                continue;
            }
            let mut answer = DeletableTopicResult {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                ..Default::default()
            };
            let deleted = match refusal {
                // It is answered at the place that names it.
                Some(SUPPLIED) if topic.name.is_none() => continue,
                Some(why) => {
                    if let (SUPPLIED, Some(name)) = (why, &topic.name) {
                        let found = ctx.broker.topic(name);
                        answer.topic_id = found.map_or(TopicId::ZERO, |topic| topic.id);
                    }
                    Err(Refusal::new(ErrorCode::InvalidRequest, why))
                }
                None => delete(&ctx, &topic, deadline).await,
            };
            match deleted {
                Ok(deleted) => {
                    answer.name = Some(StrBytes::from(&*deleted.name));
                    answer.topic_id = deleted.id;
                }
                Err(refusal) => {
                    answer.error_code = refusal.code.code();
                    answer.error_message = refusal.text();
                }
            }
            response.responses.push(answer);
        }
        Reply::Ready(response)
    }
}

/// The entries that are refused because of the request itself, with the messages of `ControllerApis.deleteTopics`.
fn refused(ctx: &RequestContext, asked: &[DeleteTopicState]) -> Vec<Option<&'static str>> {
    let key = |one: &DeleteTopicState| (one.name.clone(), one.topic_id);
    let twice = twice(asked.iter().map(key));
    let unnamed = asked.iter().filter(|one| one.name.is_none());
    let ids: BTreeSet<TopicId> = unnamed.map(|one| one.topic_id).collect();
    let names: BTreeSet<&str> = asked.iter().filter_map(|one| one.name.as_deref()).collect();
    let by_id = |name: &StrBytes| {
        let topic = ctx.broker.topic(name);
        topic.is_some_and(|topic| ids.contains(&topic.id))
    };
    let by_name = |id: TopicId| {
        let topic = ctx.broker.topic_by_id(id);
        topic.is_some_and(|topic| names.contains(&*topic.name))
    };
    let why = |one: &DeleteTopicState| match (&one.name, one.topic_id == TopicId::ZERO) {
        (Some(_), false) => Some("You may not specify both topic name and topic id."),
        (None, true) => Some("Neither topic name nor id were specified."),
        (Some(_), true) if twice.contains(&key(one)) => Some("Duplicate topic name."),
        (None, false) if twice.contains(&key(one)) => Some("Duplicate topic id."),
        (Some(name), true) if by_id(name) => Some(SUPPLIED),
        (None, false) if by_name(one.topic_id) => Some(SUPPLIED),
        _ => None,
    };
    asked.iter().map(why).collect()
}

/// A refusal with Kafka's message.
fn unknown(refused: ErrorCode) -> Refusal {
    let why = match refused {
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::UnknownTopicId => "This server does not host this topic ID.",
        other => return other.into(),
    };
    Refusal::new(refused, why)
}

async fn delete(
    ctx: &RequestContext,
    asked: &DeleteTopicState,
    deadline: Instant,
) -> Result<Arc<TopicImage>, Refusal> {
    if !ctx.broker.config.bool("delete.topic.enable") {
        return Err(ErrorCode::TopicDeletionDisabled.into());
    }
    let in_time = match Instant::now() < deadline {
        true => Ok(()),
        false => Err(Refusal::from(ErrorCode::RequestTimedOut)),
    };
    let id = asked.name.is_none().then_some(asked.topic_id);
    let name = asked.name.as_deref().unwrap_or_default();
    let found = resolve_topic(ctx, id, name, Operation::Delete);
    // As in Kafka's controller, names are looked up within the deadline; ids and authorization are checked before it
    // counts.
    if matches!(found, Ok(_) | Err(ErrorCode::UnknownTopicOrPartition)) {
        in_time?;
    }
    let topic = found.map_err(unknown)?;
    let delete = DeleteTopic {
        id: topic.id.0.to_vec(),
    };
    let change = Action::DeleteTopic(delete);
    ctx.broker.change(change, deadline).await?;
    tracing::info!(topic = %topic.name, "topic deleted");
    Ok(topic)
}
