//! How long a start goes on while every request fails.

use std::time::Duration;

use highwater_runtime::Backoff;
use tokio::time::{Instant, sleep};

use super::put::Putter;
use crate::WalError;

/// Waits before a start's requests are repeated, until all of them have failed for long (D3).
pub(super) struct Patience {
    since: Instant,
    most: Duration,
    backoff: Backoff,
}

impl Patience {
    pub(super) fn new(putter: &Putter) -> Self {
        Self {
            since: Instant::now(),
            most: putter.repeats.patience,
            backoff: putter.backoff(),
        }
    }

    /// Waits; `error` is the reason of the last failure.
    ///
    /// # Errors
    /// [`WalError::Unavailable`] if the patience is over.
    pub(super) async fn rest(&mut self, key: &str, error: &str) -> Result<(), WalError> {
        if self.since.elapsed() >= self.most {
            return Err(WalError::Unavailable {
                reason: error.to_owned(),
                path: key.to_owned(),
            });
        }
        sleep(self.backoff.next_wait()).await;
        Ok(())
    }
}
