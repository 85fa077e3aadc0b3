//! The latencies of S3 (pure): a log-normal distribution, drawn from a seed, so that each run has the same ones.

use std::time::Duration;

use crate::figures::real;

/// The median of a put, and the time that 99 of 100 puts do not exceed, in milliseconds.
pub(super) const PUT_MS: (f64, f64) = (25.0, 100.0);
/// The same of a request that writes nothing. S3 answers small reads about twice as fast as puts.
pub(super) const READ_MS: (f64, f64) = (12.5, 50.0);
/// The number of standard deviations below which 99 % of a normal distribution lie.
const DEVIATIONS_99: f64 = 2.326_348;

/// A stream of latencies.
#[derive(Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        // a generator of this kind must not begin at zero
        Self(seed | 1)
    }

    /// A number above 0 and at most 1, evenly distributed.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (real(high) + 1.0) / (real(u64::from(u32::MAX)) + 1.0)
    }

    /// The next latency of a distribution with this median and 99th percentile.
    pub(super) fn next(&mut self, (median, p99): (f64, f64)) -> Duration {
        let (length, angle) = (self.uniform(), self.uniform());
        let normal = (-2.0 * length.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        let deviation = (p99 / median).ln() / DEVIATIONS_99;
        Duration::from_secs_f64(median * (deviation * normal).exp() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Latency;

    #[test]
    fn half_of_the_puts_take_25_ms_and_99_of_100_take_100_ms() {
        let mut draws = Draws::new(7);
        let mut latency = Latency::new().expect("is sound");
        for _ in 0..100_000 {
            latency.record(draws.next(PUT_MS));
        }
        let at = |share| latency.at(share).as_secs_f64() * 1000.0;
        assert!((24.0..26.0).contains(&at(0.5)), "{}", at(0.5));
        assert!((94.0..106.0).contains(&at(0.99)), "{}", at(0.99));
    }
}
