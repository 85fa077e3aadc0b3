//! JoinGroup (key 11), versions 0..=9.
//! Source: schema/join_group_request.kmsg; KIP-62, KIP-134, KIP-394, KIP-559, KIP-800, KIP-814.
//! Behaviour: KAFKA-BEHAVIOUR 23; the request is answered when the group is complete.
//! Deviations from Apache Kafka: static members (KIP-345) are answered UNSUPPORTED_VERSION, as by Kafka before 2.3.

use std::fmt::Write;

use bytes::Bytes;
use highwater_coordinator::{Join, JoinReply};
use highwater_protocol::messages::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use highwater_protocol::{ErrorCode, StrBytes, TEXT_BYTES_MAX};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves JoinGroup.
#[derive(Debug)]
pub(crate) struct JoinGroup;

impl Handler for JoinGroup {
    type Request = JoinGroupRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=9;

    async fn handle(
        mut ctx: RequestContext,
        request: JoinGroupRequest,
    ) -> Reply<JoinGroupResponse> {
        let member = request.member_id.clone();
        let reply = match join(&ctx, request) {
            Ok(join) => {
                // A request that waits keeps as little memory as it can.
                ctx.client_id = None;
                ctx.broker.groups.join(&ctx, join).await
            }
            Err(error) => Err(error),
        };
        let reply = reply.unwrap_or_else(|error| JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member: member.to_string(),
            members: Vec::new(),
        });
        Reply::Ready(answer(&ctx, reply))
    }
}

/// The call of the group.
fn join(ctx: &RequestContext, request: JoinGroupRequest) -> Result<Join, ErrorCode> {
    if !ctx.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    if request.group_instance_id.is_some() {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let rebalance_timeout_ms = if ctx.version >= 1 {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let protocols = request.protocols.into_iter().map(|protocol| {
        // This is a copy, because the group outlives the frame.
        let metadata = Bytes::copy_from_slice(&protocol.metadata);
        (protocol.name.to_string(), metadata)
    });
    Ok(Join {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        fresh_member: fresh_member(ctx),
        requires_id: ctx.version >= 4,
        client_id: ctx.client_id().to_owned(),
        client_host: format!("/{}", ctx.connection.peer.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
    })
}

/// The bytes of a UUID as text, with a dash before it.
const UUID_BYTES: usize = 37;

/// A member id in Kafka's form: the client id and a UUID. A client id that leaves no room for the UUID is cut.
fn fresh_member(ctx: &RequestContext) -> String {
    let mut id = ctx.client_id().to_owned();
    id.truncate(id.floor_char_boundary(TEXT_BYTES_MAX - UUID_BYTES));
    for (at, byte) in ctx.broker.rng.next_id().into_iter().enumerate() {
        if matches!(at, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        write!(id, "{byte:02x}").expect("writing to a string does not fail");
    }
    id
}

fn answer(ctx: &RequestContext, reply: JoinReply) -> JoinGroupResponse {
    // Null is allowed from version 7 on.
    let protocol = match reply.protocol {
        None if ctx.version < 7 => Some(StrBytes::default()),
        other => other.map(StrBytes::from),
    };
    let member = |(id, metadata): (String, Bytes)| JoinGroupResponseMember {
        member_id: StrBytes::from(id),
        group_instance_id: None,
        metadata,
    };
    JoinGroupResponse {
        error_code: reply.error.code(),
        generation_id: reply.generation,
        protocol_type: reply.protocol_type.map(StrBytes::from),
        protocol_name: protocol,
        leader: StrBytes::from(reply.leader),
        member_id: StrBytes::from(reply.member),
        members: reply.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
