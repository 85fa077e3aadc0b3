//! Real time, which these tools measure and wait for.

use std::time::{Duration, Instant};

/// The time now.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a tool measures real time")]
    Instant::now()
}

/// Waits for that long.
pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a tool waits for processes")]
    std::thread::sleep(time);
}
