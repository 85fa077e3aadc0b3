//! SyncGroup (key 14), versions 0..=5.
//! Source: schema/sync_group_request.kmsg; KIP-559.
//! Behaviour: the request is answered when the leader has sent the assignment and the assignment is durable.
//! Deviations from Apache Kafka: static members (KIP-345) are answered UNSUPPORTED_VERSION, as by Kafka before 2.3.

use bytes::Bytes;
use highwater_coordinator::Sync;
use highwater_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use highwater_protocol::{ErrorCode, StrBytes};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves SyncGroup.
#[derive(Debug)]
pub(crate) struct SyncGroup;

impl Handler for SyncGroup {
    type Request = SyncGroupRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;

    async fn handle(
        mut ctx: RequestContext,
        request: SyncGroupRequest,
    ) -> Reply<SyncGroupResponse> {
        // A request that waits keeps as little memory as it can.
        ctx.client_id = None;
        let reply = match sync(&ctx, request) {
            Ok(sync) => ctx.broker.groups.sync(&ctx, sync).await,
            Err(error) => Err(error),
        };
        Reply::Ready(match reply {
            Ok(reply) => SyncGroupResponse {
                error_code: reply.error.code(),
                protocol_type: reply.protocol_type.map(StrBytes::from),
                protocol_name: reply.protocol.map(StrBytes::from),
                assignment: reply.assignment,
                ..Default::default()
            },
            // Clients do not expect the error of loading here. As in Kafka they are told to join again, because a load
            // ends a rebalance.
            Err(ErrorCode::CoordinatorLoadInProgress) => SyncGroupResponse {
                error_code: ErrorCode::RebalanceInProgress.code(),
                ..Default::default()
            },
            Err(error) => SyncGroupResponse {
                error_code: error.code(),
                ..Default::default()
            },
        })
    }
}

/// The call of the group.
fn sync(ctx: &RequestContext, request: SyncGroupRequest) -> Result<Sync, ErrorCode> {
    if !ctx.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    if request.group_instance_id.is_some() {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let said = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
    if ctx.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let assignments = request.assignments.into_iter().map(|assigned| {
        // This is a copy, because the group outlives the frame.
        let assignment = Bytes::copy_from_slice(&assigned.assignment);
        (assigned.member_id.to_string(), assignment)
    });
    Ok(Sync {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        generation: request.generation_id,
        protocol_type: said(&request.protocol_type),
        protocol: said(&request.protocol_name),
        assignments: assignments.collect(),
    })
}
