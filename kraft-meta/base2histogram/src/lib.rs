//! The part of the crate `base2histogram` that openraft uses, in its place (`[patch]` in the workspace's `Cargo.toml`).
//!
//! openraft counts its batches and stages in histograms that nothing here reads. The first histogram of the published
//! crate computes the tables of every scale up to 16 bits: 25 MiB that are never freed, more than the rest of an idle
//! node takes. Here a histogram is 65 counters, one for each power of two. This copy can be dropped once the published
//! crate computes its tables on demand.

use std::fmt;
use std::marker::PhantomData;

/// The number of values between each power of two and the next. `T` is the data that the published crate keeps with
/// each period; openraft uses none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// The counters, by the number of bits of the value.
    counts: [u64; BUCKETS],
    periods: PhantomData<T>,
}

const BUCKETS: usize = 65;

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            periods: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = u64::BITS - value.leading_zeros();
        if let Some(counted) = usize::try_from(bits)
            .ok()
            .and_then(|at| self.counts.get_mut(at))
        {
            *counted = counted.saturating_add(count);
        }
    }

    /// The number of values.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The percentiles, each as the largest power of two that is not above it.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.at(1),
            p1: self.at(10),
            p5: self.at(50),
            p10: self.at(100),
            p50: self.at(500),
            p90: self.at(900),
            p99: self.at(990),
            p99_9: self.at(999),
        }
    }

    /// The largest power of two that is not above the value at `permille`.
    fn at(&self, permille: u64) -> u64 {
        let wanted = u128::from(self.total()) * u128::from(permille);
        let mut below = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            below += u128::from(*count) * 1000;
            if *count > 0 && below >= wanted {
                return if bits == 0 { 0 } else { 1 << (bits - 1) };
            }
        }
        0
    }
}

/// Percentiles of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the percentile that it is named after")]
pub struct PercentileStats {
    /// The number of values.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={} p50={} p99={}", self.samples, self.p50, self.p99)
    }
}

/// Named histograms as text, one in each line.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// Makes an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a histogram.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the published crate keeps the histogram"
    )]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.0 {
            writeln!(
                f,
                "{name}: n={} p50={} p99={}",
                stats.samples, stats.p50, stats.p99
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_powers_of_two_at_or_below_the_values() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        histogram.record_n(5, 98);
        histogram.record(0);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!(
            (stats.samples, stats.p1, stats.p50, stats.p99),
            (100, 0, 4, 4)
        );
        assert_eq!(stats.p99_9, 1 << 63);
        let chart = AsciiChart::new().add("one", histogram).to_string();
        assert_eq!(chart, "one: n=100 p50=4 p99=4\n");
    }
}
