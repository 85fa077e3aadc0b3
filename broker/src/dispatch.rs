//! Takes a frame to its handler: header, version, access and metrics. Everything that belongs to one API is in its row
//! of the table.

use std::any::Any;
use std::future::{Future, Ready};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use highwater_protocol::{ApiKey, DecodeError, RequestHeader};
use highwater_runtime::{BytePermit, panic_text};
use tracing::Span;

use crate::api::{self, AnswerFuture, ApiEntry, RequestContext, ServeFuture};
use crate::broker::Broker;
use crate::memory::FrameMemory;
use crate::metrics::{self, ApiMetrics, RefusedFrame, RequestTimer};
use crate::net::{Answer, ConnectionInfo, Frame, Later, Served, Service, Session};

/// Serves the requests of every connection.
#[derive(Debug)]
pub(crate) struct Dispatch {
    broker: Arc<Broker>,
    metrics: ApiMetrics,
}

impl Dispatch {
    /// Makes the dispatcher of a node.
    #[must_use]
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        let apis = api::APIS.iter().map(|api| (api.key, api.times_itself));
        Self {
            broker,
            metrics: ApiMetrics::new(apis),
        }
    }
}

impl Service for Dispatch {
    type Serving = Serving;
    type Answer = Admitted;

    fn serve(
        &self,
        connection: &Arc<ConnectionInfo>,
        session: &Arc<Session>,
        frame: Frame,
    ) -> Serving {
        let mut body = frame.body;
        let header = match RequestHeader::parse(&mut body) {
            Ok(header) => header,
            Err(error) => {
                RefusedFrame::Header.count();
                tracing::info!(client = %connection.peer, %error, "request header refused");
                return Serving::refused(Answer::Close);
            }
        };
        let row = api::find(header.api_key);
        let served = row.filter(|row| (row.min..=row.max).contains(&header.api_version));
        let Some(entry) = served else {
            return Serving::refused(unsupported(row, connection, session, &header));
        };
        if !entry.access.admits(session) {
            return Serving::refused(unauthenticated(entry, connection));
        }
        let request = ServedRequest {
            api: entry.key,
            version: header.api_version,
            client: connection.peer,
            session: Arc::clone(session),
            span: span(entry.key, &header),
            _timer: self.metrics.request(entry.key),
        };
        let memory = FrameMemory::new(frame.permit);
        let ctx = RequestContext {
            broker: Arc::clone(&self.broker),
            connection: Arc::clone(connection),
            session: Arc::clone(session),
            client_id: header.client_id.as_deref().map(Arc::from),
            version: header.api_version,
            correlation_id: header.correlation_id,
            is_outline: frame.is_outline,
            frame: memory.clone(),
        };
        Serving::Handled(Handled {
            handler: (entry.serve)(ctx, body),
            memory,
            request: Some(request),
        })
    }
}

/// A request that is being served, or that was refused before it reached a handler.
pub(crate) enum Serving {
    Refused(Ready<Answer>),
    Handled(Handled),
}

pub(crate) struct Handled {
    handler: ServeFuture,
    memory: FrameMemory,
    /// `None` once it is served.
    request: Option<ServedRequest>,
}

impl Serving {
    fn refused(answer: Answer) -> Self {
        Self::Refused(std::future::ready(answer))
    }
}

impl Future for Serving {
    type Output = Served<Admitted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Refused(answer) => Pin::new(answer).poll(cx).map(Served::Now),
            Self::Handled(handled) => handled.poll(cx),
        }
    }
}

impl Handled {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Served<Admitted>> {
        let (served, request) = ready!(poll_in(&mut self.request, &mut self.handler, cx));
        self.memory.give_back();
        Poll::Ready(match served {
            Ok(Ok(Served::Now(answer))) => Served::Now(answer),
            Ok(Ok(Served::Negotiated(answer, session))) => Served::Negotiated(answer, session),
            Ok(Ok(Served::Later(Later { answer, deadline }))) => Served::Later(Later {
                answer: Admitted {
                    answer,
                    request: Some(request),
                },
                deadline,
            }),
            Ok(Err(error)) => {
                request.refused(&error);
                Served::Now(Answer::Close)
            }
            Err(close) => Served::Now(close),
        })
    }
}

/// The future answer to an admitted request.
pub(crate) struct Admitted {
    answer: AnswerFuture,
    /// `None` once it is answered.
    request: Option<ServedRequest>,
}

impl Future for Admitted {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Self { answer, request } = &mut *self;
        let (answer, _request) = ready!(poll_in(request, answer, cx));
        Poll::Ready(answer.unwrap_or_else(|close| close))
    }
}

/// Polls a request's future in its span, and catches its panic. Returns the request together with the result.
fn poll_in<T>(
    request: &mut Option<ServedRequest>,
    work: &mut Pin<Box<dyn Future<Output = T> + Send>>,
    cx: &mut Context<'_>,
) -> Poll<(Result<T, Answer>, ServedRequest)> {
    let known = request.take();
    let known = known.expect("what is done is not polled again");
    let entered = known.span.enter();
    let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
    drop(entered);
    let done = match polled {
        Ok(Poll::Ready(done)) => Ok(done),
        Ok(Poll::Pending) => {
            *request = Some(known);
            return Poll::Pending;
        }
        Err(panic) => Err(known.panicked(&*panic)),
    };
    Poll::Ready((done, known))
}

/// The span of a request's log lines. It is at debug level, so it costs nothing when that level is off.
fn span(api: ApiKey, header: &RequestHeader) -> Span {
    tracing::debug_span!(
        "request",
        api = api.name(),
        api_version = header.api_version,
        correlation_id = header.correlation_id,
        client_id = ?header.client_id.as_deref(),
    )
}

/// The request and its client, for the log.
struct ServedRequest {
    api: ApiKey,
    version: i16,
    client: SocketAddr,
    session: Arc<Session>,
    span: Span,
    _timer: RequestTimer,
}

impl ServedRequest {
    fn refused(&self, error: &DecodeError) {
        RefusedFrame::Malformed.count();
        tracing::info!(
            client = %self.client,
            software = ?self.session.software(),
            api = self.api.name(),
            api_version = self.version,
            %error,
            "request refused"
        );
    }

    /// A panic affects only the client that caused it: its connection is closed.
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

/// Answers a version that is not served as its row in the table says; otherwise closes the connection.
fn unsupported(
    row: Option<&ApiEntry>,
    connection: &ConnectionInfo,
    session: &Session,
    header: &RequestHeader,
) -> Answer {
    if let Some(answer) = row.and_then(|row| row.unsupported) {
        let frame = answer(header.correlation_id);
        return frame.map_or(Answer::Close, |frame| {
            Answer::Frame(frame, BytePermit::empty())
        });
    }
    RefusedFrame::Unsupported.count();
    tracing::info!(
        client = %connection.peer,
        software = ?session.software(),
        api_key = header.api_key,
        api_version = header.api_version,
        "connection closed: API or version not served"
    );
    Answer::Close
}

/// As in Kafka, the connection is closed.
fn unauthenticated(entry: &ApiEntry, connection: &ConnectionInfo) -> Answer {
    RefusedFrame::Unauthenticated.count();
    tracing::info!(
        client = %connection.peer,
        api = entry.key.name(),
        "connection closed: the client has not authenticated"
    );
    Answer::Close
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, BufMut, Bytes, BytesMut};
    use highwater_protocol::messages::{ApiVersionsRequest, MetadataRequest};
    use highwater_protocol::{FrameWriter, Request};

    use super::*;
    use crate::fixture::TestNode;

    fn frame<R: Request>(request: &R, version: i16) -> Frame {
        let flexible = version >= R::FLEXIBLE_FROM;
        let mut out = FrameWriter::request(R::KEY, version, flexible, 1, "test");
        request.write(&mut out, version);
        let mut all = BytesMut::new();
        for part in out.finish().expect("fits") {
            all.put_slice(&part);
        }
        let mut body: Bytes = all.freeze();
        // The length, which the connection has removed.
        body.advance(4);
        Frame {
            body,
            permit: BytePermit::empty(),
            is_outline: false,
            class: api::class_of(R::KEY as i16),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_row_of_the_table_says_is_heeded() {
        let node = TestNode::start(&[]).await;
        let dispatch = Dispatch::new(Arc::clone(node.broker()));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Arc::new(ConnectionInfo::new(peer, Arc::from("PLAINTEXT")));
        let serve = |session: &Arc<Session>, frame| dispatch.serve(&connection, session, frame);
        // A client that has not authenticated may send ApiVersions, and nothing else.
        let nobody = Arc::new(Session::default());
        let metadata = || frame(&MetadataRequest::default(), 12);
        let served = serve(&nobody, metadata()).await;
        assert!(matches!(served, Served::Now(Answer::Close)), "{served:?}");
        let versions = ApiVersionsRequest {
            client_software_name: "librdkafka".into(),
            client_software_version: "2.6.1".into(),
            ..Default::default()
        };
        let served = serve(&nobody, frame(&versions, 3)).await;
        let Served::Negotiated(Answer::Frame(..), session) = served else {
            panic!("{served:?}");
        };
        assert_eq!(session.software(), "librdkafka 2.6.1");
        assert_eq!(session.principal, None);
        let served = serve(&session, metadata()).await;
        assert!(matches!(served, Served::Now(Answer::Close)), "{served:?}");
        // KIP-511: the answer to a version that is not served.
        let served = serve(&nobody, frame(&versions, 99)).await;
        assert!(
            matches!(served, Served::Now(Answer::Frame(..))),
            "{served:?}"
        );
        let served = serve(&nobody, frame(&MetadataRequest::default(), 99)).await;
        assert!(matches!(served, Served::Now(Answer::Close)), "{served:?}");
        let somebody = Arc::new(Session::anonymous());
        let served = serve(&somebody, metadata()).await;
        assert!(
            matches!(served, Served::Now(Answer::Frame(..))),
            "{served:?}"
        );
        node.stop().await;
    }
}
