//! Fetch (key 1), versions 4..=18.
//! Source: schema/fetch_request.kmsg; KIP-74, KIP-227, KIP-320, KIP-516, KIP-951.
//! Behaviour: from the log cache where it can, from objects where it must; waits for min_bytes at the tail.
//! Deviations from Apache Kafka: a fetch from a follower (replica id 0 or more) is refused, there are none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_partition_log::{Isolation, ReadError, ReadOutcome};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use highwater_runtime::{ByteBudget, BytePermit};
use tokio::time::Instant;

use super::error::{self, Refusal};
use super::{Handler, Reply, RequestContext};
use crate::auth::{Operation, Resource};
use crate::partitions::{
    FetchKey, FetchPlan, Partition, SessionAsked, SessionError, Told, Wanted, fetch_wait,
};

/// Serves Fetch.
#[derive(Debug)]
pub struct Fetch;

/// How long past `max_wait` a fetch waits for a cold read that is under way.
const COLD_GRACE: Duration = Duration::from_millis(500);

impl Handler for Fetch {
    type Request = FetchRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

    async fn handle(ctx: RequestContext, request: FetchRequest) -> Reply<FetchResponse> {
        let begun = Instant::now();
        if request.replica_id.max(request.replica_state.replica_id) >= 0 {
            return Reply::Ready(failed(ErrorCode::InvalidRequest));
        }
        let limits = Limits::new(&ctx, &request);
        let session = SessionAsked {
            id: request.session_id,
            epoch: request.session_epoch,
            uses_topic_ids: ctx.version >= 13,
        };
        let (wanted, forgotten) = asked(request);
        let planned = ctx.broker.sessions.plan(session, wanted, &forgotten);
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return Reply::Ready(failed(of_session(error))),
        };
        let mut targets = Vec::with_capacity(plan.partitions.len());
        for (key, wanted) in &plan.partitions {
            ctx.give_way().await;
            targets.push(target(&ctx, key, *wanted));
        }
        let (results, permit, waited) = read(&ctx, &targets, &limits).await;
        for result in &results {
            if let Outcome::Read(read) = result {
                ctx.broker.metrics.fetched(&read.batches);
            }
        }
        ctx.broker.metrics.fetch_took(begun.elapsed(), waited);
        Reply::Holding(answer(&ctx, &plan, targets, results).await, permit)
    }
}

/// What the whole request may take.
#[derive(Debug)]
struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
    isolation: Isolation,
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

#[derive(Debug)]
enum Outcome {
    Read(ReadOutcome),
    Cold,
    Failed(Refusal),
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
        let topic = if ctx.version >= 13 {
            ctx.broker
                .topic_by_id(key.id)
                .ok_or(ErrorCode::UnknownTopicId)?
        } else {
            if !ctx.authorize(Operation::Read, Resource::Topic(&key.name)) {
                return Err(Refusal::from(ErrorCode::TopicAuthorizationFailed));
            }
            ctx.broker
                .topic(&key.name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?
        };
        if ctx.version >= 13 && !ctx.authorize(Operation::Read, Resource::Topic(&topic.name)) {
            return Err(Refusal::from(ErrorCode::TopicAuthorizationFailed));
        }
        let partition = ctx.broker.partitions.find(&topic, key.partition)?;
        partition.check_leader_epoch(wanted.current_leader_epoch)?;
        Ok(partition)
    };
    Target {
        wanted,
        partition: find(),
    }
}

/// Reads until there is enough, an error, or no time left; answers too how long it waited at the tail.
async fn read(
    ctx: &RequestContext,
    targets: &[Target],
    limits: &Limits,
) -> (Vec<Outcome>, BytePermit, Duration) {
    let mut waited = Duration::ZERO;
    loop {
        // watches are taken before the look, so that nothing that changes after it is missed
        let waiting = fetch_wait::subscribe(targets.iter().filter_map(|target| {
            target
                .partition
                .as_ref()
                .ok()
                .map(|partition| &*partition.log)
        }));
        let Look {
            results,
            bytes,
            available,
        } = look(ctx, targets, limits, limits.max_bytes).await;
        let any_failed = results
            .iter()
            .any(|result| matches!(result, Outcome::Failed(_)));
        let any_cold = results.iter().any(|result| matches!(result, Outcome::Cold));
        let in_time = Instant::now() < limits.deadline && !ctx.connection.has_ended();
        let enough = any_failed || available >= limits.min_bytes.max(1);
        if enough || any_cold || limits.min_bytes == 0 || !in_time || targets.is_empty() {
            let (mut results, mut permit) = hold(ctx, targets, results, bytes, limits).await;
            if any_cold {
                let until = match enough {
                    // what is not in the block cache yet is begun, and served to a later fetch
                    true => Instant::now(),
                    false => limits.deadline + COLD_GRACE,
                };
                let cold = read_cold(ctx, targets, &mut results, until, limits).await;
                if cold.bytes() > 0 {
                    // it holds the whole answer
                    permit = cold;
                }
            }
            fill_bounds(targets, &mut results, limits);
            return (results, permit, waited);
        }
        drop(results);
        let since = Instant::now();
        // both arms are cancellation safe: either way it looks again
        tokio::select! {
            () = fetch_wait::changed(waiting, limits.deadline) => {}
            () = ctx.connection.ends() => {}
        }
        waited += since.elapsed();
    }
}

/// Holds the answer's memory until it is written (I11). Where there is none free, nothing else is held while it waits.
async fn hold(
    ctx: &RequestContext,
    targets: &[Target],
    results: Vec<Outcome>,
    bytes: usize,
    limits: &Limits,
) -> (Vec<Outcome>, BytePermit) {
    if bytes == 0 {
        return (results, BytePermit::empty());
    }
    let budgets = &ctx.broker.budgets;
    let budget = match ctx.connection.takes_promptly() {
        true => &budgets.fetch,
        false => budgets.fetch_slow.of(bytes),
    };
    let share = share_of(budget);
    let (results, bytes) = match bytes > share {
        true => look(ctx, targets, limits, share).await.found(),
        false => (results, bytes),
    };
    let wanted = u64::try_from(bytes).unwrap_or(u64::MAX).min(budget.limit());
    if let Some(permit) = budget.try_acquire(wanted) {
        return (results, permit);
    }
    drop(results);
    let permit = budget.acquire(wanted).await;
    let mut permit = permit.unwrap_or_else(|_never_too_large| BytePermit::empty());
    let (results, bytes) = look(ctx, targets, limits, bytes).await.found();
    give_back(&mut permit, bytes);
    (results, permit)
}

/// What one answer may hold of a budget, so that a few slow clients cannot hold it all; a first batch is whole anyway.
fn share_of(budget: &ByteBudget) -> usize {
    const LEAST_BYTES: u64 = 64 << 10;
    usize::try_from(budget.share().max(LEAST_BYTES)).unwrap_or(usize::MAX)
}

/// Gives back what of a permit is not used.
fn give_back(permit: &mut BytePermit, used: usize) {
    let used = u64::try_from(used).unwrap_or(u64::MAX);
    drop(permit.split(permit.bytes().saturating_sub(used)));
}

/// What one pass over memory finds.
struct Look {
    results: Vec<Outcome>,
    /// Of the batches found.
    bytes: usize,
    /// What counts towards `min_bytes`: of what a limit cut, all that the limit allows, as Kafka counts its slices of files,
    /// which may end within a batch.
    available: usize,
}

impl Look {
    fn found(self) -> (Vec<Outcome>, usize) {
        (self.results, self.bytes)
    }
}

/// One pass over memory. Only the first partition with data may exceed the limits, by one whole batch.
async fn look(ctx: &RequestContext, targets: &[Target], limits: &Limits, max_bytes: usize) -> Look {
    let mut left = max_bytes;
    let (mut total, mut available) = (0_usize, 0_usize);
    let mut results = Vec::with_capacity(targets.len());
    for target in targets {
        ctx.give_way().await;
        let partition = match target.partition() {
            Ok(partition) => partition,
            Err(refusal) => {
                results.push(Outcome::Failed(refusal));
                continue;
            }
        };
        let asked = usize::try_from(target.wanted.max_bytes).unwrap_or(0);
        let limit = asked.min(left);
        let offset = target.wanted.offset;
        let read = partition
            .log
            .read(offset, limit, total == 0, limits.isolation);
        results.push(match read {
            Ok(outcome) => {
                let bytes: usize = outcome.batches.iter().map(Bytes::len).sum();
                let counted = if outcome.is_cut {
                    bytes.max(limit)
                } else {
                    bytes
                };
                available = available.saturating_add(counted);
                total = total.saturating_add(bytes);
                left = left.saturating_sub(bytes);
                Outcome::Read(outcome)
            }
            Err(ReadError::NeedsObjects) => Outcome::Cold,
            Err(error) => Outcome::Failed(error::of_read(&error)),
        });
    }
    Look {
        results,
        bytes: total,
        available,
    }
}

/// Cold reads of all partitions start together; what is not there in time is left to the cache and answered empty. They
/// have memory of their own, so that a replay cannot hold up the tail; what does not fit into it waits for a later fetch.
async fn read_cold(
    ctx: &RequestContext,
    targets: &[Target],
    results: &mut [Outcome],
    until: Instant,
    limits: &Limits,
) -> BytePermit {
    let budgets = &ctx.broker.budgets;
    let budget = match ctx.connection.takes_promptly() {
        true => &budgets.fetch_cold,
        false => budgets.fetch_slow.of(usize::MAX),
    };
    let at_most = share_of(budget);
    let had = bytes_of(results);
    let room = limits.max_bytes.saturating_sub(had).min(at_most);
    let wanted = u64::try_from(room.saturating_add(had)).unwrap_or(u64::MAX);
    let wanted = wanted.min(budget.limit());
    let Ok(Ok(mut permit)) = tokio::time::timeout_at(until, budget.acquire(wanted)).await else {
        return BytePermit::empty();
    };
    let mut from = 0;
    while from < targets.len() {
        // what fails, or has less than it may take, leaves its room to those after it
        let left = room.saturating_sub(bytes_of(results).saturating_sub(had));
        let next = read_some(targets, results, from, left, until, limits.isolation).await;
        if next == from {
            break;
        }
        from = next;
    }
    let all = bytes_of(results);
    give_back(&mut permit, if all > had { all } else { 0 });
    permit
}

/// Starts the cold reads from one target on that have room together; answers the first that has none.
async fn read_some(
    targets: &[Target],
    results: &mut [Outcome],
    from: usize,
    mut left: usize,
    until: Instant,
    isolation: Isolation,
) -> usize {
    let mut at_least_one = bytes_of(results) == 0;
    let mut next = targets.len();
    let mut reads = Vec::new();
    let pairs = targets.iter().zip(results.iter_mut());
    for (at, (target, result)) in pairs.enumerate().skip(from) {
        let (Ok(partition), Outcome::Cold) = (&target.partition, &*result) else {
            continue;
        };
        if left == 0 && !at_least_one {
            next = at;
            break;
        }
        let asked = usize::try_from(target.wanted.max_bytes).unwrap_or(0);
        let bytes = asked.min(left);
        left = left.saturating_sub(bytes);
        let offset = target.wanted.offset;
        let first = std::mem::take(&mut at_least_one);
        reads.push(async move {
            let read = partition.log.read_cold(offset, bytes, first, isolation);
            if let Ok(read) = tokio::time::timeout_at(until, read).await {
                *result = match (target.partition(), read) {
                    (Err(gone), _) => Outcome::Failed(gone),
                    (_, Ok(outcome)) => Outcome::Read(outcome),
                    (_, Err(error)) => Outcome::Failed(error::of_read(&error)),
                };
            }
        });
    }
    futures::future::join_all(reads).await;
    next
}

fn bytes_of(results: &[Outcome]) -> usize {
    let bytes = |result: &Outcome| match result {
        Outcome::Read(outcome) => outcome.batches.iter().map(Bytes::len).sum(),
        _ => 0,
    };
    results.iter().map(bytes).sum()
}

/// What has no records is told its bounds as they are now.
fn fill_bounds(targets: &[Target], results: &mut [Outcome], limits: &Limits) {
    for (target, result) in targets.iter().zip(results) {
        let empty = match &*result {
            Outcome::Read(outcome) => outcome.batches.is_empty(),
            Outcome::Cold => true,
            Outcome::Failed(_) => false,
        };
        if empty {
            *result = match target.partition() {
                Ok(partition) => Outcome::Read(partition.log.nothing(limits.isolation)),
                Err(refusal) => Outcome::Failed(refusal),
            };
        }
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
