//! A handler of one API, and the way of a request through it: decoded, given memory for its answer, served, encoded.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::{DecodeError, EncodeError, FrameWriter, Message, Request};
use highwater_runtime::BytePermit;
use tokio::time::Instant;

use super::context::RequestContext;
use super::room::{NoRoom, Room};
use crate::memory::ELEMENT_BYTES;
use crate::net::{Answer, Later, Served, Session};

/// The answer type of a handler's request.
pub(crate) type ResponseOf<H> = <<H as Handler>::Request as Request>::Response;

/// What a handler answers with.
pub(crate) enum Reply<R> {
    /// The answer.
    Ready(R),
    /// The answer, with memory that it holds until it is written.
    Holding(R, BytePermit),
    /// The answer, and the session that the connection has from here on.
    Negotiated(R, Session),
    /// The request is admitted, and its handler writes the answer later. Only Produce does this (A3).
    Pending(Later<AnswerFuture>),
    /// No answer is sent, as for acks=0.
    Silent,
    /// The connection is closed, as for an error with acks=0.
    Close,
}

impl<R> std::fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Holding(..) => "Holding",
            Self::Negotiated(..) => "Negotiated",
            Self::Pending(_) => "Pending",
            Self::Silent => "Silent",
            Self::Close => "Close",
        })
    }
}

/// Serves one Kafka API.
pub(crate) trait Handler: 'static {
    /// Its request.
    type Request: Request;
    /// The versions served.
    const VERSIONS: RangeInclusive<i16>;
    /// Estimates the memory of the answer to a request whose lists have so many elements. It is held from before the
    /// answer is made (M3). It is 0 if the handler may wait for other requests or for the store and the request bounds
    /// the size of its answer: such an answer is counted once it is made.
    fn answer_bytes(_ctx: &RequestContext, _request: &Self::Request, _elements: usize) -> u64 {
        0
    }
    /// Serves one request. A connection awaits its requests one at a time, in their order. The future is dropped if it
    /// takes long after the client closed the connection.
    fn handle(
        ctx: RequestContext,
        request: Self::Request,
    ) -> impl Future<Output = Reply<ResponseOf<Self>>> + Send;
}

/// The deadline of a request that names its own time limit and is about to be served; one without a time limit is late
/// already.
pub(super) fn deadline_of(timeout_ms: i32) -> Instant {
    Instant::now() + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// Estimates the memory of an answer that has an entry of fixed size for each element of its request.
pub(super) fn element_bytes(elements: usize) -> u64 {
    ELEMENT_BYTES.saturating_mul(elements as u64)
}

/// The memory for an answer whose size is known only once it is made. It bounds how many are made at a time.
pub(super) fn unknown_size(ctx: &RequestContext) -> u64 {
    ctx.broker.budgets.answers.of(usize::MAX).limit() / 4
}

/// A request that is being served.
pub(crate) type ServeFuture =
    Pin<Box<dyn Future<Output = Result<Served<AnswerFuture>, DecodeError>> + Send>>;
/// The answer to a request that is admitted.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Decodes a request, and serves it once there is memory for its answer (M3).
pub(super) fn serve<H: Handler>(ctx: RequestContext, body: Bytes) -> ServeFuture {
    Box::pin(async move {
        let broker = Arc::clone(&ctx.broker);
        let budgets = &broker.budgets;
        let (request, elements) =
            H::Request::decode_within(body, ctx.version, budgets.elements_max)?;
        let writer = AnswerWriter::new(&ctx);
        let no_room = |error: NoRoom| writer.unanswerable::<H::Request>(&error);
        let wanted = H::answer_bytes(&ctx, &request, elements);
        let room = match Room::enter(&budgets.answers, wanted).await {
            Ok(room) => room,
            Err(error) => return Ok(Served::Now(no_room(error))),
        };
        let settled = async |response| match writer.write::<H::Request>(&response) {
            Ok(frame) => {
                let bytes = frame.iter().map(|part| part.len() as u64).sum();
                let permit = room.settle(&budgets.answers, bytes).await;
                permit.map_or_else(no_room, |permit| Answer::Frame(frame, permit))
            }
            Err(close) => close,
        };
        Ok(match H::handle(ctx, request).await {
            Reply::Ready(response) => Served::Now(settled(response).await),
            Reply::Negotiated(response, session) => {
                Served::Negotiated(settled(response).await, Arc::new(session))
            }
            Reply::Holding(response, permit) => {
                Served::Now(writer.answer::<H::Request>(&response, permit))
            }
            Reply::Pending(later) => Served::Later(later),
            Reply::Silent => Served::Now(Answer::Silent),
            Reply::Close => Served::Now(Answer::Close),
        })
    })
}

/// Writes the answer to one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerWriter {
    version: i16,
    correlation_id: i32,
    client: SocketAddr,
}

impl AnswerWriter {
    pub(super) fn new(ctx: &RequestContext) -> Self {
        Self {
            version: ctx.version,
            correlation_id: ctx.correlation_id,
            client: ctx.connection.peer,
        }
    }

    /// The answer, with memory that it holds until it is written.
    pub(super) fn answer<R: Request>(self, response: &R::Response, permit: BytePermit) -> Answer {
        match self.write::<R>(response) {
            Ok(frame) => Answer::Frame(frame, permit),
            Err(close) => close,
        }
    }

    /// The answer's frame; where it can't be written, the connection is closed instead.
    pub(super) fn write<R: Request>(self, response: &R::Response) -> Result<Vec<Bytes>, Answer> {
        let frame = encode::<R>(self.version, self.correlation_id, response);
        frame.map_err(|error| self.unanswerable::<R>(&error))
    }

    /// Closes the connection if an answer has a text that does not fit its field, as in Kafka, or if there is no memory
    /// for it.
    fn unanswerable<R: Request>(self, error: &(dyn std::error::Error + 'static)) -> Answer {
        tracing::info!(
            client = %self.client,
            api = R::KEY.name(),
            api_version = self.version,
            error,
            "connection closed: the response cannot be encoded"
        );
        Answer::Close
    }
}

/// A whole answer frame.
///
/// # Errors
/// [`EncodeError`].
pub(crate) fn encode<R: Request>(
    version: i16,
    correlation_id: i32,
    response: &R::Response,
) -> Result<Vec<Bytes>, EncodeError> {
    let flexible = version >= R::FLEXIBLE_FROM;
    let mut out = FrameWriter::response(R::KEY, flexible, correlation_id);
    response.write(&mut out, version);
    crate::metrics::count_errors(R::KEY, out.errors());
    out.finish()
}
