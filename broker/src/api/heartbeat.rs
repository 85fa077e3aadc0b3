//! Heartbeat (key 12), versions 0..=4.
//! Source: schema/heartbeat_request.kmsg.
//! Behaviour: the answer is REBALANCE_IN_PROGRESS while the group waits for its members.
//! Deviations from Apache Kafka: static members (KIP-345) are answered UNSUPPORTED_VERSION, as by Kafka before 2.3.

use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves Heartbeat.
#[derive(Debug)]
pub(crate) struct Heartbeat;

impl Handler for Heartbeat {
    type Request = HeartbeatRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=4;

    async fn handle(ctx: RequestContext, request: HeartbeatRequest) -> Reply<HeartbeatResponse> {
        let error = match heartbeat(&ctx, request).await {
            Ok(()) => ErrorCode::None,
            // A client that gets COORDINATOR_LOAD_IN_PROGRESS would join again; its session timeout starts afresh after
            // the load anyway.
            Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            Err(error) => error,
        };
        Reply::Ready(HeartbeatResponse {
            error_code: error.code(),
            ..Default::default()
        })
    }
}

async fn heartbeat(ctx: &RequestContext, request: HeartbeatRequest) -> Result<(), ErrorCode> {
    if !ctx.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    if request.group_instance_id.is_some() {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let group = request.group_id.to_string();
    let member = request.member_id.to_string();
    let generation = request.generation_id;
    let beat = ctx
        .broker
        .groups
        .heartbeat(&ctx.broker, &request.group_id, move |shard, now| {
            shard.heartbeat(&group, &member, generation, now)
        });
    beat.await
}
