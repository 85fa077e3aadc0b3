//! How long a shard waits before it is loaded again.

use std::time::Duration;

use highwater_runtime::{Backoff, SeededRng};

/// The first wait, and the longest.
const REST: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(30);

/// Waits that grow while a shard fails again soon.
#[derive(Debug)]
pub(super) struct Rests {
    rng: SeededRng,
    backoff: Backoff,
}

impl Rests {
    /// Starts with the first wait.
    pub(super) fn new(rng: SeededRng) -> Self {
        let backoff = Backoff::new(REST, REST_MAX, rng.clone());
        Self { rng, backoff }
    }

    /// The wait for a shard that failed after it had run for this time.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran > REST_MAX {
            self.backoff = Backoff::new(REST, REST_MAX, self.rng.clone());
        }
        self.backoff.next_wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_fails_again_and_again_rests_longer_until_it_ran_for_long() {
        let mut rests = Rests::new(SeededRng::from_seed(1));
        assert!(rests.after(Duration::ZERO) <= REST);
        for _ in 0..20 {
            let _rest = rests.after(Duration::from_secs(1));
        }
        let longest = rests.after(Duration::from_secs(1));
        assert!((REST_MAX / 2..=REST_MAX).contains(&longest), "{longest:?}");
        assert!(rests.after(REST_MAX * 2) <= REST);
    }
}
