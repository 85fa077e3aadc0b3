//! Waiting until a time that may not be set.

use tokio::time::{Instant, sleep_until};

/// Resolves at a time, or never if there is none. Cancellation safe.
pub async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
