//! The figures of one run of a generator.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// The longest latency that is distinguished; longer ones count as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 3;
const GIB: f64 = (1 << 30) as f64;
const MIB: f64 = (1 << 20) as f64;

/// The latencies of requests.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_max(LATENCY_MAX_NS, DIGITS)?))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(took);
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// The latency that this share of the requests did not exceed.
    pub(crate) fn at(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    /// The mean.
    pub(crate) fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let micros = self.at(share).as_secs_f64() * 1e6;
            write!(f, "{name} {micros:.0} us  ")?;
        }
        write!(f, "of {}", self.0.len())
    }
}

/// The figures of one run.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Bytes of whole batches, as they are in the log.
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) batches: u64,
    /// The time from the first sending to the last answer.
    pub(crate) elapsed: Duration,
    pub(crate) latency: Latency,
}

impl Figures {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            bytes: 0,
            records: 0,
            batches: 0,
            elapsed: Duration::ZERO,
            latency: Latency::new()?,
        })
    }

    /// Joins the figures of connections that ran side by side.
    pub(crate) fn join(parts: impl IntoIterator<Item = Result<Self>>) -> Result<Self> {
        let mut all = Self::new()?;
        for part in parts {
            let part = part?;
            all.bytes += part.bytes;
            all.records += part.records;
            all.batches += part.batches;
            all.elapsed = all.elapsed.max(part.elapsed);
            all.latency.add(&part.latency)?;
        }
        Ok(all)
    }

    pub(crate) fn gib(&self) -> f64 {
        real(self.bytes) / GIB
    }

    pub(crate) fn mib_per_second(&self) -> f64 {
        real(self.bytes) / MIB / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{} bytes, {} records, {} batches in {seconds:.3} s: {:.1} MiB/s, {:.0} records/s",
            self.bytes,
            self.records,
            self.batches,
            self.mib_per_second(),
            real(self.records) / seconds
        )?;
        if self.latency.is_empty() {
            return Ok(());
        }
        write!(f, "\nlatency {}", self.latency)
    }
}

/// Converts a count to a floating-point number, for divisions.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}
