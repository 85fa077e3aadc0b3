//! Looking a topic up: the one order of the questions whether it is there and whether the client may know.

use std::sync::Arc;

use highwater_kraft_meta::TopicImage;
use highwater_protocol::ErrorCode;
use highwater_types::TopicId;

use super::RequestContext;
use crate::auth::{Operation, Resource};

/// The topic that a request names, if its principal may do `operation` to it: by its id in the versions whose requests
/// have one, else by its name.
///
/// As in Kafka, a client learns of a name only whether it may use it, and of an id whether there is such a topic.
///
/// # Errors
/// `TOPIC_AUTHORIZATION_FAILED`; `UNKNOWN_TOPIC_ID` or `UNKNOWN_TOPIC_OR_PARTITION` where there is none.
pub(super) fn resolve_topic(
    ctx: &RequestContext,
    id: Option<TopicId>,
    name: &str,
    operation: Operation,
) -> Result<Arc<TopicImage>, ErrorCode> {
    let may = |name: &str| match ctx.authorize(operation, Resource::Topic(name)) {
        true => Ok(()),
        false => Err(ErrorCode::TopicAuthorizationFailed),
    };
    let Some(id) = id else {
        may(name)?;
        let topic = ctx.broker.topic(name);
        return topic.ok_or(ErrorCode::UnknownTopicOrPartition);
    };
    let topic = ctx.broker.topic_by_id(id);
    let topic = topic.ok_or(ErrorCode::UnknownTopicId)?;
    may(&topic.name)?;
    Ok(topic)
}
