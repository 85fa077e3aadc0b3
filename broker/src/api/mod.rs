//! One module per Kafka API, one table that says key, versions and handler.
//!
//! ApiVersions, the README's matrix and the dispatch are made from [`APIS`]; a handler that is not in it does not
//! exist.

// numbers of clients: what cannot overflow says so (CONVENTIONS, Errors)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod alter_configs;
mod api_versions;
mod context;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_topic_partitions;
pub(crate) mod error;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod room;
mod sasl_handshake;
mod sync_group;
mod topic;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::{ApiKey, DecodeError, EncodeError, FrameWriter, Message, Request};
use highwater_runtime::BytePermit;

pub(crate) use context::RequestContext;
use room::{NoRoom, Room};

use crate::memory::{ELEMENT_BYTES, FrameBudget};
use crate::net::{Answer, Later, RequestClass, Served, Session};

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

/// Estimates the memory of an answer that has an entry of fixed size for each element of its request.
fn element_bytes(elements: usize) -> u64 {
    ELEMENT_BYTES.saturating_mul(elements as u64)
}

/// The memory for an answer whose size is known only once it is made. It bounds how many are made at a time.
fn unknown_size(ctx: &RequestContext) -> u64 {
    ctx.broker.budgets.answers.of(usize::MAX).limit() / 4
}

/// A request that is being served.
pub(crate) type ServeFuture =
    Pin<Box<dyn Future<Output = Result<Served<AnswerFuture>, DecodeError>> + Send>>;
/// The answer to a request that is admitted.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a connection must have achieved before it may send requests of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: a client sends such requests before it authenticates, or in order to.
    Anyone,
    /// Its principal is known.
    Authenticated,
}

impl Access {
    /// Whether a connection with that session may send such requests.
    pub(crate) fn admits(self, session: &Session) -> bool {
        match self {
            Self::Anyone => true,
            Self::Authenticated => session.principal.is_some(),
        }
    }
}

/// Writes the answer to a version that is not served, with its correlation id.
type UnsupportedAnswer = fn(i32) -> Result<Vec<Bytes>, EncodeError>;

/// A row of the table. Whatever is particular to an API stands in a column, so that neither the dispatch nor a
/// connection has to know which API it is.
#[derive(Debug, Clone, Copy)]
pub struct ApiEntry {
    /// The API.
    pub key: ApiKey,
    /// The oldest version in the answer to ApiVersions.
    pub advertised_min: i16,
    /// The oldest version served.
    pub min: i16,
    /// The newest version served.
    pub max: i16,
    /// Which connections may send it.
    pub(crate) access: Access,
    /// What a connection has to know of it.
    pub(crate) class: RequestClass,
    /// Writes the answer to a version that is not served. Without it such a request closes the connection.
    pub(crate) unsupported: Option<UnsupportedAnswer>,
    /// Whether the handler measures its time itself, because much of it may be a wait.
    pub(crate) times_itself: bool,
    /// Decodes and serves a body.
    pub(crate) serve: fn(RequestContext, Bytes) -> ServeFuture,
}

const fn entry<H: Handler>() -> ApiEntry {
    ApiEntry {
        key: H::Request::KEY,
        advertised_min: *H::VERSIONS.start(),
        min: *H::VERSIONS.start(),
        max: *H::VERSIONS.end(),
        access: Access::Authenticated,
        class: RequestClass {
            budget: FrameBudget::Other,
            overlaps: false,
            is_outlined: false,
        },
        unsupported: None,
        times_itself: false,
        serve: serve::<H>,
    }
}

/// Produce: requests overlap (A3), take the budget of records, and are answered where they are too large to be held.
/// Kafka advertises it from 0 though it refuses versions below 3, for librdkafka's sake (KAFKA-18659).
const PRODUCE: ApiEntry = ApiEntry {
    advertised_min: 0,
    class: RequestClass {
        budget: FrameBudget::Produce,
        overlaps: true,
        is_outlined: true,
    },
    ..entry::<produce::Produce>()
};

const FETCH: ApiEntry = ApiEntry {
    times_itself: true,
    ..entry::<fetch::Fetch>()
};

const SASL_HANDSHAKE: ApiEntry = ApiEntry {
    access: Access::Anyone,
    ..entry::<sasl_handshake::SaslHandshake>()
};

/// ApiVersions: a version that is not served is answered in version 0 (KIP-511).
const API_VERSIONS: ApiEntry = ApiEntry {
    access: Access::Anyone,
    unsupported: Some(api_versions::unsupported),
    ..entry::<api_versions::ApiVersions>()
};

fn serve<H: Handler>(ctx: RequestContext, body: Bytes) -> ServeFuture {
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
struct AnswerWriter {
    version: i16,
    correlation_id: i32,
    client: SocketAddr,
}

impl AnswerWriter {
    fn new(ctx: &RequestContext) -> Self {
        Self {
            version: ctx.version,
            correlation_id: ctx.correlation_id,
            client: ctx.connection.peer,
        }
    }

    /// The answer, with memory that it holds until it is written.
    fn answer<R: Request>(self, response: &R::Response, permit: BytePermit) -> Answer {
        match self.write::<R>(response) {
            Ok(frame) => Answer::Frame(frame, permit),
            Err(close) => close,
        }
    }

    /// The answer's frame; where it can't be written, the connection is closed instead.
    fn write<R: Request>(self, response: &R::Response) -> Result<Vec<Bytes>, Answer> {
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

/// Every API served, by key.
pub static APIS: &[ApiEntry] = &[
    PRODUCE,
    FETCH,
    entry::<list_offsets::ListOffsets>(),
    entry::<metadata::Metadata>(),
    entry::<offset_commit::OffsetCommit>(),
    entry::<offset_fetch::OffsetFetch>(),
    entry::<find_coordinator::FindCoordinator>(),
    entry::<join_group::JoinGroup>(),
    entry::<heartbeat::Heartbeat>(),
    entry::<leave_group::LeaveGroup>(),
    entry::<sync_group::SyncGroup>(),
    entry::<describe_groups::DescribeGroups>(),
    entry::<list_groups::ListGroups>(),
    SASL_HANDSHAKE,
    API_VERSIONS,
    entry::<create_topics::CreateTopics>(),
    entry::<delete_topics::DeleteTopics>(),
    entry::<delete_records::DeleteRecords>(),
    entry::<init_producer_id::InitProducerId>(),
    entry::<offset_for_leader_epoch::OffsetForLeaderEpoch>(),
    entry::<describe_configs::DescribeConfigs>(),
    entry::<alter_configs::AlterConfigs>(),
    entry::<create_partitions::CreatePartitions>(),
    entry::<delete_groups::DeleteGroups>(),
    entry::<incremental_alter_configs::IncrementalAlterConfigs>(),
    entry::<offset_delete::OffsetDelete>(),
    entry::<describe_cluster::DescribeCluster>(),
    entry::<describe_topic_partitions::DescribeTopicPartitions>(),
];

/// The row of an API key as it was received.
#[must_use]
pub fn find(key: i16) -> Option<&'static ApiEntry> {
    APIS.iter().find(|entry| entry.key as i16 == key)
}

/// The class of requests with that API key. An API that is not served has the class of most APIs.
#[must_use]
pub(crate) fn class_of(key: i16) -> RequestClass {
    find(key).map_or_else(RequestClass::default, |entry| entry.class)
}

/// The table of APIs and versions for the README, in Markdown.
#[must_use]
pub fn matrix() -> String {
    let mut out = String::from("| key | API | versions |\n|---|---|---|\n");
    for entry in APIS {
        let name = entry.key.name();
        out.push_str(&format!(
            "| {} | {name} | {}-{} |\n",
            entry.key as i16, entry.min, entry.max
        ));
    }
    out
}
