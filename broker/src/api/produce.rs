//! Produce (key 0), versions 3..=13, advertised from 0 (KAFKA-18659).
//! Source: schema/produce_request.kmsg; KIP-98, KIP-467, KIP-516, KIP-951.
//! Behaviour: a batch is appended when its request is read, and answered when it is durable; acks=1 is as acks=all
//! (I1). A broker on the disk WAL that is cut off answers NOT_LEADER_OR_FOLLOWER (D5).
//! Deviations from Apache Kafka: none.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use highwater_partition_log::{AppendError, Appended, Origin, PartitionLog, ValidatedBatch};
use highwater_protocol::messages::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use highwater_protocol::{ErrorCode, Records, StrBytes};
use highwater_runtime::BytePermit;
use highwater_s3stream::{AppendPermit, AppendReceipt};
use highwater_types::{StreamOffset, TopicId};
use tokio::time::Instant;

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::handler::{AnswerWriter, Handler, Reply, deadline_of};
use super::topic::resolve_topic;
use crate::auth::{Operation, Resource};
use crate::net::Later;
use crate::partitions::Partition;

/// Serves Produce.
#[derive(Debug)]
pub(crate) struct Produce;

/// The client id that may write to internal topics (Kafka's `AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT: &str = "__admin_client";

const NOT_YET_DURABLE: &str = "The batch was written and not synced within the request's timeout; it may still become durable.";
const NO_ROOM: &str = "The log cache or the WAL had no room within the request's timeout: uploads or clients are slow. \
    Nothing was written.";

impl Handler for Produce {
    type Request = ProduceRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

    async fn handle(ctx: RequestContext, request: ProduceRequest) -> Reply<ProduceResponse> {
        let acks = request.acks;
        let deadline = deadline_of(request.timeout_ms);
        let mut parts = split(&ctx, request);
        if !(-1..=1).contains(&acks) {
            refuse_all(&mut parts, ErrorCode::InvalidRequiredAcks);
        } else if !ctx.broker.may_acknowledge() {
            refuse_all(&mut parts, ErrorCode::NotLeaderOrFollower);
        } else {
            admit(&ctx, &mut parts, deadline).await;
        }
        let refused = parts
            .iter()
            .any(|part| matches!(part.state, State::Refused(..)));
        let last = last_receipt(&parts);
        if acks == 0 {
            return if refused { Reply::Close } else { Reply::Silent };
        }
        let Some(last) = last.filter(|receipt| !receipt.is_durable()) else {
            let failure = refused_now(&ctx);
            return Reply::Ready(answer(&ctx, parts, failure.as_ref()));
        };
        let durable = async move {
            let failure = match unless_late(deadline, last.wait()).await {
                Some(Ok(())) => refused_now(&ctx),
                Some(Err(_ended)) => Some(ErrorCode::NotLeaderOrFollower.into()),
                None => {
                    let late = || Refusal::new(ErrorCode::RequestTimedOut, NOT_YET_DURABLE);
                    refused_now(&ctx).or_else(|| Some(late()))
                }
            };
            let response = answer(&ctx, parts, failure.as_ref());
            AnswerWriter::new(&ctx).answer::<ProduceRequest>(&response, BytePermit::empty())
        };
        Reply::Pending(Later {
            answer: Box::pin(durable),
            deadline,
        })
    }
}

/// The result of a future; `None` if it is polled at the deadline and has no result. It sets no timer: the connection
/// polls a pending answer at its deadline ([`Later`]).
async fn unless_late<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if Instant::now() >= deadline => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// One partition of the request while it is served.
#[derive(Debug)]
struct Part {
    name: StrBytes,
    topic_id: TopicId,
    index: i32,
    state: State,
}

#[derive(Debug)]
enum State {
    Asked(Option<Bytes>),
    Checked(Arc<Partition>, Box<ValidatedBatch>),
    Appended(Arc<Partition>, Appended),
    /// The refusal, and the log's start if the log itself refused.
    Refused(Refusal, Option<StreamOffset>),
}

fn split(ctx: &RequestContext, request: ProduceRequest) -> Vec<Part> {
    let mut parts = Vec::new();
    let transaction = request
        .transactional_id
        .as_deref()
        .is_some_and(|id| !ctx.authorize(Operation::Write, Resource::TransactionalId(id)));
    for topic in request.topic_data {
        for PartitionProduceData { index, records, .. } in topic.partition_data {
            let state = if transaction {
                State::Refused(ErrorCode::TransactionalIdAuthorizationFailed.into(), None)
            } else {
                State::Asked(records.map(Records::into_bytes))
            };
            let name = topic.name.clone();
            parts.push(Part {
                name,
                topic_id: topic.topic_id,
                index,
                state,
            });
        }
    }
    parts
}

/// The refusal of what is durable, if this broker may not acknowledge it any more (D5).
fn refused_now(ctx: &RequestContext) -> Option<Refusal> {
    let may = ctx.broker.may_acknowledge();
    (!may).then(|| ErrorCode::NotLeaderOrFollower.into())
}

fn refuse_all(parts: &mut [Part], code: ErrorCode) {
    for part in parts {
        part.state = State::Refused(code.into(), None);
    }
}

/// Checks every partition, reserves once for all of them (M1), then appends to each.
async fn admit(ctx: &RequestContext, parts: &mut [Part], deadline: Instant) {
    let mut bytes = 0;
    for part in parts.iter_mut() {
        ctx.give_way().await;
        let State::Asked(records) = &mut part.state else {
            continue;
        };
        let records = records.take().unwrap_or_default();
        let partition = match find(ctx, part, deadline).await {
            Ok(partition) => partition,
            Err(refusal) => {
                part.state = State::Refused(refusal, None);
                continue;
            }
        };
        if ctx.is_outline {
            part.state = State::Refused(too_large(ctx), None);
            continue;
        }
        let checked = partition
            .log
            .validate(&records, ctx.version, Origin::Client)
            .await;
        part.state = match checked {
            Ok(batch) => {
                bytes = PartitionLog::append_bytes(&batch).saturating_add(bytes);
                State::Checked(partition, Box::new(batch))
            }
            Err(error) => refused_by_log(&partition, &error),
        };
    }
    if bytes == 0 {
        return;
    }
    let permit = reserve(ctx, bytes, deadline).await;
    append_all(ctx, parts, permit, deadline).await;
}

/// Waits for room until the deadline. A timeout polls the request first, and sets its timer only if that waits.
async fn reserve(
    ctx: &RequestContext,
    bytes: u64,
    deadline: Instant,
) -> Result<AppendPermit, Refusal> {
    let reserved = tokio::time::timeout_at(deadline, ctx.broker.reserve(bytes)).await;
    match reserved {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(error)) => Err(error::from_stream(&error)),
        Err(_elapsed) => Err(Refusal::new(ErrorCode::RequestTimedOut, NO_ROOM)),
    }
}

/// The refusal of a request for which this node has no memory, although the topic may allow it.
fn too_large(ctx: &RequestContext) -> Refusal {
    let in_force = ctx.broker.config.frames().held;
    Refusal::new(
        ErrorCode::MessageTooLarge,
        format!("The request is over the {in_force} bytes that highwater.memory.limit allows."),
    )
}

async fn append_all(
    ctx: &RequestContext,
    parts: &mut [Part],
    mut permit: Result<AppendPermit, Refusal>,
    deadline: Instant,
) {
    for part in parts {
        let state = std::mem::replace(&mut part.state, State::Asked(None));
        part.state = match (state, &mut permit) {
            (State::Checked(partition, batch), Ok(permit)) => {
                append(ctx, partition, &batch, permit, deadline).await
            }
            (State::Checked(..), Err(refusal)) => State::Refused(refusal.clone(), None),
            (other, _) => other,
        };
    }
}

/// Appends to a partition. While it is being handed over this waits, and the connection with it: a later batch of the same
/// producer must not be appended before this one if the partition stays, also if it does under another leader epoch (A3).
/// The next leader is named if it does not stay.
async fn append(
    ctx: &RequestContext,
    mut partition: Arc<Partition>,
    batch: &ValidatedBatch,
    permit: &mut AppendPermit,
    deadline: Instant,
) -> State {
    loop {
        match partition.log.append(permit, batch.clone()) {
            Ok(appended) => {
                let (bytes, records) = batch.size();
                ctx.broker.metrics.produced(bytes, records);
                return State::Appended(partition, appended);
            }
            Err(AppendError::HandingOver) => {
                ctx.broker.partitions.wait_handed_over(&partition).await;
                if partition.log.is_handing_over() {
                    let again = ctx
                        .broker
                        .partitions
                        .led(&partition.topic, partition.index, -1);
                    let opened = match again {
                        Ok(led) => led.open(deadline).await,
                        Err(refusal) => Err(refusal),
                    };
                    partition = match opened {
                        Ok(opened) if !Arc::ptr_eq(&opened, &partition) => opened,
                        Ok(_) => {
                            return State::Refused(ErrorCode::NotLeaderOrFollower.into(), None);
                        }
                        Err(refusal) => return State::Refused(refusal, None),
                    };
                }
            }
            // it may be fenced, and the batches between may be with the next leader: a client must not give up
            Err(AppendError::OutOfOrderSequence { .. }) if ctx.broker.is_cut_off() => {
                return State::Refused(ErrorCode::NotLeaderOrFollower.into(), None);
            }
            Err(error) => return refused_by_log(&partition, &error),
        }
    }
}

/// Kafka sends the log's start with refusals of its validation and of its producer state, but not with those of batches
/// that cannot be read or are too large (`ReplicaManager.appendRecordsToLocalLog`).
fn refused_by_log(partition: &Partition, error: &AppendError) -> State {
    let start = match error {
        AppendError::NotOneBatch
        | AppendError::OldFormat
        | AppendError::ZstdTooEarly
        | AppendError::Corrupt(_)
        | AppendError::Unreadable(_)
        | AppendError::Transactional
        | AppendError::HandingOver
        | AppendError::TooLarge { .. }
        | AppendError::OverSegment { .. } => None,
        AppendError::InvalidRecord { .. }
        | AppendError::InvalidTimestamp { .. }
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::OldProducerEpoch { .. } => Some(partition.log.bounds().start),
    };
    State::Refused(error::from_append(error), start)
}

/// The open partition that a part of the request names.
async fn find(
    ctx: &RequestContext,
    part: &mut Part,
    deadline: Instant,
) -> Result<Arc<Partition>, Refusal> {
    let id = (ctx.version >= 13).then_some(part.topic_id);
    let topic = resolve_topic(ctx, id, &part.name, Operation::Write)?;
    if topic.internal && ctx.client_id() != ADMIN_CLIENT {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    part.topic_id = topic.id;
    let led = ctx.broker.partitions.led(&topic, part.index, -1)?;
    led.open(deadline).await
}

fn last_receipt(parts: &[Part]) -> Option<AppendReceipt> {
    let receipts = parts.iter().filter_map(|part| match &part.state {
        State::Appended(_, appended) => appended.receipt.as_ref(),
        _ => None,
    });
    AppendReceipt::last_of(receipts).cloned()
}

fn answer(ctx: &RequestContext, parts: Vec<Part>, failure: Option<&Refusal>) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    let mut leaders = BTreeSet::new();
    for part in parts {
        let mut answer = match part.state {
            State::Appended(partition, appended) => {
                // what is durable is acknowledged although another part of the request is late
                let failure = failure.filter(|failure| !is_in_time(failure, &appended));
                match (partition.refuses(), failure) {
                    // The batch may be durable, but nothing is acknowledged once the partition is closed (I3).
                    (Some(closed), _) => refused(&closed.code().into(), None),
                    (None, None) => PartitionProduceResponse {
                        base_offset: appended.base_offset,
                        log_append_time_ms: appended.log_append_time_ms,
                        log_start_offset: appended.log_start_offset,
                        ..Default::default()
                    },
                    (None, Some(refusal)) => refused(refusal, None),
                }
            }
            State::Refused(refusal, start) => refused(&refusal, start),
            State::Asked(_) | State::Checked(..) => {
                refused(&ErrorCode::UnknownServerError.into(), None)
            }
        };
        answer.index = part.index;
        if answer.error_code == ErrorCode::NotLeaderOrFollower.code() {
            let cluster = ctx.broker.cluster();
            let (leader, epoch) = cluster.leader_of(part.topic_id, &part.name, part.index);
            leaders.insert(leader);
            answer.current_leader.leader_id = leader.0;
            answer.current_leader.leader_epoch = epoch.0;
        }
        push(&mut response, part.name, part.topic_id, answer);
    }
    if !leaders.is_empty() && ctx.version >= 10 {
        let cluster = ctx.broker.cluster();
        let endpoints = cluster.live_among(&leaders, &ctx.connection.listener);
        response.node_endpoints = endpoints.map(Into::into).collect();
    }
    response
}

/// Whether a batch is durable at the deadline of its request.
fn is_in_time(failure: &Refusal, appended: &Appended) -> bool {
    let receipt = appended.receipt.as_ref();
    failure.code == ErrorCode::RequestTimedOut && receipt.is_none_or(AppendReceipt::is_durable)
}

fn refused(refusal: &Refusal, start: Option<StreamOffset>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        error_code: refusal.code.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: start.unwrap_or(-1),
        record_errors: refusal.record_errors(),
        error_message: refusal.text(),
        ..Default::default()
    }
}

fn push(
    response: &mut ProduceResponse,
    name: StrBytes,
    topic_id: TopicId,
    answer: PartitionProduceResponse,
) {
    match response.responses.last_mut() {
        Some(last) if last.name == name && last.topic_id == topic_id => {
            last.partition_responses.push(answer);
        }
        _ => response.responses.push(TopicProduceResponse {
            name,
            topic_id,
            partition_responses: vec![answer],
        }),
    }
}
