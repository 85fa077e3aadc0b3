//! Fetch (key 1), versions 4..=18.
//! Source: schema/fetch_request.kmsg; KIP-74, KIP-227, KIP-320, KIP-516, KIP-951.
//! Behaviour: from the log cache where it can, from objects where it must; waits for min_bytes at the tail.
//! Deviations from Apache Kafka: a fetch from a follower (replica id 0 or more) is refused, there are none. Where there is no
//! memory for a wait, the answer comes at once and tells in `throttle_time_ms` for how long the next request is not read.

mod read;

use std::sync::Arc;
use std::time::Duration;

use highwater_partition_log::Isolation;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use tokio::time::Instant;

use self::read::Outcome;
use super::error::Refusal;
use super::topic::resolve_topic;
use super::{Handler, Reply, RequestContext};
use crate::auth::Operation;
use crate::partitions::{FetchKey, FetchPlan, Partition, SessionAsked, SessionError, Told, Wanted};

/// Serves Fetch.
#[derive(Debug)]
pub struct Fetch;

impl Handler for Fetch {
    type Request = FetchRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

    async fn handle(mut ctx: RequestContext, request: FetchRequest) -> Reply<FetchResponse> {
        let begun = Instant::now();
        if request.replica_id.max(request.replica_state.replica_id) >= 0 {
            return Reply::Ready(failed(ErrorCode::InvalidRequest));
        }
        let mut limits = Limits::new(&ctx, &request);
        let plan = match plan(&ctx, request) {
            Ok(plan) => plan,
            Err(error) => return Reply::Ready(failed(of_session(error))),
        };
        limits.waiting_bytes = waiting_bytes(&plan);
        let mut targets = Vec::with_capacity(plan.partitions.len());
        for (key, wanted) in &plan.partitions {
            ctx.give_way().await;
            targets.push(target(&ctx, key, *wanted));
        }
        // a wait keeps as little as it can
        ctx.client_id = None;
        let found = read::read(&ctx, &targets, &limits).await;
        for result in &found.results {
            if let Outcome::Read(read) = result {
                ctx.broker.metrics.fetched(&read.batches);
            }
        }
        ctx.broker.metrics.fetch_took(begun.elapsed(), found.waited);
        let mut response = answer(&ctx, &plan, targets, found.results).await;
        if let Some(rest) = found.rest {
            ctx.connection.rest(rest);
            response.throttle_time_ms = i32::try_from(rest.as_millis()).unwrap_or(i32::MAX);
        }
        Reply::Holding(response, found.permit)
    }
}

/// What the whole request may take.
#[derive(Debug)]
struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
    isolation: Isolation,
    /// About what it keeps while it waits.
    waiting_bytes: u64,
}

impl Limits {
    fn new(ctx: &RequestContext, request: &FetchRequest) -> Self {
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let max_bytes = size(
            request
                .max_bytes
                .min(ctx.broker.config.int("fetch.max.bytes")),
        );
        let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        Self {
            max_bytes,
            min_bytes: size(request.min_bytes).min(max_bytes),
            deadline: Instant::now() + Duration::from_millis(wait),
            isolation: if request.isolation_level == 1 {
                Isolation::ReadCommitted
            } else {
                Isolation::ReadUncommitted
            },
            waiting_bytes: 0,
        }
    }
}

/// A partition that is read, or why it is not.
#[derive(Debug)]
struct Target {
    wanted: Wanted,
    partition: Result<Arc<Partition>, Refusal>,
}

impl Target {
    /// The partition, as long as its topic is there.
    fn partition(&self) -> Result<&Partition, Refusal> {
        match &self.partition {
            Ok(partition) if partition.is_gone() => Err(ErrorCode::UnknownTopicOrPartition.into()),
            Ok(partition) => Ok(partition),
            Err(refusal) => Err(refusal.clone()),
        }
    }
}

/// All that is asked for, without what the request says beside it.
fn plan(ctx: &RequestContext, request: FetchRequest) -> Result<FetchPlan, SessionError> {
    let session = SessionAsked {
        id: request.session_id,
        epoch: request.session_epoch,
        uses_topic_ids: ctx.version >= 13,
    };
    let (wanted, forgotten) = asked(request);
    ctx.broker.sessions.plan(session, wanted, &forgotten)
}

/// About what a fetch keeps while it waits: how each partition is named, what is wanted of it, and what watches it.
fn waiting_bytes(plan: &FetchPlan) -> u64 {
    const PARTITION_BYTES: u64 = 320;
    let partitions = plan.partitions.iter();
    partitions.fold(0, |bytes: u64, (key, _)| {
        let name = key.name.len() as u64;
        bytes.saturating_add(PARTITION_BYTES).saturating_add(name)
    })
}

fn asked(request: FetchRequest) -> (Vec<(FetchKey, Wanted)>, Vec<FetchKey>) {
    let mut wanted = Vec::new();
    for topic in request.topics {
        for partition in topic.partitions {
            let key = FetchKey {
                name: topic.topic.clone(),
                id: topic.topic_id,
                partition: partition.partition,
            };
            wanted.push((
                key,
                Wanted {
                    offset: partition.fetch_offset,
                    current_leader_epoch: partition.current_leader_epoch,
                    max_bytes: partition.partition_max_bytes,
                },
            ));
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        for partition in topic.partitions {
            forgotten.push(FetchKey {
                name: topic.topic.clone(),
                id: topic.topic_id,
                partition,
            });
        }
    }
    (wanted, forgotten)
}

fn of_session(error: SessionError) -> ErrorCode {
    match error {
        SessionError::UnknownId => ErrorCode::FetchSessionIdNotFound,
        SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::OtherNaming => ErrorCode::FetchSessionTopicIdError,
    }
}

fn failed(code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code: code.code(),
        ..Default::default()
    }
}

fn target(ctx: &RequestContext, key: &FetchKey, wanted: Wanted) -> Target {
    let find = || {
        let id = (ctx.version >= 13).then_some(key.id);
        let topic = resolve_topic(ctx, id, &key.name, Operation::Read)?;
        let partition = ctx.broker.partitions.find(&topic, key.partition)?;
        partition.check_leader_epoch(wanted.current_leader_epoch)?;
        Ok(partition)
    };
    Target {
        wanted,
        partition: find(),
    }
}

async fn answer(
    ctx: &RequestContext,
    plan: &FetchPlan,
    targets: Vec<Target>,
    results: Vec<Outcome>,
) -> FetchResponse {
    let mut response = FetchResponse {
        session_id: plan.session_id,
        ..Default::default()
    };
    let mut moved = false;
    for (((key, _), target), result) in plan.partitions.iter().zip(targets).zip(results) {
        ctx.give_way().await;
        let (data, told, served) = partition_data(ctx, key, &target, result);
        let is_error = data.error_code != 0;
        if !plan.tell(key, told, served, is_error) {
            continue;
        }
        moved |= data.current_leader.leader_id >= 0;
        match response.responses.last_mut() {
            Some(last) if last.topic == key.name && last.topic_id == key.id => {
                last.partitions.push(data);
            }
            _ => response.responses.push(FetchableTopicResponse {
                topic: key.name.clone(),
                topic_id: key.id,
                partitions: vec![data],
            }),
        }
    }
    if moved && ctx.version >= 16 {
        response.node_endpoints = ctx.broker.fetch_endpoints(&ctx.connection.listener);
    }
    response
}

fn partition_data(
    ctx: &RequestContext,
    key: &FetchKey,
    target: &Target,
    result: Outcome,
) -> (PartitionData, Told, bool) {
    let mut data = PartitionData {
        partition_index: key.partition,
        ..Default::default()
    };
    match result {
        Outcome::Read(read) => {
            data.high_watermark = read.high_watermark;
            data.last_stable_offset = read.last_stable_offset;
            data.log_start_offset = read.log_start_offset;
            data.aborted_transactions = read.aborted.map(|aborted| {
                let one = |(producer_id, first_offset)| AbortedTransaction {
                    producer_id,
                    first_offset,
                };
                aborted.into_iter().map(one).collect()
            });
            let served = !read.batches.is_empty();
            data.records = Some(read.batches.into());
            let told = Told {
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
                log_start_offset: data.log_start_offset,
            };
            (data, told, served)
        }
        Outcome::Failed(_) | Outcome::Cold => {
            let refusal = match result {
                Outcome::Failed(refusal) => refusal,
                _ => ErrorCode::UnknownServerError.into(),
            };
            data.error_code = refusal.code.code();
            data.high_watermark = -1;
            // of what the metadata does not know: none; of what the log refuses: nothing is said
            let by_log = matches!(
                refusal.code,
                ErrorCode::UnknownLeaderEpoch | ErrorCode::FencedLeaderEpoch
            );
            if by_log || target.partition.is_ok() {
                data.aborted_transactions = None;
            }
            data.records = Some(Vec::new().into());
            let leader_moved = matches!(
                refusal.code,
                ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
            );
            if leader_moved {
                let id = target
                    .partition
                    .as_ref()
                    .map_or(key.id, |partition| partition.topic.id);
                let (leader, epoch) = ctx.broker.leader_of(id, &key.name, key.partition);
                data.current_leader.leader_id = leader.0;
                data.current_leader.leader_epoch = epoch.0;
            }
            let told = Told {
                high_watermark: -1,
                last_stable_offset: -1,
                log_start_offset: -1,
            };
            (data, told, false)
        }
    }
}
