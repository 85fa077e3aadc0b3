//! Looks topics up, with one order of the two questions: whether a topic exists, and whether the client may know it. Waits
//! for those that a request has created.

use std::ops::Range;
use std::sync::Arc;

use highwater_kraft_meta::TopicImage;
use highwater_protocol::ErrorCode;
use highwater_types::TopicId;
use tokio::time::Instant;

use super::context::RequestContext;
use crate::auth::{Operation, Resource};
use crate::topics::CREATION_DEADLINE;

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

/// Waits until partitions that a request has created are led, and those that this broker leads are open: until the deadline,
/// at most for [`CREATION_DEADLINE`], and no longer once no further request comes (A5), because the partitions exist. The
/// leaders of all topics come in few commands.
pub(super) async fn wait_created(
    ctx: &RequestContext,
    created: impl IntoIterator<Item = (TopicId, Range<i32>)>,
    deadline: Instant,
) {
    let deadline = deadline.min(Instant::now() + CREATION_DEADLINE);
    let are_led = async {
        for (id, indexes) in created {
            let partitions = &ctx.broker.partitions;
            partitions.wait_created(id, indexes, deadline).await;
        }
    };
    tokio::select! {
        biased;
        () = are_led => {}
        () = ctx.connection.ends() => {}
    }
}
