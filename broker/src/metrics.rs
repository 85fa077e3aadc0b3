//! The broker's metrics.

use highwater_protocol::ApiKey;
use metrics::{Counter, Histogram};
use tokio::time::Instant;

use crate::api::ApiEntry;
use crate::broker::Broker;

/// Requests by API.
pub const REQUESTS: &str = "highwater_broker_requests_total";
/// Seconds from a request read to its answer ready, by API.
pub const REQUEST_SECONDS: &str = "highwater_broker_request_seconds";

/// Requests that panicked, by API: each is a fault of ours, and closed its connection.
pub const REQUEST_PANICS: &str = "highwater_broker_request_panics_total";

/// Bytes that a budget has given out, by budget.
pub const MEMORY_USED: &str = "highwater_broker_memory_used_bytes";
/// Bytes that a budget may give out, by budget.
pub const MEMORY_LIMIT: &str = "highwater_broker_memory_limit_bytes";

/// Describes every metric of this crate.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests by API.");
    metrics::describe_counter!(
        REQUEST_PANICS,
        "Requests that panicked, by API; none for one outside of any request."
    );
    metrics::describe_gauge!(MEMORY_USED, "Bytes that a budget has given out.");
    metrics::describe_gauge!(MEMORY_LIMIT, "Bytes that a budget may give out.");
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time from a request read to its answer ready, by API."
    );
}

/// Counts a panic that closed a connection.
pub(crate) fn count_panic(api: &'static str) {
    metrics::counter!(REQUEST_PANICS, "api" => api).increment(1);
}

/// Sets the gauges of memory to what is held now: requests, answers and caches.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub(crate) fn set_memory(broker: &Broker) {
    let requests = broker.budgets.held();
    let producers = &broker.producers;
    let producers = ("producers", producers.used(), producers.limit());
    let caches = broker.streams.memory();
    for (budget, used, limit) in requests.into_iter().chain(caches).chain([producers]) {
        metrics::gauge!(MEMORY_USED, "budget" => budget).set(used as f64);
        metrics::gauge!(MEMORY_LIMIT, "budget" => budget).set(limit as f64);
    }
}

/// The handles of each API's metrics, looked up once. Made when the recorder is installed.
#[derive(Debug)]
pub(crate) struct ApiMetrics(Vec<Option<OneApi>>);

#[derive(Debug, Clone)]
struct OneApi {
    requests: Counter,
    seconds: Histogram,
}

impl ApiMetrics {
    pub(crate) fn new(apis: &[ApiEntry]) -> Self {
        let mut handles = Vec::new();
        for api in apis {
            let at = index(api.key);
            if handles.len() <= at {
                handles.resize_with(at + 1, || None);
            }
            handles[at] = Some(OneApi {
                requests: metrics::counter!(REQUESTS, "api" => api.key.name()),
                seconds: metrics::histogram!(REQUEST_SECONDS, "api" => api.key.name()),
            });
        }
        Self(handles)
    }

    /// Counts a request and, when what it answers is dropped, its time.
    pub(crate) fn request(&self, api: ApiKey) -> RequestTimer {
        let of = self.0.get(index(api)).and_then(Option::as_ref);
        if let Some(of) = of {
            of.requests.increment(1);
        }
        RequestTimer {
            seconds: of.map(|of| of.seconds.clone()),
            since: Instant::now(),
        }
    }
}

fn index(api: ApiKey) -> usize {
    usize::try_from(api as i16).unwrap_or(0)
}

pub(crate) struct RequestTimer {
    seconds: Option<Histogram>,
    since: Instant,
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        if let Some(seconds) = &self.seconds {
            seconds.record(self.since.elapsed().as_secs_f64());
        }
    }
}
