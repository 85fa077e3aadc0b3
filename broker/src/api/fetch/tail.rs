//! Batches in the log cache, read in one pass over every partition, without a wait.

use bytes::Bytes;
use highwater_partition_log::ReadError;

use super::outcome::Outcome;
use super::request::{Limits, Target};
use crate::api::error;

/// The outcome of one pass over memory.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) results: Vec<Outcome>,
    /// Bytes of the batches that were found.
    pub(super) bytes: usize,
    /// Bytes that count towards `min_bytes`. Where a limit cut the batches of a partition, all bytes that the limit
    /// allows count, as Kafka counts its slices of files, which may end within a batch.
    pub(super) available: usize,
    /// Whether the client is told something without a wait: a partition is refused, or read elsewhere.
    pub(super) any_told: bool,
    /// Whether a partition needs objects.
    pub(super) any_cold: bool,
}

/// Makes one pass over memory. Only the first partition with data may exceed the limits, by one whole batch.
pub(super) async fn look(targets: &[Target], limits: &Limits, max_bytes: usize) -> Look {
    let mut left = max_bytes;
    let mut found = Look {
        results: Vec::with_capacity(targets.len()),
        ..Look::default()
    };
    for target in targets {
        // This has the same purpose as `RequestContext::give_way`.
        tokio::task::coop::consume_budget().await;
        let asked = usize::try_from(target.wanted.max_bytes).unwrap_or(0);
        let limit = asked.min(left);
        let outcome = read(target, limit, found.bytes == 0, limits);
        match &outcome {
            Outcome::Read(read) => {
                let bytes: usize = read.batches.iter().map(Bytes::len).sum();
                let counted = if read.is_cut { bytes.max(limit) } else { bytes };
                found.available = found.available.saturating_add(counted);
                found.bytes = found.bytes.saturating_add(bytes);
                left = left.saturating_sub(bytes);
            }
            Outcome::Cold => found.any_cold = true,
            // It may be open before the fetch has waited for long enough.
            Outcome::Failed(_) if target.opening.is_some() => {}
            Outcome::Failed(_) | Outcome::Elsewhere(..) => found.any_told = true,
        }
        found.results.push(outcome);
    }
    found
}

fn read(target: &Target, max_bytes: usize, at_least_one: bool, limits: &Limits) -> Outcome {
    if let Some(followed) = &target.followed {
        return followed.look(target.wanted.offset, limits.isolation);
    }
    let partition = match target.partition() {
        Ok(partition) => partition,
        Err(refusal) => return Outcome::Failed(refusal),
    };
    let offset = target.wanted.offset;
    let log = &partition.log;
    match log.read(offset, max_bytes, at_least_one, limits.isolation) {
        Ok(outcome) => Outcome::Read(outcome),
        Err(ReadError::NeedsObjects) => match target.nearer {
            Some(replica) => Outcome::Elsewhere(replica, log.nothing(limits.isolation)),
            None => Outcome::Cold,
        },
        Err(error) => Outcome::Failed(error::from_read(&error)),
    }
}

/// The bytes of all batches.
pub(super) fn bytes_of(results: &[Outcome]) -> usize {
    let bytes = |result: &Outcome| match result {
        Outcome::Read(outcome) => outcome.batches.iter().map(Bytes::len).sum(),
        _ => 0,
    };
    results.iter().map(bytes).sum()
}

/// Sets the present bounds in the answer of each partition without records.
pub(super) fn fill_bounds(targets: &[Target], results: &mut [Outcome], limits: &Limits) {
    for (target, result) in targets.iter().zip(results) {
        let empty = match &*result {
            Outcome::Read(outcome) => outcome.batches.is_empty(),
            Outcome::Cold => true,
            Outcome::Failed(_) | Outcome::Elsewhere(..) => false,
        };
        if empty {
            *result = match (&target.followed, target.partition()) {
                (Some(followed), _) => Outcome::Read(followed.nothing(limits.isolation)),
                (None, Ok(partition)) => Outcome::Read(partition.log.nothing(limits.isolation)),
                (None, Err(refusal)) => Outcome::Failed(refusal),
            };
        }
    }
}
