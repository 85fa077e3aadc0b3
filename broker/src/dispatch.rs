//! From a frame to a handler: header, version, metrics; nothing that belongs to one API.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use highwater_protocol::{ApiKey, DecodeError, RequestHeader, messages::ApiVersionsRequest};
use highwater_runtime::{BytePermit, panic_text};

use crate::api::{self, RequestContext};
use crate::auth::Principal;
use crate::broker::Broker;
use crate::memory::FrameMemory;
use crate::metrics::{self, ApiMetrics, RefusedFrame};
use crate::net::{Answer, ConnectionInfo, Frame, Served, Service};

/// Serves the requests of every connection.
#[derive(Debug)]
pub(crate) struct Dispatch {
    broker: Arc<Broker>,
    principal: Arc<Principal>,
    metrics: ApiMetrics,
}

impl Dispatch {
    /// A dispatch for one node.
    #[must_use]
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self {
            broker,
            principal: Arc::new(Principal::anonymous()),
            metrics: ApiMetrics::new(api::APIS),
        }
    }
}

impl Service for Dispatch {
    fn overlaps(&self, frame: &Bytes) -> bool {
        frame.first_chunk() == Some(&(ApiKey::Produce as i16).to_be_bytes())
    }

    fn serve(
        &self,
        connection: &ConnectionInfo,
        frame: Frame,
    ) -> Pin<Box<dyn Future<Output = Served> + Send>> {
        let mut body = frame.body;
        let header = match RequestHeader::parse(&mut body) {
            Ok(header) => header,
            Err(error) => {
                RefusedFrame::Header.count();
                tracing::info!(client = %connection.peer, %error, "request header refused");
                return closed();
            }
        };
        let entry = api::find(header.api_key)
            .filter(|entry| (entry.min..=entry.max).contains(&header.api_version));
        let Some(entry) = entry else {
            return unsupported(connection, &header);
        };
        let ctx = RequestContext {
            broker: Arc::clone(&self.broker),
            connection: connection.clone(),
            principal: Arc::clone(&self.principal),
            client_id: header.client_id.as_deref().map(Arc::from),
            version: header.api_version,
            correlation_id: header.correlation_id,
            is_outline: frame.is_outline,
            frame: FrameMemory::new(frame.permit),
        };
        let memory = ctx.frame.clone();
        let timer = self.metrics.request(entry.key);
        let asked = Asked {
            api: entry.key,
            version: header.api_version,
            client: connection.peer,
        };
        let serving = AssertUnwindSafe((entry.serve)(ctx, body)).catch_unwind();
        Box::pin(async move {
            let served = match serving.await {
                Ok(Ok(served)) => served,
                Ok(Err(error)) => {
                    asked.refused(&error);
                    Served::Now(Answer::Close)
                }
                Err(panic) => Served::Now(asked.panicked(&*panic)),
            };
            memory.give_back();
            match served {
                Served::Now(answer) => {
                    drop(timer);
                    Served::Now(answer)
                }
                Served::Later(answer) => Served::Later(Box::pin(async move {
                    let answer = AssertUnwindSafe(answer).catch_unwind().await;
                    drop(timer);
                    answer.unwrap_or_else(|panic| asked.panicked(&*panic))
                })),
            }
        })
    }
}

/// What was asked by which client, for the log.
#[derive(Debug, Clone, Copy)]
struct Asked {
    api: ApiKey,
    version: i16,
    client: SocketAddr,
}

impl Asked {
    fn refused(&self, error: &DecodeError) {
        RefusedFrame::Malformed.count();
        tracing::info!(
            client = %self.client,
            api = self.api.name(),
            api_version = self.version,
            %error,
            "request refused"
        );
    }

    /// A fault of ours that one client found is that client's: its connection ends, and nothing else.
    fn panicked(&self, panic: &(dyn Any + Send)) -> Answer {
        metrics::count_panic(self.api.name());
        tracing::error!(
            client = %self.client,
            api = self.api.name(),
            api_version = self.version,
            error = panic_text(panic),
            "request panicked: its connection is closed"
        );
        Answer::Close
    }
}

fn closed() -> Pin<Box<dyn Future<Output = Served> + Send>> {
    Box::pin(std::future::ready(Served::Now(Answer::Close)))
}

/// An unknown version of ApiVersions is answered in version 0 (KIP-511); anything else unknown closes the connection.
fn unsupported(
    connection: &ConnectionInfo,
    header: &RequestHeader,
) -> Pin<Box<dyn Future<Output = Served> + Send>> {
    if header.api_key == ApiKey::ApiVersions as i16 {
        let answer = api::api_versions::unsupported_version();
        let frame = api::encode::<ApiVersionsRequest>(0, header.correlation_id, &answer);
        let answer = frame.map_or(Answer::Close, |frame| {
            Answer::Frame(frame, BytePermit::empty())
        });
        return Box::pin(std::future::ready(Served::Now(answer)));
    }
    RefusedFrame::Unsupported.count();
    tracing::info!(
        client = %connection.peer,
        api_key = header.api_key,
        api_version = header.api_version,
        "connection closed: API or version not served"
    );
    closed()
}
