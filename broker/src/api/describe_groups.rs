//! DescribeGroups (key 15), versions 0..=6.
//! Source: schema/describe_groups_request.kmsg; KIP-430, KIP-1043.
//! Behaviour: KAFKA-BEHAVIOUR 25.
//! Deviations from Apache Kafka: a group that is named twice is described once; Kafka describes it twice.

use std::collections::BTreeSet;

use highwater_coordinator::{Described, DescribedMember};
use highwater_protocol::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use highwater_protocol::{ApiKey, ErrorCode, StrBytes};

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, element_bytes, unknown_size};
use crate::auth::{Operation, Resource};

/// Serves DescribeGroups.
#[derive(Debug)]
pub(crate) struct DescribeGroups;

const DEAD: &str = "Dead";

impl Handler for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=6;

    fn answer_bytes(ctx: &RequestContext, _request: &Self::Request, elements: usize) -> u64 {
        element_bytes(elements).saturating_add(unknown_size(ctx))
    }

    async fn handle(
        ctx: RequestContext,
        request: DescribeGroupsRequest,
    ) -> Reply<DescribeGroupsResponse> {
        let mut response = DescribeGroupsResponse::default();
        let mut told = BTreeSet::new();
        for group in request.groups {
            ctx.give_way().await;
            if !told.insert(group.clone()) {
                continue;
            }
            let described = describe(&ctx, &group).await;
            let mut answer = answer(group, described);
            if answer.error_code == 0 {
                answer.authorized_operations = ctx.authorized_operations(
                    request.include_authorized_operations,
                    Resource::Group(&answer.group_id),
                );
            }
            response.groups.push(answer);
        }
        Reply::Ready(response)
    }
}

async fn describe(ctx: &RequestContext, group: &StrBytes) -> Result<Option<Described>, Refusal> {
    if !ctx.authorize(Operation::Describe, Resource::Group(group)) {
        return Err(ErrorCode::GroupAuthorizationFailed.into());
    }
    let id = group.to_string();
    let asked = ctx
        .broker
        .groups
        .read(&ctx.broker, ApiKey::DescribeGroups, group, move |shard| {
            shard.describe(&id)
        });
    match asked.await? {
        None if ctx.version >= 6 => Err(Refusal::new(
            ErrorCode::GroupIdNotFound,
            format!("Group {group} not found."),
        )),
        other => Ok(other),
    }
}

fn answer(group: StrBytes, described: Result<Option<Described>, Refusal>) -> DescribedGroup {
    let mut answer = DescribedGroup {
        group_id: group,
        group_state: StrBytes::from(DEAD),
        ..Default::default()
    };
    match described {
        Ok(None) => {}
        Ok(Some(described)) => {
            answer.group_state = StrBytes::from(described.state);
            answer.protocol_type = StrBytes::from(described.protocol_type);
            answer.protocol_data = StrBytes::from(described.protocol);
            answer.members = described.members.into_iter().map(member).collect();
        }
        Err(refusal) => {
            answer.error_code = refusal.code.code();
            answer.error_message = refusal.text();
            if refusal.code != ErrorCode::GroupIdNotFound {
                answer.group_state = StrBytes::default();
            }
        }
    }
    answer
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: StrBytes::from(member.id),
        group_instance_id: None,
        client_id: StrBytes::from(member.client_id),
        client_host: StrBytes::from(member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
