//! Metrics of uploads and of the room for produce.

use std::time::Duration;

use metrics::{describe_gauge, gauge};

use crate::UploadStatus;

/// Bytes of batches that are durable and not uploaded.
pub const BACKLOG: &str = "highwater_s3stream_upload_backlog_bytes";
/// Seconds since the oldest of these batches became durable; 0 if there is none.
pub const OLDEST: &str = "highwater_s3stream_upload_oldest_seconds";
/// Seconds for which every put or commit has failed; 0 if the last one succeeded.
pub const FAILING: &str = "highwater_s3stream_upload_failing_seconds";
/// Bytes of the write-ahead log that are needed or reserved.
pub const WAL_USED: &str = "highwater_s3stream_wal_used_bytes";
/// Seconds that the oldest batch which is appended and not durable has waited; 0 if there is none. Only the object WAL
/// tells it.
pub const WAL_OLDEST: &str = "highwater_s3stream_wal_append_oldest_seconds";
/// The size limit of the write-ahead log in bytes.
pub const WAL_LIMIT: &str = "highwater_s3stream_wal_limit_bytes";
/// Produce requests that wait for room in the write-ahead log or the log cache.
pub const WAITING: &str = "highwater_s3stream_produce_waiting_requests";
/// Seconds for which such requests have waited without any of them getting room.
pub const HELD_BACK: &str = "highwater_s3stream_produce_held_back_seconds";

/// Describes every metric of this crate.
pub fn describe() {
    describe_gauge!(
        BACKLOG,
        "Bytes of batches that are durable in the write-ahead log and not uploaded."
    );
    describe_gauge!(
        OLDEST,
        "Seconds that the oldest batch which is not uploaded has been durable."
    );
    describe_gauge!(
        FAILING,
        "Seconds for which every upload has failed: the object store or the metadata is away."
    );
    describe_gauge!(
        WAL_USED,
        "Bytes of the write-ahead log that are needed or reserved."
    );
    describe_gauge!(
        WAL_OLDEST,
        "Seconds that the oldest batch which the object WAL has not made durable has waited; its put is late."
    );
    describe_gauge!(WAL_LIMIT, "Bytes that the write-ahead log may take.");
    describe_gauge!(
        WAITING,
        "Produce requests that wait for room in the write-ahead log or the log cache."
    );
    describe_gauge!(
        HELD_BACK,
        "Seconds since a waiting produce request last got room; 0 when none waits."
    );
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub(crate) fn set(status: &UploadStatus) {
    let seconds = |lasts: Option<Duration>| lasts.unwrap_or_default().as_secs_f64();
    gauge!(BACKLOG).set(status.backlog_bytes as f64);
    gauge!(OLDEST).set(seconds(status.oldest));
    gauge!(FAILING).set(seconds(status.failing));
    gauge!(WAL_USED).set(status.wal.used as f64);
    gauge!(WAL_OLDEST).set(seconds(status.wal_oldest));
    gauge!(WAL_LIMIT).set(status.wal.limit as f64);
    gauge!(WAITING).set(status.waiting as f64);
    gauge!(HELD_BACK).set(seconds(status.held_back));
}

/// The names of the caches, of which each has a memory budget.
pub const CACHES: [&str; 2] = ["log_cache", "block_cache"];

/// Sets the gauges of what waits to nothing, for a process whose streams have ended.
pub fn reset() {
    let all = [
        BACKLOG, OLDEST, FAILING, WAL_USED, WAL_OLDEST, WAITING, HELD_BACK,
    ];
    for gauge in all {
        gauge!(gauge).set(0.0);
    }
}
