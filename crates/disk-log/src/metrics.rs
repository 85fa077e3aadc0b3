//! The metrics of logs on disk.

/// Seconds that a sync takes, by log. Every acknowledgement waits for a sync.
pub const SYNC_SECONDS: &str = "highwater_disk_log_sync_seconds";

/// Describes every metric of this crate.
pub fn describe() {
    metrics::describe_histogram!(
        SYNC_SECONDS,
        metrics::Unit::Seconds,
        "Time that a sync of a log takes, by log: the write-ahead log or the metadata log."
    );
}
