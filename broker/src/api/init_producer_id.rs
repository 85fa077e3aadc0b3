//! InitProducerId (key 22), versions 0..=5; version 6 is unstable in Kafka 4.4.
//! Source: schema/init_producer_id_request.kmsg; KIP-98, KIP-360, KIP-890.
//! Behaviour: ids come from blocks in the metadata; none is given out twice.
//! Deviations from Apache Kafka: until there are transactions, a transactional id is refused with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which both Java's client and librdkafka treat as final.

use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves InitProducerId.
#[derive(Debug)]
pub(crate) struct InitProducerId;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;

    async fn handle(
        ctx: RequestContext,
        request: InitProducerIdRequest,
    ) -> Reply<InitProducerIdResponse> {
        let response = match init(&ctx, &request).await {
            Ok(producer_id) => InitProducerIdResponse {
                producer_id,
                producer_epoch: 0,
                ..Default::default()
            },
            Err(refusal) => InitProducerIdResponse {
                error_code: refusal.code.code(),
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            },
        };
        Reply::Ready(response)
    }
}

async fn init(ctx: &RequestContext, request: &InitProducerIdRequest) -> Result<i64, Refusal> {
    if let Some(id) = &request.transactional_id {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest.into());
        }
        return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
    }
    if !ctx.authorize(Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed.into());
    }
    // A producer id and its epoch are given together or not at all (KIP-360).
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest.into());
    }
    ctx.broker
        .next_producer_id()
        .await
        .map_err(|error| error::from_proposal(&error))
}
