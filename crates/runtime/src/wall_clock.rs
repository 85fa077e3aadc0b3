//! The time of day, for record timestamps and retention only; intervals use `tokio::time::Instant`.

use std::fmt;
use std::sync::Arc;

/// Milliseconds since 1970. Cheap to clone; the composition root chooses the source.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl WallClock {
    /// Makes a clock that reads `source`.
    pub fn new(source: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            #[expect(clippy::disallowed_methods, reason = "this is the replacement")]
            let now = std::time::SystemTime::now();
            let since = now
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// The current time in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}
