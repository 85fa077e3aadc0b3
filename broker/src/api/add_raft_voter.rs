//! AddRaftVoter (key 80), versions 0..=1.
//! Source: schema/add_raft_voter_request.kmsg; KIP-853, KIP-1186; KafkaRaftClient#handleAddVoterRequest, AddVoterHandler.
//! Behaviour: as of Kafka's broker, which passes the request to the active controller; controllers serve it on their own
//! listeners too.
//! Deviations from Apache Kafka: a controller that is not followed yet is sent the log within the request's timeout, 20 s
//! at most. Voters are added whatever way the quorum was formed in.

use std::time::Duration;

use highwater_kraft_meta::{Endpoint, MetadataStore, VotersChange};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse};
use highwater_types::NodeId;

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves AddRaftVoter.
#[derive(Debug)]
pub(crate) struct AddRaftVoter;

impl Handler for AddRaftVoter {
    type Request = AddRaftVoterRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: AddRaftVoterRequest,
    ) -> Reply<AddRaftVoterResponse> {
        if !ctx.authorize(Operation::Alter, Resource::Cluster) {
            return Reply::Ready(told(Err(ErrorCode::ClusterAuthorizationFailed.into())));
        }
        let listeners = &ctx.broker.config.quorum.listeners;
        Reply::Ready(add(&*ctx.broker.metadata, listeners, request).await)
    }
}

/// Adds a voter; `listeners` are the names of the controllers' listeners.
pub(crate) async fn add(
    metadata: &dyn MetadataStore,
    listeners: &[String],
    request: AddRaftVoterRequest,
) -> AddRaftVoterResponse {
    told(try_add(metadata, listeners, request).await)
}

async fn try_add(
    metadata: &dyn MetadataStore,
    listeners: &[String],
    request: AddRaftVoterRequest,
) -> Result<(), Refusal> {
    error::check_cluster(metadata, request.cluster_id.as_deref())?;
    let endpoints = request.listeners.iter().map(|listener| Endpoint {
        listener: listener.name.to_ascii_uppercase(),
        host: listener.host.to_string(),
        port: listener.port.into(),
    });
    let endpoints: Vec<Endpoint> = endpoints.collect();
    let default = listeners.first();
    let has_default = |endpoint: &Endpoint| Some(&endpoint.listener) == default;
    if !endpoints.iter().any(has_default) {
        let why = format!(
            "Add voter request didn't include the endpoint for the default listener {}",
            default.map_or("", String::as_str)
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, why));
    }
    let change = VotersChange::Add {
        node: NodeId(request.voter_id),
        directory: request.voter_directory_id,
        endpoints,
        within: Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)),
        awaits_commit: request.ack_when_committed,
    };
    let changed = metadata.change_voters(change).await;
    changed.map_err(|error| error::from_voters(&error))
}

fn told(changed: Result<(), Refusal>) -> AddRaftVoterResponse {
    changed.map_or_else(
        |refusal| refused(&refusal),
        |()| AddRaftVoterResponse::default(),
    )
}

/// The answer of a refusal.
pub(crate) fn refused(refusal: &Refusal) -> AddRaftVoterResponse {
    AddRaftVoterResponse {
        error_code: refusal.code.code(),
        error_message: refusal.text(),
        ..Default::default()
    }
}
