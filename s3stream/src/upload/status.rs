//! How far uploads are behind, for health, metrics and people.

use std::time::Duration;

use highwater_types::ByteSize;
use highwater_wal::Room;
use tokio::time::Instant;

use super::Uploads;
use super::room::SAID_AFTER;

/// How far uploads are behind, and whether produce waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadStatus {
    /// Bytes of batches that are durable and not uploaded.
    pub backlog_bytes: u64,
    /// For how long the oldest of them has been durable.
    pub oldest: Option<Duration>,
    /// For how long every put or commit has failed.
    pub failing: Option<Duration>,
    /// Why the last of them failed; empty where it did not.
    pub failed_by: String,
    /// Requests that wait for room.
    pub waiting: u64,
    /// For how long requests have waited without one that got room.
    pub held_back: Option<Duration>,
    /// What the WAL holds and may hold.
    pub wal: Room,
}

impl UploadStatus {
    /// Why produce does not go on, in words; none where it does.
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
    /// How far uploads are behind now.
    pub(crate) fn status(&self) -> UploadStatus {
        let now = Instant::now();
        let since = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        let (backlog_bytes, oldest) = {
            let backlog = self.backlog();
            (backlog.bytes(), since(backlog.oldest()))
        };
        let held = self.held_back();
        let failing = held.failing();
        UploadStatus {
            backlog_bytes,
            oldest,
            failing: since(failing.map(|(at, _)| at)),
            failed_by: failing.map_or_else(String::new, |(_, by)| by.to_owned()),
            waiting: held.waiting(),
            held_back: since(held.since()),
            wal: self.wal_room(),
        }
    }
}
