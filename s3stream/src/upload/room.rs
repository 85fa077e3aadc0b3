//! Room for produce requests (rules M1, D3).
//!
//! This file owns a request's wait for memory and for room in the log, which wakes the upload, and the log lines of a
//! long wait. The room itself belongs to the log and the memory budget, and `Evictions` free the memory of batches.

use std::pin::pin;
use std::time::Duration;

use highwater_wal::{Room, Share, WalError};
use tokio::time::{Instant, timeout};

use super::Uploads;
use crate::{AppendPermit, StreamError};

/// How long requests wait before that is logged.
pub(super) const SAID_AFTER: Duration = Duration::from_secs(1);

/// A request that waits for room.
struct Waiting<'a>(&'a Uploads);

impl<'a> Waiting<'a> {
    fn new(uploads: &'a Uploads) -> Self {
        uploads.held_back().wait(Instant::now());
        uploads.wake.notify_one();
        Self(uploads)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.held_back().leave();
    }
}

impl Uploads {
    /// The used and the whole room of the log; empty before the log is attached.
    pub(super) fn wal_room(&self) -> Room {
        let wal = self.wal.try_get();
        wal.map_or_else(Room::default, |wal| wal.room())
    }

    /// Waits for room for a whole request. A coordinator has a reserve, so its wait is not logged. Cancellation safe.
    pub(crate) async fn reserve(
        &self,
        bytes: u64,
        share: Share,
    ) -> Result<AppendPermit, StreamError> {
        self.evictions.make_room(bytes);
        if share != Share::Common {
            return self.room(bytes, share).await;
        }
        if self.failed.borrow().is_none()
            && let Some(permit) = self.wal.get().try_reserve(bytes)
        {
            self.say_it_goes_on();
            return Ok(permit);
        }
        let waiting = Waiting::new(self);
        let mut reserving = pin!(self.room(bytes, share));
        let reserved = match timeout(SAID_AFTER, reserving.as_mut()).await {
            Ok(reserved) => reserved,
            Err(_elapsed) => {
                self.say_held_back();
                reserving.await
            }
        };
        drop(waiting);
        match &reserved {
            Ok(_) => self.say_it_goes_on(),
            Err(StreamError::Wal(WalError::Full)) => self.say_held_back(),
            Err(_) => {}
        }
        reserved
    }

    async fn room(&self, bytes: u64, share: Share) -> Result<AppendPermit, StreamError> {
        let mut full = self.store_full.subscribe();
        let wal = self.wal.get();
        // every arm is cancellation safe
        tokio::select! {
            biased;
            _reason = self.failed() => Err(StreamError::Wal(WalError::Ended)),
            reserved = wal.reserve(bytes, share) => reserved.map_err(StreamError::Wal),
            // D3: the log or the memory is full, and stays full while the store accepts no upload
            _full = full.wait_for(|full| *full), if share != Share::Unbounded => Err(StreamError::Wal(WalError::Full)),
        }
    }

    fn say_held_back(&self) {
        let Some(held) = self.held_back().say(Instant::now()) else {
            return;
        };
        let bytes = self.backlog().bytes();
        tracing::warn!(
            elapsed_ms = millis(held),
            bytes,
            "produce is held back: no room until more is uploaded"
        );
    }

    fn say_it_goes_on(&self) {
        if let Some(held) = self.held_back().goes_on(Instant::now()) {
            tracing::info!(
                elapsed_ms = millis(held),
                "produce is not held back any more"
            );
        }
    }
}

/// A duration in milliseconds, for log lines.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
