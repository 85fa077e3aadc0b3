//! The memory that a fetch holds: for its wait, in place of its frame's memory (M2), and for its answer until that is
//! written (I11).

use std::time::Duration;

use highwater_runtime::BytePermit;
use tokio::time::Instant;

use super::cold::read_cold;
use super::outcome::Outcome;
use super::request::{Limits, Target};
use super::tail::{Look, look};
use crate::memory::{FrameMemory, GIVES_WAY_AFTER, RequestBudgets, Wait, give_back, share_of};
use crate::net::ConnectionInfo;

/// The outcome of each partition, and the memory of the answer.
pub(super) type Held = (Vec<Outcome>, BytePermit);

/// A fetch in progress: its partitions, its limits and its memory.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) targets: Vec<Target>,
    pub(super) limits: &'a Limits,
    pub(super) connection: &'a ConnectionInfo,
    pub(super) budgets: &'a RequestBudgets,
    pub(super) frame: &'a FrameMemory,
    /// About the number of bytes that the fetch keeps while it waits.
    pub(super) waiting_bytes: u64,
    /// The memory of the wait, once the fetch waits.
    pub(super) wait: Option<Wait>,
}

impl Reading<'_> {
    /// Lets a fetch wait, with memory for the bytes that it keeps meanwhile in place of its frame's memory. Returns
    /// false if there is no memory for that.
    pub(super) fn may_wait(&mut self) -> bool {
        if self.wait.is_none() {
            self.wait = self.budgets.waits.enter(self.waiting_bytes);
            if self.wait.is_some() {
                self.frame.give_back();
            }
        }
        self.wait.is_some()
    }

    /// The time for which the next request of a client is not read if its fetch may not wait. It is no longer than the
    /// fetch would have waited.
    pub(super) fn rest(&self) -> Duration {
        let deadline = self.limits.deadline;
        let left = deadline.saturating_duration_since(Instant::now());
        left.min(GIVES_WAY_AFTER)
    }

    /// Returns the batches that were found, with the memory of the answer, and those that were read from objects until
    /// a time; `None` if the answer would have to wait for memory and there is no memory for the wait.
    pub(super) async fn finish(&mut self, look: Look, cold_until: Option<Instant>) -> Option<Held> {
        let (mut results, mut permit) = self.hold(look).await?;
        if let Some(until) = cold_until {
            // Without memory for the wait, the frame is held for no longer than other requests keep their memory of a
            // wait.
            let until = match self.may_wait() {
                true => until,
                false => until.min(Instant::now() + GIVES_WAY_AFTER),
            };
            let budget = match self.connection.takes_promptly() {
                true => &self.budgets.fetch_cold,
                false => self.budgets.fetch_slow.of(usize::MAX),
            };
            let cold = read_cold(budget, &self.targets, &mut results, until, self.limits).await;
            if cold.bytes() > 0 {
                // This permit holds the memory of the whole answer.
                permit = cold;
            }
        }
        Some((results, permit))
    }

    /// Takes the answer's memory, which is held until the answer is written (I11). If none is free, the fetch holds
    /// nothing else while it waits for memory.
    async fn hold(&mut self, look: Look) -> Option<Held> {
        let Look { results, bytes, .. } = look;
        if bytes == 0 {
            return Some((results, BytePermit::empty()));
        }
        let budget = match self.connection.takes_promptly() {
            true => &self.budgets.fetch,
            false => self.budgets.fetch_slow.of(bytes),
        };
        let share = share_of(budget);
        let (results, bytes) = match bytes > share {
            true => self.look_again(share).await,
            false => (results, bytes),
        };
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX).min(budget.limit());
        if let Some(permit) = budget.try_acquire(wanted) {
            return Some((results, permit));
        }
        drop(results);
        if !self.may_wait() {
            return None;
        }
        let permit = budget.acquire(wanted).await;
        let mut permit = permit.unwrap_or_else(|_never_too_large| BytePermit::empty());
        let (results, bytes) = self.look_again(bytes).await;
        give_back(&mut permit, bytes);
        Some((results, permit))
    }

    async fn look_again(&self, max_bytes: usize) -> (Vec<Outcome>, usize) {
        let found = look(&self.targets, self.limits, max_bytes).await;
        (found.results, found.bytes)
    }
}

/// Resolves when a wait must end in favour of other requests, or never if there is no wait. Cancellation safe.
pub(super) async fn gives_way_of(wait: Option<&Wait>) {
    match wait {
        Some(wait) => wait.gives_way().await,
        None => std::future::pending().await,
    }
}
