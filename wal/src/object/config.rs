//! The configuration of the object WAL.

use std::time::Duration;

use highwater_types::{ClusterId, NodeId, Uuid};

/// Whose log it is, how it batches, and how long it waits.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node whose log it is.
    pub node: NodeId,
    /// Sixteen random bytes of this process (W1).
    pub nonce: Uuid,
    /// The budget of puts (W4).
    pub batching: Batching,
    /// How requests are repeated.
    pub repeats: Repeats,
}

/// The budget of puts (W4).
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// How long a token takes to accrue. Default: 100 ms. Zero lifts the budget.
    pub token_interval: Duration,
    /// The bytes appended that are worth a token. Default: 256 KiB.
    pub token_bytes: u64,
    /// The most tokens that are saved. Default: 64.
    pub tokens_max: u32,
    /// The most puts in flight. Default: 16.
    pub in_flight_max: usize,
    /// The bytes at which a group commit is closed. A larger batch makes a larger one. Default: 4 MiB.
    pub group_bytes_max: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            token_interval: Duration::from_millis(100),
            token_bytes: 256 << 10,
            tokens_max: 64,
            in_flight_max: 16,
            group_bytes_max: 4 << 20,
        }
    }
}

impl Batching {
    /// The same with every value in its bounds, so that no value stops the log.
    pub(super) fn bounded(self) -> Self {
        Self {
            token_interval: self.token_interval,
            token_bytes: self.token_bytes.max(1),
            tokens_max: self.tokens_max.max(1),
            in_flight_max: self.in_flight_max.clamp(1, 256),
            group_bytes_max: self.group_bytes_max.clamp(4 << 10, 64 << 20),
        }
    }
}

/// How long a request is waited for, and how it is repeated (W3).
#[derive(Debug, Clone, Copy)]
pub struct Repeats {
    /// The deadline of each request. Default: 10 s.
    pub deadline: Duration,
    /// The bounds of the wait before a put is hedged. Default: 50 ms and 1 s.
    pub hedge: (Duration, Duration),
    /// The most requests for one put at once. Default: 3.
    pub at_once_max: u32,
    /// The first and the longest wait before a request is repeated. Default: 20 ms and 1 s.
    pub backoff: (Duration, Duration),
    /// How long a sealer goes on while every request fails. Default: 60 s (D3).
    pub patience: Duration,
}

impl Default for Repeats {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            hedge: (Duration::from_millis(50), Duration::from_secs(1)),
            at_once_max: 3,
            backoff: (Duration::from_millis(20), Duration::from_secs(1)),
            patience: Duration::from_secs(60),
        }
    }
}
