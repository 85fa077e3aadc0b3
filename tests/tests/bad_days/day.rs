//! What the tests of bad days share. Those of either kind of write-ahead log are a program of their own, because a process
//! has one set of metrics.

use std::time::Duration;

use anyhow::{Context, Result};
use highwater_runtime::SeededRng;
use highwater_tests::{Fault, FaultProxy, ProxiedRequest, http_get};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long a store is away.
pub(crate) const OUTAGE: Duration = Duration::from_secs(60);

/// A bad day: what happens to requests, and how many faults it takes.
pub(crate) struct Day {
    pub(crate) name: &'static str,
    pub(crate) faults: usize,
    /// How late a put becomes after the day has ended, at the least, because nothing answers it.
    pub(crate) put_seconds: f64,
    pub(crate) rule: fn(&ProxiedRequest<'_>) -> Fault,
}

/// A proxy in front of the server.
pub(crate) async fn proxy() -> Result<FaultProxy> {
    let server = std::env::var("HIGHWATER_TEST_S3").context("HIGHWATER_TEST_S3 is an endpoint")?;
    FaultProxy::start(&server).await
}

/// The URL of a prefix of this process alone.
pub(crate) fn url(name: &str) -> String {
    format!("s3://highwater/bad-days-{name}-{}", std::process::id())
}

/// Numbers between 0 and 1, by the number of the request.
pub(crate) fn draw(nth: usize) -> f64 {
    let number = SeededRng::from_seed(nth as u64).below(1000);
    f64::from(u32::try_from(number).unwrap_or_default()) / 1000.0
}

/// The value of a series that the node tells on its admin address.
pub(crate) async fn metric(admin: &str, series: &str) -> Result<f64> {
    let (_, text) = http_get(admin, "/metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    Ok(line.context("the series")?.trim().parse()?)
}
