//! LeaveGroup (key 13), versions 0..=5.
//! Source: schema/leave_group_request.kmsg; KIP-345, KIP-800.
//! Behaviour: one member leaves up to version 2, any number of members from version 3 on.
//! Deviations from Apache Kafka: static members (KIP-345) are answered UNSUPPORTED_VERSION, as by Kafka before 2.3.

use highwater_protocol::messages::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use highwater_protocol::{ApiKey, ErrorCode};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves LeaveGroup.
#[derive(Debug)]
pub(crate) struct LeaveGroup;

impl Handler for LeaveGroup {
    type Request = LeaveGroupRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;

    async fn handle(
        ctx: RequestContext,
        mut request: LeaveGroupRequest,
    ) -> Reply<LeaveGroupResponse> {
        if ctx.version < 3 {
            request.members = vec![MemberIdentity {
                member_id: std::mem::take(&mut request.member_id),
                ..Default::default()
            }];
        }
        let mut response = LeaveGroupResponse::default();
        match leave(&ctx, &request).await {
            Err(error) => response.error_code = error.code(),
            Ok(errors) if ctx.version < 3 => {
                response.error_code = errors.first().map_or(0, |error| error.code());
            }
            Ok(errors) => {
                let members = request.members.into_iter().zip(errors);
                response.members = members
                    .map(|(member, error)| MemberResponse {
                        member_id: member.member_id,
                        group_instance_id: member.group_instance_id,
                        error_code: error.code(),
                    })
                    .collect();
            }
        }
        Reply::Ready(response)
    }
}

async fn leave(
    ctx: &RequestContext,
    request: &LeaveGroupRequest,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    if !ctx.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let is_static = |member: &MemberIdentity| member.group_instance_id.is_some();
    if request.members.iter().any(is_static) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let group = request.group_id.to_string();
    let members: Vec<String> = request
        .members
        .iter()
        .map(|member| member.member_id.to_string())
        .collect();
    let count = members.len();
    let leave = ctx.broker.groups.call(
        &ctx.broker,
        ApiKey::LeaveGroup,
        &request.group_id,
        move |shard, effects, now| shard.leave(&group, &members, now, effects),
    );
    match leave.await? {
        // An unknown group has no members, and from version 3 on each named member gets that error.
        Err(ErrorCode::UnknownMemberId) if ctx.version >= 3 => {
            Ok(vec![ErrorCode::UnknownMemberId; count])
        }
        other => other,
    }
}
