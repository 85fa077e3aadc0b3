//! The memory of answers (M3), which is held from before an answer is made until it is written.

use std::time::Duration;

use highwater_runtime::{ByteBudget, BytePermit};

use crate::memory::BySize;

/// An answer of up to this many bytes counts to the memory of its connection, and waits for no room.
const UNCOUNTED_BYTES: u64 = 4 << 10;
/// An answer that is larger than the budget is made alone, up to this multiple of the budget.
const ALONE_MAX: u64 = 4;
/// How long a request waits for room; slow clients give up theirs sooner.
const WAIT: Duration = Duration::from_secs(10);

/// The reason why there is no room for an answer. Its connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    /// The answer is larger than any answer may be.
    #[error("the answer would take too much memory bytes={bytes} limit={limit}")]
    Never { bytes: u64, limit: u64 },
    /// Other answers held the budget for too long.
    #[error("other answers hold the memory for this one bytes={bytes}")]
    Late { bytes: u64 },
}

/// The memory that one answer holds.
#[derive(Debug)]
pub(super) struct Room {
    permit: BytePermit,
    budget: Option<ByteBudget>,
}

impl Room {
    /// Waits for room for an answer of about this many bytes.
    pub(super) async fn enter(budgets: &BySize, bytes: u64) -> Result<Self, NoRoom> {
        if bytes <= UNCOUNTED_BYTES {
            return Ok(Self {
                permit: BytePermit::empty(),
                budget: None,
            });
        }
        let budget = budgets.of(usize::try_from(bytes).unwrap_or(usize::MAX));
        let limit = budget.limit().saturating_mul(ALONE_MAX);
        if bytes > limit {
            return Err(NoRoom::Never { bytes, limit });
        }
        let wait = budget.acquire(bytes.min(budget.limit()));
        match tokio::time::timeout(WAIT, wait).await {
            Ok(Ok(permit)) => Ok(Self {
                permit,
                budget: Some(budget.clone()),
            }),
            _ => Err(NoRoom::Late { bytes }),
        }
    }

    /// Adjusts the memory of an answer to its size in bytes, now that it is made. An answer that had no room waits for
    /// it.
    pub(super) async fn settle(
        mut self,
        budgets: &BySize,
        bytes: u64,
    ) -> Result<BytePermit, NoRoom> {
        if bytes <= UNCOUNTED_BYTES {
            return Ok(BytePermit::empty());
        }
        let Some(budget) = &self.budget else {
            // An answer that was made is written, however large it is.
            let most = budgets.of(usize::MAX).limit();
            let room = Box::pin(Self::enter(budgets, bytes.min(most))).await?;
            return Ok(room.permit);
        };
        match self.permit.bytes().checked_sub(bytes) {
            Some(unused) => drop(self.permit.split(unused)),
            None => {
                let more = bytes.saturating_sub(self.permit.bytes());
                self.permit.merge(budget.force(more));
            }
        }
        Ok(self.permit)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::config::MemoryPlan;
    use crate::memory::RequestBudgets;

    // M3
    #[tokio::test(start_paused = true)]
    async fn answers_that_are_not_taken_keep_others_from_being_made() {
        let answers = RequestBudgets::new(&MemoryPlan::new(128 << 20)).answers;
        let large = answers.of(usize::MAX);
        let limit = large.limit();
        let first = Room::enter(&answers, 2 * limit).await.expect("alone");
        assert_eq!(large.used(), limit);
        assert_eq!(
            Room::enter(&answers, 100 << 10).await.expect_err("waits"),
            NoRoom::Late { bytes: 100 << 10 }
        );
        let small = Room::enter(&answers, 10 << 10).now_or_never();
        assert!(matches!(small, Some(Ok(_))), "small ones have their own");
        let tiny = Room::enter(&answers, UNCOUNTED_BYTES).now_or_never();
        assert!(matches!(tiny, Some(Ok(_))), "tiny ones need none");
        let written = first.settle(&answers, 100 << 10).await.expect("is made");
        assert_eq!(large.used(), 100 << 10, "what is written is less");
        let second = Room::enter(&answers, 100 << 10).await.expect("has room");
        let more = second.settle(&answers, limit).await.expect("is made");
        assert_eq!(more.bytes(), limit, "what was guessed too low is counted");
        drop((written, more));
        assert_eq!(large.used(), 0);
        let bytes = 4 * limit + 1;
        let never = NoRoom::Never {
            bytes,
            limit: 4 * limit,
        };
        assert_eq!(
            Room::enter(&answers, bytes).await.expect_err("never"),
            never
        );
        // This answer was not foreseen.
        let none = Room::enter(&answers, 0).await.expect("none");
        let permit = none.settle(&answers, 5 * limit).await.expect("is made");
        assert_eq!(permit.bytes(), limit);
    }
}
