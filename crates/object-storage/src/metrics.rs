//! Metrics of the requests to a store, which cost money.

/// Requests by `op`, `class` and `outcome`; each attempt counts as one.
pub const REQUESTS: &str = "highwater_object_storage_requests_total";
/// Bytes of objects sent and received, by `op` and `class`.
pub const BYTES: &str = "highwater_object_storage_bytes_total";
/// Seconds from sending a request to its end, by `op`.
pub const REQUEST_SECONDS: &str = "highwater_object_storage_request_seconds";
/// Seconds that the oldest put without an answer has been under way, by `class`; 0 if none is under way.
pub const PUT_OLDEST: &str = "highwater_object_storage_put_oldest_seconds";

/// Describes every metric of this crate.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests to the object store, each attempt.");
    metrics::describe_counter!(
        BYTES,
        metrics::Unit::Bytes,
        "Bytes of objects sent to and received from the object store."
    );
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time from a request to the object store to its end."
    );
    metrics::describe_gauge!(
        PUT_OLDEST,
        metrics::Unit::Seconds,
        "Time for which the object store has not answered the oldest put; 0 when none is under way."
    );
}
