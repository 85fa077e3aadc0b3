//! The status of uploads, for health, metrics and operators.

use std::time::Duration;

use highwater_types::ByteSize;
use highwater_wal::Room;
use tokio::time::Instant;

use super::Uploads;
use super::room::SAID_AFTER;

/// How far uploads are behind, and whether produce waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadStatus {
    /// The bytes of batches that are durable and not uploaded.
    pub backlog_bytes: u64,
    /// How long the oldest of them has been durable.
    pub oldest: Option<Duration>,
    /// How long every put or commit has failed.
    pub failing: Option<Duration>,
    /// The reason of the last failure; empty if the last one succeeded.
    pub failed_by: String,
    /// The number of requests that wait for room.
    pub waiting: u64,
    /// How long requests have waited without any of them getting room.
    pub held_back: Option<Duration>,
    /// How long the oldest batch that was appended and is not durable has waited, where the WAL knows it.
    pub wal_oldest: Option<Duration>,
    /// The used and the whole room of the WAL.
    pub wal: Room,
}

impl UploadStatus {
    /// The reason why produce is held back, as text for the operator; `None` if it is not.
    #[must_use]
    pub fn hindrance(&self) -> Option<String> {
        let held = self.held_back.filter(|held| *held >= SAID_AFTER)?.as_secs();
        let backlog = ByteSize(self.backlog_bytes);
        let mut told =
            format!("produce has been held back for {held} s: {backlog} wait for their upload");
        if let Some(failing) = self.failing {
            told += &format!(", and every upload has failed for {} s", failing.as_secs());
        }
        Some(told)
    }
}

impl Uploads {
    /// The present status.
    pub(crate) fn status(&self) -> UploadStatus {
        let now = Instant::now();
        let since = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        let (backlog_bytes, oldest) = {
            let backlog = self.backlog();
            (backlog.bytes(), since(backlog.oldest()))
        };
        let held = self.held_back();
        let outage = self.outage();
        let failing = outage.failing();
        UploadStatus {
            backlog_bytes,
            oldest,
            failing: since(failing.map(|(at, _)| at)),
            failed_by: failing.map_or_else(String::new, |(_, by)| by.to_owned()),
            waiting: held.waiting(),
            held_back: since(held.since()),
            wal_oldest: self.wal.try_get().and_then(|wal| wal.oldest_append()),
            wal: self.wal_room(),
        }
    }
}
