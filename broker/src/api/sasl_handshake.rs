//! SaslHandshake (key 17), versions 0..=1.
//! Source: schema/sasl_handshake_request.kmsg; KIP-43; `KafkaApis.handleSaslHandshakeRequest`, Kafka 4.4.
//! Behaviour: the answer is that of a listener without SASL. A client that asks for SASL then ends at once with the
//! reason; without this API it would ask for ever.
//! Deviations from Apache Kafka: none.

use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::context::RequestContext;
use super::handler::{Handler, Reply};

/// Serves SaslHandshake.
#[derive(Debug)]
pub(crate) struct SaslHandshake;

impl Handler for SaslHandshake {
    type Request = SaslHandshakeRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;

    async fn handle(
        _ctx: RequestContext,
        _request: SaslHandshakeRequest,
    ) -> Reply<SaslHandshakeResponse> {
        Reply::Ready(SaslHandshakeResponse {
            error_code: ErrorCode::IllegalSaslState.code(),
            mechanisms: Vec::new(),
        })
    }
}
