//! The budgets of requests by kind (M2).

use highwater_protocol::ApiKey;
use highwater_runtime::ByteBudget;

use crate::config::{MemoryPlan, for_small};

/// Budgets of frames and answers: a stalled store stops produce and nothing else.
#[derive(Debug, Clone)]
pub struct RequestBudgets {
    produce: BySize,
    other: BySize,
    /// Records in fetch answers that are being written, out of the log cache.
    pub fetch: ByteBudget,
    /// The same where objects are read: a replay does not hold up the tail.
    pub fetch_cold: ByteBudget,
    /// The same, of connections that have not yet shown that they take an answer promptly, or no longer do: they hold up
    /// each other and nobody else.
    pub fetch_slow: BySize,
    /// What decompressing and recompressing batches holds.
    pub decompression: ByteBudget,
}

impl RequestBudgets {
    /// The budgets that a plan gives.
    #[must_use]
    pub fn new(plan: &MemoryPlan) -> Self {
        Self {
            produce: BySize::new(plan.produce),
            other: BySize::new(plan.other),
            fetch: ByteBudget::new(plan.fetch),
            fetch_cold: ByteBudget::new(plan.fetch_cold),
            fetch_slow: BySize::new(plan.fetch_slow),
            decompression: ByteBudget::new(plan.decompression),
        }
    }

    /// Bytes held and the limit of each budget, by name.
    #[must_use]
    pub fn held(&self) -> [(&'static str, u64, u64); 9] {
        [
            ("produce", &self.produce.large),
            ("produce_small", &self.produce.small),
            ("other", &self.other.large),
            ("other_small", &self.other.small),
            ("fetch", &self.fetch),
            ("fetch_cold", &self.fetch_cold),
            ("fetch_slow", &self.fetch_slow.large),
            ("fetch_slow_small", &self.fetch_slow.small),
            ("decompression", &self.decompression),
        ]
        .map(|(name, budget)| (name, budget.used(), budget.limit()))
    }

    /// The budget of a frame of that many bytes, of an API key as it came.
    #[must_use]
    pub fn of(&self, key: i16, bytes: usize) -> &ByteBudget {
        let kind = match key == ApiKey::Produce as i16 {
            true => &self.produce,
            false => &self.other,
        };
        kind.of(bytes)
    }
}

/// The budgets of one kind. What is small has memory for itself: large frames that stop halfway, and
/// large answers that are taken slowly, hold up only each other.
#[derive(Debug, Clone)]
pub struct BySize {
    small: ByteBudget,
    large: ByteBudget,
}

const SMALL_BYTES: usize = 64 << 10;

impl BySize {
    fn new(bytes: u64) -> Self {
        Self {
            small: ByteBudget::new(for_small(bytes)),
            large: ByteBudget::new(bytes - for_small(bytes)),
        }
    }

    /// The budget of so many bytes.
    #[must_use]
    pub fn of(&self, bytes: usize) -> &ByteBudget {
        match bytes <= SMALL_BYTES {
            true => &self.small,
            false => &self.large,
        }
    }
}
