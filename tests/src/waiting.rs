//! Waits for something that a node does by itself.

use std::time::Duration;

use anyhow::{Result, bail};

/// Waits until a condition holds, which is looked at again and again, for half a minute at most.
///
/// # Errors
/// An error of the condition; the condition does not hold in time.
pub async fn until(condition: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..3000 {
        if holds().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("it does not come to this: {condition}")
}
