//! RemoveRaftVoter (key 81), version 0.
//! Source: schema/remove_raft_voter_request.kmsg; KIP-853; KafkaRaftClient#handleRemoveVoterRequest, RemoveVoterHandler.
//! Behaviour: as of Kafka's broker, which passes the request to the active controller; controllers serve it on their own
//! listeners too. An active controller that is to be removed hands its leadership over first.
//! Deviations from Apache Kafka: a removal after which too few voters answer to decide anything is INVALID_REQUEST.

use highwater_kraft_meta::{MetadataStore, VotersChange};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use highwater_types::NodeId;

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves RemoveRaftVoter.
#[derive(Debug)]
pub(crate) struct RemoveRaftVoter;

impl Handler for RemoveRaftVoter {
    type Request = RemoveRaftVoterRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;

    async fn handle(
        ctx: RequestContext,
        request: RemoveRaftVoterRequest,
    ) -> Reply<RemoveRaftVoterResponse> {
        if !ctx.authorize(Operation::Alter, Resource::Cluster) {
            return Reply::Ready(told(Err(ErrorCode::ClusterAuthorizationFailed.into())));
        }
        Reply::Ready(remove(&*ctx.broker.metadata, request).await)
    }
}

/// Removes a voter.
pub(crate) async fn remove(
    metadata: &dyn MetadataStore,
    request: RemoveRaftVoterRequest,
) -> RemoveRaftVoterResponse {
    told(try_remove(metadata, request).await)
}

async fn try_remove(
    metadata: &dyn MetadataStore,
    request: RemoveRaftVoterRequest,
) -> Result<(), Refusal> {
    error::check_cluster(metadata, request.cluster_id.as_deref())?;
    if request.voter_id < 0 || request.voter_directory_id.is_zero() {
        let why = "Remove voter request didn't include a valid voter";
        return Err(Refusal::new(ErrorCode::InvalidRequest, why));
    }
    let change = VotersChange::Remove {
        node: NodeId(request.voter_id),
        directory: request.voter_directory_id,
    };
    let changed = metadata.change_voters(change).await;
    changed.map_err(|error| error::from_voters(&error))
}

fn told(changed: Result<(), Refusal>) -> RemoveRaftVoterResponse {
    changed.map_or_else(
        |refusal| refused(&refusal),
        |()| RemoveRaftVoterResponse::default(),
    )
}

/// The answer of a refusal.
pub(crate) fn refused(refusal: &Refusal) -> RemoveRaftVoterResponse {
    RemoveRaftVoterResponse {
        error_code: refusal.code.code(),
        error_message: refusal.text(),
        ..Default::default()
    }
}
