//! DeleteTopics (key 20), versions 1..=6.
//! Source: schema/delete_topics_request.kmsg; KIP-516.
//! Behaviour: answered when this node's image has lost the topic; its objects go after the grace.
//! Deviations from Apache Kafka: none.

use std::sync::Arc;

use highwater_kraft_meta::command::DeleteTopic;
use highwater_kraft_meta::{Action, TopicImage};
use highwater_protocol::messages::delete_topics_request::DeleteTopicState;
use highwater_protocol::messages::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use highwater_protocol::{ErrorCode, StrBytes};

use super::error::{self, Refusal};
use super::{Handler, Reply, RequestContext};
use crate::auth::{Operation, Resource};

/// Serves DeleteTopics.
#[derive(Debug)]
pub struct DeleteTopics;

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
        for topic in asked {
            let mut answer = DeletableTopicResult {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                ..Default::default()
            };
            match delete(&ctx, &topic).await {
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

async fn delete(
    ctx: &RequestContext,
    asked: &DeleteTopicState,
) -> Result<Arc<TopicImage>, Refusal> {
    if !ctx.broker.config.bool("delete.topic.enable") {
        return Err(ErrorCode::TopicDeletionDisabled.into());
    }
    let topic = match &asked.name {
        Some(name) => {
            let found = ctx.broker.topic(name);
            if !ctx.authorize(Operation::Delete, Resource::Topic(name)) {
                return Err(ErrorCode::TopicAuthorizationFailed.into());
            }
            found.ok_or(ErrorCode::UnknownTopicOrPartition)?
        }
        None => {
            let topic = ctx
                .broker
                .topic_by_id(asked.topic_id)
                .ok_or(ErrorCode::UnknownTopicId)?;
            if !ctx.authorize(Operation::Delete, Resource::Topic(&topic.name)) {
                return Err(ErrorCode::TopicAuthorizationFailed.into());
            }
            topic
        }
    };
    let delete = DeleteTopic {
        id: topic.id.0.to_vec(),
    };
    let proposed = ctx
        .broker
        .metadata
        .propose(Action::DeleteTopic(delete).into())
        .await;
    proposed.map_err(|error| error::of_propose(&error))?;
    Ok(topic)
}
