//! What happens while puts or commits fail (rule D3).
//!
//! It owns the rest before the same is tried again, the end of a recovery's patience, and the log lines: one when uploads
//! begin to fail and one when they go on. It does not decide which failures are tried again: `put` and `commit` do.

use std::time::Duration;

use highwater_object_storage::StorageError;
use highwater_runtime::reasons;
use tokio::time::Instant;

use super::Uploads;
use super::held_back::Failed;
use super::room::millis;
use crate::StreamError;

/// How long a failed put or commit rests.
const REST: Duration = Duration::from_secs(1);
/// How long a start goes on while every put or commit fails (D3): it outlasts a short outage, and ends with the reason of a
/// long one.
const PATIENCE: Duration = Duration::from_secs(60);

impl Uploads {
    /// Waits before the same is tried again. While the store is full a recovery waits for what is condemned to be deleted
    /// too, which is after its grace; other failures in between do not end that.
    ///
    /// # Errors
    /// The failure, where a recovery has waited for long.
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

    /// Notes that a put or a commit failed, which is logged once for each outage; answers for how long all have failed.
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

    /// Notes that an object is put and committed.
    pub(super) fn succeeded(&self) {
        if let Some(failed) = self.held_back().upload_succeeded(Instant::now()) {
            tracing::info!(elapsed_ms = millis(failed), "uploads go on");
        }
    }
}
