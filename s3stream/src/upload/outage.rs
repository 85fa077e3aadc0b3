//! The handling of failed puts and commits (rule D3).
//!
//! This file owns the wait before a retry, the end of a recovery's patience, and the log lines: one when uploads begin
//! to fail and one when they succeed again. `put` and `commit` decide which failures are retried.

use std::time::Duration;

use highwater_object_storage::StorageError;
use highwater_runtime::reasons;
use tokio::time::Instant;

use super::Uploads;
use super::held_back::Failed;
use super::room::millis;
use crate::StreamError;

/// The wait after a failed put or commit.
const REST: Duration = Duration::from_secs(1);
/// How long a start goes on while every put or commit fails (D3). The start survives a short outage, and ends with the
/// reason of a long one.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let failed = self
            .held_back()
            .upload_failed(error.clone(), is_full, Instant::now());
        if failed.all.is_zero() {
            tracing::warn!(error, "uploads fail, they are tried again");
        } else {
            tracing::debug!(error, "uploads fail, they are tried again");
        }
        failed
    }

    /// Notes that an object was put and committed.
    pub(super) fn succeeded(&self) {
        if let Some(failed) = self.held_back().upload_succeeded(Instant::now()) {
            tracing::info!(elapsed_ms = millis(failed), "uploads go on");
        }
    }
}
