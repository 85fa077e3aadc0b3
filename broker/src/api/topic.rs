//! Looks topics up, with one order of the two questions: whether a topic exists, and whether the client may know it.

use std::sync::Arc;

use highwater_kraft_meta::TopicImage;
use highwater_protocol::ErrorCode;
use highwater_types::TopicId;

use super::context::RequestContext;
use crate::auth::{Operation, Resource};

/// The topic that a request names, if its principal may perform `operation` on it. It is named by id in the versions
/// whose requests have ids, otherwise by name.
///
/// As in Kafka, a client learns about a name only whether it may use it, and about an id whether such a topic exists.
///
/// # Errors
/// `TOPIC_AUTHORIZATION_FAILED`; `UNKNOWN_TOPIC_ID` or `UNKNOWN_TOPIC_OR_PARTITION` if the topic does not exist.
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
