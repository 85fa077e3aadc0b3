//! The context in which a handler serves a request.

use std::sync::Arc;

use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::memory::FrameMemory;
use crate::net::{ConnectionInfo, Session};

/// The context of one request. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The node.
    pub broker: Arc<Broker>,
    /// The connection on which it came.
    pub connection: Arc<ConnectionInfo>,
    /// The session of the connection, as it was before the request.
    pub session: Arc<Session>,
    /// The client id.
    pub client_id: Option<Arc<str>>,
    /// The version of the API.
    pub version: i16,
    /// The correlation id, which the response repeats.
    pub correlation_id: i32,
    /// Whether the request was too large to be held. It is then a Produce without its records.
    pub is_outline: bool,
    /// The memory of the request's frame.
    pub frame: FrameMemory,
}

/// Kafka's value of `*_authorized_operations` when the request did not ask for them.
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

impl RequestContext {
    /// Whether the principal may perform the operation. Without a principal nothing is allowed.
    #[must_use]
    pub(crate) fn authorize(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let authorizer = &self.broker.authorizer;
        let principal = self.session.principal.as_ref();
        principal.is_some_and(|principal| authorizer.allows(principal, operation, resource))
    }

    /// The operations that the principal may perform on a resource, as Kafka's bit field; Kafka's "none" if they were
    /// not asked for.
    #[must_use]
    pub(crate) fn authorized_operations(&self, asked: bool, resource: Resource<'_>) -> i32 {
        if !asked {
            return OPERATIONS_NOT_ASKED;
        }
        resource
            .operations()
            .iter()
            .filter(|operation| self.authorize(**operation, resource))
            .fold(0, |bits, operation| bits | 1 << (*operation as i32))
    }

    /// Yields to other requests now and then. A handler calls it for each entry of a request, so that a large request
    /// does not occupy a thread from its first entry to its last. Cancellation safe.
    pub(crate) async fn give_way(&self) {
        tokio::task::coop::consume_budget().await;
    }

    /// The client id; empty if there is none.
    #[must_use]
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }
}
