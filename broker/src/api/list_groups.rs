//! ListGroups (key 16), versions 0..=5.
//! Source: schema/list_groups_request.kmsg; KIP-518, KIP-848.
//! Behaviour: every group is of the classic protocol. A principal without Describe on the cluster sees only the groups
//! that it may describe.
//! Deviations from Apache Kafka: none.

use highwater_coordinator::GroupShard;
use highwater_protocol::messages::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use highwater_protocol::{ApiKey, StrBytes};

use super::context::RequestContext;
use super::handler::{Handler, Reply, unknown_size};
use crate::auth::{Operation, Resource};

/// Serves ListGroups.
#[derive(Debug)]
pub(crate) struct ListGroups;

impl Handler for ListGroups {
    type Request = ListGroupsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;

    fn answer_bytes(ctx: &RequestContext, _request: &Self::Request, _elements: usize) -> u64 {
        unknown_size(ctx)
    }

    async fn handle(ctx: RequestContext, request: ListGroupsRequest) -> Reply<ListGroupsResponse> {
        let matches = |filter: &[StrBytes], value: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let mut response = ListGroupsResponse::default();
        let listed = ctx
            .broker
            .groups
            .read_all(&ctx.broker, Some(ApiKey::ListGroups), GroupShard::list)
            .await;
        let groups = match listed {
            Ok(groups) => groups.into_iter().flatten(),
            Err(error) => {
                response.error_code = error.code();
                return Reply::Ready(response);
            }
        };
        let all = ctx.authorize(Operation::Describe, Resource::Cluster);
        for group in groups {
            let told = all || ctx.authorize(Operation::Describe, Resource::Group(&group.group));
            if told
                && matches(&request.states_filter, group.state)
                && matches(&request.types_filter, group.kind)
            {
                response.groups.push(ListedGroup {
                    group_id: StrBytes::from(group.group),
                    protocol_type: StrBytes::from(group.protocol_type),
                    group_state: StrBytes::from(group.state),
                    group_type: StrBytes::from(group.kind),
                });
            }
        }
        Reply::Ready(response)
    }
}
