//! Bounded exponential backoff with jitter.

use std::time::Duration;

use crate::SeededRng;

/// The waits between attempts. They double from `first` to `max`, and each is shortened at random by up to a half.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    max: Duration,
    rng: SeededRng,
}

impl Backoff {
    /// Waits from `first` on, none longer than `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration, rng: SeededRng) -> Self {
        Self {
            next: first,
            max,
            rng,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(self.max);
        self.next = wait.saturating_mul(2);
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros - self.rng.below(micros / 2 + 1))
    }
}
