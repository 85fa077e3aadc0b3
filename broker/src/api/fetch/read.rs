//! What a fetch reads: from memory, from objects, and when it waits for more.

use std::time::Duration;

use bytes::Bytes;
use highwater_partition_log::{Isolation, ReadError, ReadOutcome};
use highwater_runtime::{ByteBudget, BytePermit};
use tokio::time::Instant;

use super::{Limits, Target};
use crate::api::RequestContext;
use crate::api::error::{self, Refusal};
use crate::memory::{GIVES_WAY_AFTER, Wait};
use crate::partitions::fetch_wait;

/// What a fetch answers with.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) results: Vec<Outcome>,
    /// The memory of the answer.
    pub(super) permit: BytePermit,
    /// How long it waited at the tail.
    pub(super) waited: Duration,
    /// Set when there is no memory to wait for what was asked: for how long the client's next request is not read.
    pub(super) rest: Option<Duration>,
}

/// What was read of one partition.
#[derive(Debug)]
pub(super) enum Outcome {
    Read(ReadOutcome),
    Cold,
    Failed(Refusal),
}

/// How long past `max_wait` a fetch waits for a cold read that is under way.
const COLD_GRACE: Duration = Duration::from_millis(500);

/// Reads until there is enough, an error, or no time or memory left to wait for more.
pub(super) async fn read(ctx: &RequestContext, targets: &[Target], limits: &Limits) -> Found {
    let mut waited = Duration::ZERO;
    let mut wait = None;
    let mut gives_way = false;
    loop {
        // watches are taken before the look, so that nothing that changes after it is missed
        let waiting = fetch_wait::subscribe(targets.iter().filter_map(|target| {
            target
                .partition
                .as_ref()
                .ok()
                .map(|partition| &*partition.log)
        }));
        let look = look(ctx, targets, limits, limits.max_bytes).await;
        let in_time = Instant::now() < limits.deadline && !ctx.connection.has_ended() && !gives_way;
        let enough = look.any_failed() || look.available >= limits.min_bytes.max(1);
        let any_cold = look.any_cold();
        let ends = enough || any_cold || limits.min_bytes == 0 || !in_time || targets.is_empty();
        if ends || !may_wait(ctx, limits, &mut wait) {
            // what is not in the block cache yet is begun, and served to a later fetch
            let cold_until = any_cold.then(|| match enough {
                true => Instant::now(),
                false => limits.deadline + COLD_GRACE,
            });
            let found = finish(ctx, targets, look, limits, (cold_until, &mut wait)).await;
            let may_not_wait = found.is_none() || !ends;
            let (mut results, permit) = found.unwrap_or_else(|| nothing(targets));
            fill_bounds(targets, &mut results, limits);
            return Found {
                results,
                permit,
                waited,
                rest: may_not_wait.then(|| rest(limits)),
            };
        }
        drop(look);
        let since = Instant::now();
        // all arms are cancellation safe: in any case it looks again
        tokio::select! {
            () = fetch_wait::changed(waiting, limits.deadline) => {}
            () = ctx.connection.ends() => {}
            () = gives_way_of(wait.as_ref()) => gives_way = true,
        }
        waited += since.elapsed();
    }
}

/// Lets a fetch wait for others: with memory for what it keeps meanwhile, in place of its frame's. False where there is
/// none.
fn may_wait(ctx: &RequestContext, limits: &Limits, wait: &mut Option<Wait>) -> bool {
    if wait.is_none() {
        *wait = ctx.broker.budgets.waits.enter(limits.waiting_bytes);
        if wait.is_some() {
            ctx.frame.give_back();
        }
    }
    wait.is_some()
}

async fn gives_way_of(wait: Option<&Wait>) {
    match wait {
        Some(wait) => wait.gives_way().await,
        None => std::future::pending().await,
    }
}

/// How long a client that may not wait does not come again: no longer than it would have waited.
fn rest(limits: &Limits) -> Duration {
    let left = limits.deadline.saturating_duration_since(Instant::now());
    left.min(GIVES_WAY_AFTER)
}

/// Nothing of any partition.
fn nothing(targets: &[Target]) -> (Vec<Outcome>, BytePermit) {
    let results = targets.iter().map(|_| Outcome::Cold).collect();
    (results, BytePermit::empty())
}

/// What was found, under the memory of the answer, and what is read of objects until a time; `None` where the answer would
/// wait for memory, and there is none to wait.
async fn finish(
    ctx: &RequestContext,
    targets: &[Target],
    look: Look,
    limits: &Limits,
    (cold_until, wait): (Option<Instant>, &mut Option<Wait>),
) -> Option<(Vec<Outcome>, BytePermit)> {
    let (mut results, mut permit) = hold(ctx, targets, look, limits, wait).await?;
    if let Some(until) = cold_until {
        // the frame is held for no longer than others keep memory to wait
        let until = match may_wait(ctx, limits, wait) {
            true => until,
            false => until.min(Instant::now() + GIVES_WAY_AFTER),
        };
        let cold = read_cold(ctx, targets, &mut results, until, limits).await;
        if cold.bytes() > 0 {
            // it holds the whole answer
            permit = cold;
        }
    }
    Some((results, permit))
}

/// Holds the answer's memory until it is written (I11). Where there is none free, nothing else is held while it waits.
async fn hold(
    ctx: &RequestContext,
    targets: &[Target],
    look: Look,
    limits: &Limits,
    wait: &mut Option<Wait>,
) -> Option<(Vec<Outcome>, BytePermit)> {
    let (results, bytes) = look.found();
    if bytes == 0 {
        return Some((results, BytePermit::empty()));
    }
    let budgets = &ctx.broker.budgets;
    let budget = match ctx.connection.takes_promptly() {
        true => &budgets.fetch,
        false => budgets.fetch_slow.of(bytes),
    };
    let share = share_of(budget);
    let (results, bytes) = match bytes > share {
        true => self::look(ctx, targets, limits, share).await.found(),
        false => (results, bytes),
    };
    let wanted = u64::try_from(bytes).unwrap_or(u64::MAX).min(budget.limit());
    if let Some(permit) = budget.try_acquire(wanted) {
        return Some((results, permit));
    }
    drop(results);
    if !may_wait(ctx, limits, wait) {
        return None;
    }
    let permit = budget.acquire(wanted).await;
    let mut permit = permit.unwrap_or_else(|_never_too_large| BytePermit::empty());
    let (results, bytes) = self::look(ctx, targets, limits, bytes).await.found();
    give_back(&mut permit, bytes);
    Some((results, permit))
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
    fn any_failed(&self) -> bool {
        let is_failed = |result: &Outcome| matches!(result, Outcome::Failed(_));
        self.results.iter().any(is_failed)
    }

    fn any_cold(&self) -> bool {
        let is_cold = |result: &Outcome| matches!(result, Outcome::Cold);
        self.results.iter().any(is_cold)
    }

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
