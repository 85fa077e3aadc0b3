//! The handling of failed puts and commits (rule D3).
//!
//! This file owns the wait before a retry, the end of a recovery's patience, and the log lines: one when uploads begin
//! to fail and one when they succeed again. `put` and `commit` decide which failures are retried. [`Outage`] is pure.

use std::time::Duration;

use highwater_object_storage::StorageError;
use highwater_runtime::reasons;
use tokio::time::Instant;

use super::Uploads;
use super::room::millis;
use crate::StreamError;

/// The wait after a failed put or commit.
const REST: Duration = Duration::from_secs(1);
/// How long a start goes on while every put or commit fails (D3). The start survives a short outage, and ends with the
/// reason of a long one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run of failed puts and commits, with no success in between; none at first.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<Failures>);

#[derive(Debug)]
struct Failures {
    /// The time of the first failure.
    since: Instant,
    /// The time of the last failure for which the store was full.
    full: Option<Instant>,
    /// The reason of the last failure.
    why: String,
}

/// How long every put and commit has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed {
    /// The time since the first failure; zero at the first failure itself.
    all: Duration,
    /// The time since the last failure for which the store was full, or since the first failure if there was none of
    /// that kind.
    since_full: Duration,
}

impl Outage {
    /// Notes that a put or a commit failed, because the store is full or for another reason.
    fn failed(&mut self, why: String, is_full: bool, now: Instant) -> Failed {
        let before = self.0.take();
        let since = before.as_ref().map_or(now, |before| before.since);
        let full = match is_full {
            true => Some(now),
            false => before.and_then(|before| before.full),
        };
        self.0 = Some(Failures { since, full, why });
        Failed {
            all: now.duration_since(since),
            since_full: now.duration_since(full.unwrap_or(since)),
        }
    }

    /// Notes that an object is uploaded and committed; returns how long none was.
    fn ended(&mut self, now: Instant) -> Option<Duration> {
        let failures = self.0.take()?;
        Some(now.duration_since(failures.since))
    }

    /// The time since when no upload has succeeded, and the reason of the last failure.
    pub(super) fn failing(&self) -> Option<(Instant, &str)> {
        let failures = self.0.as_ref()?;
        Some((failures.since, &failures.why))
    }
}

impl Uploads {
    /// Waits before a retry. While the store is full, a recovery also waits for the deletion of condemned objects,
    /// which begins after their grace; other failures in between do not shorten that.
    ///
    /// # Errors
    /// The failure, if a recovery has waited for too long.
    pub(super) async fn rest(&self, error: StreamError) -> Result<(), StreamError> {
        let failed = self.note_failure(&error);
        let until_room = PATIENCE.saturating_add(self.config.room_within);
        let is_long = failed.since_full >= PATIENCE || failed.all >= until_room;
        if self.is_recovering() && is_long {
            return Err(error);
        }
        tokio::time::sleep(REST).await;
        Ok(())
    }

    /// Notes that a put or a commit failed, which is logged once for each outage; returns how long all have failed.
    fn note_failure(&self, error: &StreamError) -> Failed {
        let is_full = matches!(error, StreamError::Storage(StorageError::Full { .. }));
        let error = reasons(error);
        let now = Instant::now();
        let failed = self.outage().failed(error.clone(), is_full, now);
        if failed.all.is_zero() {
            tracing::warn!(error, "uploads fail, they are tried again");
        } else {
            tracing::debug!(error, "uploads fail, they are tried again");
        }
        failed
    }

    /// Notes that an object was put and committed.
    pub(super) fn succeeded(&self) {
        if let Some(failed) = self.outage().ended(Instant::now()) {
            tracing::info!(elapsed_ms = millis(failed), "uploads go on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_one_beginning_and_one_end() {
        let mut outage = Outage::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(outage.ended(at(0)), None);
        let mut fail = |why: &str, is_full, seconds| {
            let failed = outage.failed(why.to_owned(), is_full, at(seconds));
            (failed.all.as_secs(), failed.since_full.as_secs())
        };
        assert_eq!(fail("away", false, 1), (0, 0));
        assert_eq!(fail("away", false, 11), (10, 10));
        assert_eq!(fail("full", true, 30), (29, 0));
        assert_eq!(fail("away", false, 40), (39, 10), "it was full lately");
        assert_eq!(outage.failing(), Some((at(1), "away")));
        assert_eq!(outage.ended(at(61)), Some(Duration::from_secs(60)));
        assert_eq!(outage.ended(at(62)), None);
        let failed = outage.failed("away".to_owned(), false, at(70));
        assert_eq!(failed.since_full, Duration::ZERO, "another outage");
    }
}
