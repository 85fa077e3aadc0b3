//! The broker's metrics that are counted as events happen. `sampled.rs` has those that are sampled at a scrape,
//! `detail.rs` those of each topic and group, and `tls.rs` those of TLS.

pub(crate) mod detail;
pub(crate) mod sampled;
pub(crate) mod tls;

use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::records::BatchHeader;
use highwater_protocol::{ApiKey, ErrorCode};
use metrics::{Counter, Histogram, counter, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio::time::Instant;

/// Requests by API.
pub(crate) const REQUESTS: &str = "highwater_broker_requests_total";
/// Seconds from reading a request to its response, by API, without the time that a fetch waits for records.
pub(crate) const REQUEST_SECONDS: &str = "highwater_broker_request_seconds";
/// Seconds that a fetch waits at the tail for `min_bytes`.
pub(crate) const FETCH_WAIT_SECONDS: &str = "highwater_broker_fetch_wait_seconds";
/// Errors in responses, by API and Kafka's name of the error.
pub(crate) const REQUEST_ERRORS: &str = "highwater_broker_request_errors_total";
/// Bytes of record batches, by direction: from producers, and to consumers.
pub(crate) const RECORD_BYTES: &str = "highwater_broker_record_bytes_total";
/// Records, by direction.
pub(crate) const RECORDS: &str = "highwater_broker_records_total";
/// Connections, by outcome.
pub(crate) const CONNECTIONS_TOTAL: &str = "highwater_broker_connections_total";
/// Open connections.
pub(crate) const CONNECTIONS: &str = "highwater_broker_connections";
/// Frames that were not served, by reason.
pub(crate) const FRAMES_REFUSED: &str = "highwater_broker_frames_refused_total";
/// Requests that panicked, by API. Each is a defect, and closed its connection or made groups load again.
pub(crate) const REQUEST_PANICS: &str = "highwater_broker_request_panics_total";
/// Rebalances of groups that have begun.
pub(crate) const REBALANCES: &str = "highwater_broker_group_rebalances_total";

/// Bounds of the buckets of every histogram, in seconds.
const BUCKETS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Installs the recorder; earlier events are not counted.
///
/// # Errors
/// The process has another recorder already.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS)?;
    let handle = builder.install_recorder()?;
    describe();
    sampled::describe();
    tls::describe();
    highwater_object_storage::metrics::describe();
    highwater_s3stream::metrics::describe();
    highwater_disk_log::metrics::describe();
    start_at_zero();
    Ok(handle)
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_histogram};
    describe_counter!(REQUESTS, "Requests, by API.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from reading a request to its response, by API, without the time that a fetch waits for records."
    );
    describe_histogram!(
        FETCH_WAIT_SECONDS,
        Unit::Seconds,
        "Time that a fetch at the end of the log waits for its min_bytes."
    );
    describe_counter!(
        REQUEST_ERRORS,
        "Errors in responses, by API and Kafka's name of the error."
    );
    describe_counter!(
        RECORD_BYTES,
        "Bytes of record batches: in, from producers; out, to consumers."
    );
    describe_counter!(RECORDS, "Records: in, from producers; out, to consumers.");
    describe_counter!(
        CONNECTIONS_TOTAL,
        "Connections that were accepted, or refused by max.connections.per.ip."
    );
    metrics::describe_gauge!(CONNECTIONS, "Open connections.");
    describe_counter!(FRAMES_REFUSED, "Requests that were not served, by reason.");
    describe_counter!(
        REQUEST_PANICS,
        "Requests that panicked, by API (none for a panic outside of a request). Each is a defect of the broker."
    );
    describe_counter!(REBALANCES, "Rebalances of groups that have begun.");
}

/// Sets counters to zero, so that a scrape shows no gap before the first event.
fn start_at_zero() {
    for direction in ["in", "out"] {
        counter!(RECORD_BYTES, "direction" => direction).increment(0);
        counter!(RECORDS, "direction" => direction).increment(0);
    }
    for outcome in ["accepted", "refused"] {
        counter!(CONNECTIONS_TOTAL, "outcome" => outcome).increment(0);
    }
    for reason in RefusedFrame::ALL {
        counter!(FRAMES_REFUSED, "reason" => reason.label()).increment(0);
    }
    counter!(REBALANCES).increment(0);
    metrics::gauge!(CONNECTIONS).set(0.0);
}

/// Counts the errors in a response.
pub(crate) fn count_errors(api: ApiKey, errors: &[(i16, u64)]) {
    for (code, count) in errors {
        let known = ErrorCode::ALL.iter().find(|error| error.code() == *code);
        let error = known.map_or("UNKNOWN", |error| error.name());
        counter!(REQUEST_ERRORS, "api" => api.name(), "error" => error).increment(*count);
    }
}

/// Counts a panic that ended only a connection or a load of groups.
pub(crate) fn count_panic(api: &'static str) {
    counter!(REQUEST_PANICS, "api" => api).increment(1);
}

/// Counts a connection that was accepted, or refused because of the limit for its address.
pub(crate) fn count_connection(is_accepted: bool) {
    let outcome = if is_accepted { "accepted" } else { "refused" };
    counter!(CONNECTIONS_TOTAL, "outcome" => outcome).increment(1);
}

/// Why a frame was not served.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RefusedFrame {
    /// Its length is not accepted.
    Length,
    /// It is TLS, on a listener without TLS.
    Tls,
    /// The client stopped sending it while others waited for its memory.
    Stalled,
    /// Its header can't be read.
    Header,
    /// Its API or version is not served.
    Unsupported,
    /// Its client has to authenticate first.
    Unauthenticated,
    /// Its body can't be read.
    Malformed,
}

impl RefusedFrame {
    const ALL: [Self; 7] = [
        Self::Length,
        Self::Tls,
        Self::Stalled,
        Self::Header,
        Self::Unsupported,
        Self::Unauthenticated,
        Self::Malformed,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Tls => "tls",
            Self::Stalled => "stalled",
            Self::Header => "header",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::Malformed => "malformed",
        }
    }

    /// Counts it.
    pub(crate) fn count(self) {
        counter!(FRAMES_REFUSED, "reason" => self.label()).increment(1);
    }
}

/// The metrics of records in one direction, with handles that are looked up once.
#[derive(Debug)]
struct RecordMetrics {
    bytes: Counter,
    records: Counter,
}

impl RecordMetrics {
    fn new(direction: &'static str) -> Self {
        Self {
            bytes: counter!(RECORD_BYTES, "direction" => direction),
            records: counter!(RECORDS, "direction" => direction),
        }
    }

    fn count(&self, bytes: usize, records: u64) {
        self.bytes.increment(bytes as u64);
        self.records.increment(records);
    }
}

/// The metrics that handlers count. It must be made after the recorder is installed.
#[derive(Debug)]
pub(crate) struct Metrics {
    produced: RecordMetrics,
    fetched: RecordMetrics,
    fetch_seconds: Histogram,
    fetch_wait_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            produced: RecordMetrics::new("in"),
            fetched: RecordMetrics::new("out"),
            fetch_seconds: request_seconds(ApiKey::Fetch),
            fetch_wait_seconds: histogram!(FETCH_WAIT_SECONDS),
        }
    }

    /// Counts a batch that was appended.
    pub(crate) fn produced(&self, bytes: usize, records: i32) {
        self.produced
            .count(bytes, u64::try_from(records).unwrap_or(0));
    }

    /// Counts whole batches in an answer.
    pub(crate) fn fetched(&self, batches: &[Bytes]) {
        let (mut bytes, mut records) = (0, 0);
        for part in batches {
            let mut rest = &part[..];
            while let Ok(header) = BatchHeader::read(rest) {
                records += u64::try_from(header.count).unwrap_or(0);
                rest = &rest[header.bytes..];
            }
            bytes += part.len();
        }
        self.fetched.count(bytes, records);
    }

    /// Records the duration of a fetch, and the part of it that was a wait for records.
    pub(crate) fn fetch_took(&self, all: Duration, waited: Duration) {
        let worked = all.saturating_sub(waited);
        self.fetch_seconds.record(worked.as_secs_f64());
        self.fetch_wait_seconds.record(waited.as_secs_f64());
    }
}

/// The handles of each API's metrics, which are looked up once. It must be made after the recorder is installed.
#[derive(Debug)]
pub(crate) struct ApiMetrics(Vec<Option<OneApi>>);

#[derive(Debug, Clone)]
struct OneApi {
    requests: Counter,
    /// `None` if the handler records its time itself, without waits.
    seconds: Option<Histogram>,
}

impl ApiMetrics {
    /// Counts requests of these APIs. Each comes with whether its handler measures its time itself.
    pub(crate) fn new(apis: impl Iterator<Item = (ApiKey, bool)>) -> Self {
        let mut handles = Vec::new();
        for (key, times_itself) in apis {
            let at = index(key);
            if handles.len() <= at {
                handles.resize_with(at + 1, || None);
            }
            handles[at] = Some(OneApi {
                requests: counter!(REQUESTS, "api" => key.name()),
                seconds: (!times_itself).then(|| request_seconds(key)),
            });
        }
        Self(handles)
    }

    /// Counts a request, and its time once the returned timer is dropped.
    pub(crate) fn request(&self, api: ApiKey) -> RequestTimer {
        let of = self.0.get(index(api)).and_then(Option::as_ref);
        if let Some(of) = of {
            of.requests.increment(1);
        }
        RequestTimer {
            seconds: of.and_then(|of| of.seconds.clone()),
            since: Instant::now(),
        }
    }
}

fn request_seconds(api: ApiKey) -> Histogram {
    histogram!(REQUEST_SECONDS, "api" => api.name())
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
