//! What a handler knows of the request it serves.

use std::sync::Arc;

use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::memory::FrameMemory;
use crate::net::{ConnectionInfo, Session};

/// One request's surroundings. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The node.
    pub broker: Arc<Broker>,
    /// The connection it came by.
    pub connection: Arc<ConnectionInfo>,
    /// What that has negotiated before the request.
    pub session: Arc<Session>,
    /// What the client calls itself.
    pub client_id: Option<Arc<str>>,
    /// The version of the API.
    pub version: i16,
    /// Echoed in the answer.
    pub correlation_id: i32,
    /// Whether the request was too large to be held: a Produce without its records.
    pub is_outline: bool,
    /// The memory of its frame.
    pub frame: FrameMemory,
}

/// Kafka's "not asked for" in `*_authorized_operations`.
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

impl RequestContext {
    /// Whether the principal may do that; without one nothing may be done.
    #[must_use]
    pub(crate) fn authorize(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let authorizer = &self.broker.authorizer;
        let principal = self.session.principal.as_ref();
        principal.is_some_and(|principal| authorizer.allows(principal, operation, resource))
    }

    /// The operations that the principal may do to a resource, as Kafka's bit field; its "none" when not asked for.
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

    /// Gives way to other requests now and then: called for each entry of a request, so that a large one does not hold a
    /// thread from its first entry to its last. Cancellation safe.
    pub(crate) async fn give_way(&self) {
        tokio::task::coop::consume_budget().await;
    }

    /// The name the client gave itself, or nothing.
    #[must_use]
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }
}
