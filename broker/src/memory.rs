//! The budgets of requests by kind (M2).

use highwater_protocol::ApiKey;
use highwater_runtime::ByteBudget;

use crate::config::MemoryPlan;

/// Budgets of frames: a stalled store stops produce and nothing else.
#[derive(Debug, Clone)]
pub struct RequestBudgets {
    produce: ByteBudget,
    other: ByteBudget,
    /// Small frames of any kind but produce: large ones that stop halfway do not hold them up.
    small: ByteBudget,
    /// Records in fetch answers that are being written, out of the log cache.
    pub fetch: ByteBudget,
    /// The same where objects are read: a replay does not hold up the tail.
    pub fetch_cold: ByteBudget,
    /// The same, of connections that have not yet shown that they take an answer promptly, or no longer do: they hold up
    /// each other and nobody else.
    pub fetch_slow: ByteBudget,
}

impl RequestBudgets {
    /// The budgets that a plan gives.
    #[must_use]
    pub fn new(plan: &MemoryPlan) -> Self {
        Self {
            produce: ByteBudget::new(plan.produce),
            other: ByteBudget::new(plan.other - plan.other / 4),
            small: ByteBudget::new(plan.other / 4),
            fetch: ByteBudget::new(plan.fetch),
            fetch_cold: ByteBudget::new(plan.fetch_cold),
            fetch_slow: ByteBudget::new(plan.fetch_slow),
        }
    }

    /// Bytes held and the limit of each budget, by name.
    #[must_use]
    pub fn held(&self) -> [(&'static str, u64, u64); 6] {
        [
            ("produce", &self.produce),
            ("other", &self.other),
            ("small", &self.small),
            ("fetch", &self.fetch),
            ("fetch_cold", &self.fetch_cold),
            ("fetch_slow", &self.fetch_slow),
        ]
        .map(|(name, budget)| (name, budget.used(), budget.limit()))
    }

    /// The budget of a frame of that many bytes, of an API key as it came.
    #[must_use]
    pub fn of(&self, key: i16, bytes: usize) -> &ByteBudget {
        const SMALL_BYTES: usize = 4 << 10;
        if key == ApiKey::Produce as i16 {
            &self.produce
        } else if bytes <= SMALL_BYTES {
            &self.small
        } else {
            &self.other
        }
    }
}
