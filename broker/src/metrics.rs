//! The broker's metrics.

use highwater_protocol::ApiKey;
use tokio::time::Instant;

/// Requests by API.
pub const REQUESTS: &str = "highwater_broker_requests_total";
/// Seconds from a request read to its answer ready, by API.
pub const REQUEST_SECONDS: &str = "highwater_broker_request_seconds";

/// Describes every metric of this crate.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests by API.");
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time from a request read to its answer ready, by API."
    );
}

/// Counts a request and, when dropped, its time.
pub(crate) fn request(api: ApiKey) -> RequestTimer {
    metrics::counter!(REQUESTS, "api" => api.name()).increment(1);
    RequestTimer {
        api,
        since: Instant::now(),
    }
}

pub(crate) struct RequestTimer {
    api: ApiKey,
    since: Instant,
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        let elapsed = self.since.elapsed().as_secs_f64();
        metrics::histogram!(REQUEST_SECONDS, "api" => self.api.name()).record(elapsed);
    }
}
