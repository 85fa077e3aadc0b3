//! DeleteGroups (key 42), versions 0..=3.
//! Source: schema/delete_groups_request.kmsg; KIP-229.
//! Behaviour: only a group without members is deleted, together with its committed offsets.
//! Deviations from Apache Kafka: none.

use highwater_protocol::messages::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use highwater_protocol::{ApiKey, ErrorCode, StrBytes};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves DeleteGroups.
#[derive(Debug)]
pub(crate) struct DeleteGroups;

impl Handler for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=3;

    async fn handle(
        ctx: RequestContext,
        request: DeleteGroupsRequest,
    ) -> Reply<DeleteGroupsResponse> {
        let mut response = DeleteGroupsResponse::default();
        for group in request.groups_names {
            ctx.give_way().await;
            let deleted = delete(&ctx, &group).await;
            response.results.push(DeletableGroupResult {
                group_id: group,
                error_code: deleted.err().map_or(0, |error| error.code()),
                error_message: None,
            });
        }
        Reply::Ready(response)
    }
}

async fn delete(ctx: &RequestContext, group: &StrBytes) -> Result<(), ErrorCode> {
    if !ctx.authorize(Operation::Delete, Resource::Group(group)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let id = group.to_string();
    let deleted = ctx.broker.groups.call(
        &ctx.broker,
        ApiKey::DeleteGroups,
        group,
        move |shard, effects, _| shard.delete(&id, effects),
    );
    deleted.await?
}
