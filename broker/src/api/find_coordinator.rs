//! FindCoordinator (key 10), versions 0..=6.
//! Source: schema/find_coordinator_request.kmsg; KIP-699, KIP-890.
//! Behaviour: creates `__consumer_offsets` on first use (KAFKA-BEHAVIOUR 25); a group's coordinator is the broker that leads
//! its partition, COORDINATOR_NOT_AVAILABLE while no live broker does that the client can reach by its listener.
//! Deviations from Apache Kafka: there are no coordinators of transactions and of share groups yet. A transactional id
//! is answered TRANSACTIONAL_ID_AUTHORIZATION_FAILED. It is the one error that ends the attempt at once both in Java's
//! client and in librdkafka (`rd_kafka_idemp_check_error`), which retries after any other error. A share group is
//! answered UNSUPPORTED_VERSION.

use highwater_protocol::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use highwater_protocol::{ErrorCode, StrBytes};

use super::context::RequestContext;
use super::error::{MALFORMED, Refusal};
use super::handler::{Handler, Reply, element_bytes};
use crate::auth::{Operation, Resource};
use crate::cluster::{BrokerEndpoint, NO_BROKER};

/// Serves FindCoordinator.
#[derive(Debug)]
pub(crate) struct FindCoordinator;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

impl Handler for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=6;

    fn answer_bytes(_ctx: &RequestContext, _request: &Self::Request, elements: usize) -> u64 {
        element_bytes(elements)
    }

    async fn handle(
        ctx: RequestContext,
        request: FindCoordinatorRequest,
    ) -> Reply<FindCoordinatorResponse> {
        let batched = ctx.version >= 4;
        let keys = if batched {
            request.coordinator_keys
        } else {
            vec![request.key]
        };
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            ctx.give_way().await;
            let coordinator = find(&ctx, request.key_type, &key).await;
            found.push(answer(key, coordinator));
        }
        let mut response = FindCoordinatorResponse::default();
        if batched {
            response.coordinators = found;
        } else if let Some(only) = found.pop() {
            response.error_code = only.error_code;
            // Without an error Kafka sends the name of its code as the message, but only in this API.
            response.error_message = match only.error_code {
                0 => Some(StrBytes::from_static("NONE")),
                _ => only.error_message,
            };
            response.node_id = only.node_id;
            response.host = only.host;
            response.port = only.port;
        }
        Reply::Ready(response)
    }
}

fn answer(key: StrBytes, found: Result<BrokerEndpoint, Refusal>) -> Coordinator {
    match found {
        Ok(broker) => Coordinator {
            key,
            node_id: broker.id.0,
            host: broker.host,
            port: broker.port,
            error_code: 0,
            error_message: Some(StrBytes::default()),
        },
        Err(refusal) => Coordinator {
            key,
            node_id: NO_BROKER.0,
            host: StrBytes::default(),
            port: -1,
            error_code: refusal.code.code(),
            error_message: refusal.text(),
        },
    }
}

async fn find(ctx: &RequestContext, kind: i8, key: &str) -> Result<BrokerEndpoint, Refusal> {
    match kind {
        GROUP if !ctx.authorize(Operation::Describe, Resource::Group(key)) => {
            Err(ErrorCode::GroupAuthorizationFailed.into())
        }
        GROUP => {
            let topic = ctx.broker.offsets_topic().await?;
            let cluster = ctx.broker.cluster();
            let found = cluster.coordinator(&topic, key, &ctx.connection.listener);
            found.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
        }
        TRANSACTION if !ctx.authorize(Operation::Describe, Resource::TransactionalId(key)) => {
            Err(ErrorCode::TransactionalIdAuthorizationFailed.into())
        }
        TRANSACTION => Err(Refusal::new(
            ErrorCode::TransactionalIdAuthorizationFailed,
            "Transactions are not supported by this version of Highwater.",
        )),
        SHARE if !ctx.authorize(Operation::ClusterAction, Resource::Cluster) => {
            Err(ErrorCode::ClusterAuthorizationFailed.into())
        }
        SHARE => Err(Refusal::new(
            ErrorCode::UnsupportedVersion,
            "Share groups are not supported by this version of Highwater.",
        )),
        _ => Err(Refusal::new(ErrorCode::InvalidRequest, MALFORMED)),
    }
}
