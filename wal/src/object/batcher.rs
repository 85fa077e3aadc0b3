//! Decides when group commits are put (W4). This code is pure: its caller tells it the time.

use std::time::Duration;

use super::config::Batching;

/// The tokens of the budget, and the limit of puts in flight.
#[derive(Debug)]
pub(super) struct Batcher {
    config: Batching,
    saved: u32,
    /// When the last token accrued, as time since the log was opened.
    accrued_at: Duration,
    /// Bytes appended that are not worth a token yet.
    bytes: u64,
}

/// What waits to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    Batches,
    /// The log is being shut down, which the budget does not delay.
    LastBatches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The first group commit is put now.
    Put,
    /// Nothing is put before an append or the end of a put.
    Wait,
    /// A token accrues at this time.
    WaitUntil(Duration),
}

impl Batcher {
    /// A batcher at time zero, with all tokens that may be saved.
    pub(super) fn new(config: Batching) -> Self {
        let config = config.bounded();
        Self {
            saved: config.tokens_max,
            config,
            accrued_at: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts appended bytes.
    pub(super) fn appended(&mut self, bytes: u64) {
        let bytes = self.bytes.saturating_add(bytes);
        self.save(bytes / self.config.token_bytes);
        self.bytes = bytes % self.config.token_bytes;
    }

    /// The next step; a put spends a token.
    pub(super) fn step(&mut self, now: Duration, in_flight: usize, waiting: Waiting) -> Step {
        if waiting == Waiting::Nothing || in_flight >= self.config.in_flight_max {
            return Step::Wait;
        }
        let interval = self.config.token_interval;
        if waiting == Waiting::LastBatches || interval.is_zero() {
            return Step::Put;
        }
        let since = now.saturating_sub(self.accrued_at).as_nanos();
        let accrued = since / interval.as_nanos();
        self.save(u64::try_from(accrued).unwrap_or(u64::MAX));
        let rest = since % interval.as_nanos();
        let rest = Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
        self.accrued_at = now.saturating_sub(rest).max(self.accrued_at);
        match self.saved.checked_sub(1) {
            Some(left) => {
                self.saved = left;
                Step::Put
            }
            None => Step::WaitUntil(self.accrued_at + interval),
        }
    }

    fn save(&mut self, tokens: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.saved = self
            .saved
            .saturating_add(tokens)
            .min(self.config.tokens_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Counts the puts of a minute in which this many bytes are appended every millisecond.
    fn puts_in_a_minute(bytes: u64) -> usize {
        let mut batcher = Batcher::new(Batching::default());
        let (mut puts, mut waiting) = (0, Waiting::Nothing);
        for at in 0..60_000 {
            batcher.appended(bytes);
            waiting = if bytes > 0 { Waiting::Batches } else { waiting };
            if batcher.step(at * MS, 0, waiting) == Step::Put {
                (puts, waiting) = (puts + 1, Waiting::Nothing);
            }
        }
        puts
    }

    // W4
    #[test]
    fn a_trickle_costs_ten_puts_a_second_and_more_bytes_earn_more() {
        assert_eq!(puts_in_a_minute(0), 0, "an idle log puts nothing");
        assert_eq!(puts_in_a_minute(1), 64 + 599);
        // 1 MiB a second is worth 4 tokens more
        let more = puts_in_a_minute(1049);
        assert!((64 + 599 + 238..=64 + 599 + 242).contains(&more), "{more}");
    }

    // W4
    #[test]
    fn a_short_burst_does_not_wait_and_then_batches_gather() {
        let mut batcher = Batcher::new(Batching::default());
        for _ in 0..64 {
            assert_eq!(batcher.step(5 * MS, 0, Waiting::Batches), Step::Put);
        }
        let wait = Step::WaitUntil(100 * MS);
        assert_eq!(batcher.step(5 * MS, 0, Waiting::Batches), wait);
        assert_eq!(batcher.step(99 * MS, 0, Waiting::Batches), wait);
        assert_eq!(batcher.step(130 * MS, 0, Waiting::Batches), Step::Put);
        let wait = Step::WaitUntil(200 * MS);
        assert_eq!(batcher.step(130 * MS, 0, Waiting::Batches), wait);
        batcher.appended((256 << 10) - 1);
        assert_eq!(batcher.step(131 * MS, 0, Waiting::Batches), wait);
        batcher.appended(1);
        assert_eq!(batcher.step(131 * MS, 0, Waiting::Batches), Step::Put);
        // a shutdown does not wait for a token
        assert_eq!(batcher.step(131 * MS, 0, Waiting::LastBatches), Step::Put);
    }

    #[test]
    fn no_more_puts_are_in_flight_than_the_limit() {
        for waiting in [Waiting::Batches, Waiting::LastBatches] {
            let mut batcher = Batcher::new(Batching::default());
            assert_eq!(batcher.step(MS, 15, waiting), Step::Put);
            assert_eq!(batcher.step(MS, 16, waiting), Step::Wait);
        }
    }

    #[test]
    fn no_configuration_stops_the_log() {
        let nothing = Batching {
            token_interval: Duration::ZERO,
            token_bytes: 0,
            tokens_max: 0,
            in_flight_max: 0,
            group_bytes_max: 0,
        };
        let mut batcher = Batcher::new(nothing);
        batcher.appended(10);
        for _ in 0..3 {
            assert_eq!(batcher.step(MS, 0, Waiting::Batches), Step::Put);
        }
    }
}
