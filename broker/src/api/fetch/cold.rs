//! Batches that only objects have. Their reads start together, and a read that is late goes on for the block cache
//! (DESIGN 5.5).

use highwater_partition_log::Isolation;
use highwater_runtime::{ByteBudget, BytePermit};
use highwater_types::StreamOffset;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::request::{Limits, Target};
use super::tail::bytes_of;
use crate::api::error;
use crate::memory::{give_back, share_of};

/// Cold reads of all partitions start together. A read that does not end in time goes on for the cache, and its
/// partition is answered empty. Cold reads have a budget of their own, so that a replay cannot hold up the tail; a
/// partition that does not fit into it waits for a later fetch.
pub(super) async fn read_cold(
    budget: &ByteBudget,
    targets: &[Target],
    results: &mut [Outcome],
    until: Instant,
    limits: &Limits,
) -> BytePermit {
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
        // A read that fails, or finds less than it may take, leaves its room to the partitions after it.
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

/// Starts the cold reads that have room together, beginning with one target; returns the index of the first without
/// room.
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
        if !matches!(&*result, Outcome::Cold) {
            continue;
        }
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
            let read = read_one(target, (offset, bytes), first, isolation);
            if let Ok(read) = tokio::time::timeout_at(until, read).await {
                *result = read;
            }
        });
    }
    futures::future::join_all(reads).await;
    next
}

async fn read_one(
    target: &Target,
    (offset, bytes): (StreamOffset, usize),
    at_least_one: bool,
    isolation: Isolation,
) -> Outcome {
    if let Some(followed) = &target.followed {
        return followed.read(offset, bytes, at_least_one, isolation).await;
    }
    let partition = match &target.partition {
        Ok(partition) => partition,
        Err(refusal) => return Outcome::Failed(refusal.clone()),
    };
    let read = partition
        .log
        .read_cold(offset, bytes, at_least_one, isolation);
    let read = read.await;
    match (target.partition(), read) {
        (Err(gone), _) => Outcome::Failed(gone),
        (_, Ok(outcome)) => Outcome::Read(outcome),
        (_, Err(error)) => Outcome::Failed(error::from_read(&error)),
    }
}
