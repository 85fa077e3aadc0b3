//! The upload loop: it decides when an upload is due, and runs one upload after the other.
//!
//! It owns the order of an upload's steps: cut, encode, put, commit, release, trim. Each step is in a file of its own.

use std::sync::Arc;

use tokio::time::Instant;

use super::Uploads;
use super::begun::Begun;
use super::plan::Pressure;
use crate::StreamError;

/// The most bytes of batches in an object, whatever is configured: a PUT takes 5 GiB at most, and a failed one is
/// repeated.
const OBJECT_BYTES_MAX: u64 = 1 << 30;

impl Uploads {
    /// Uploads until the node epoch ends, as it does when an upload is refused for good (A1, U3): when enough batches have
    /// gathered, when room is short, and at the latest after the interval.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            // both arms are cancellation safe
            tokio::select! {
                biased;
                _reason = self.failed() => return,
                () = self.until_due() => {}
            }
            if let Err(error) = self.next().await {
                self.end_by(&error);
                return;
            }
        }
    }

    async fn until_due(&self) {
        let interval = self.config.upload_interval;
        let begin = Instant::now();
        loop {
            // a batch that comes during this wait is younger than the wait
            let oldest = self.backlog().oldest().unwrap_or(begin);
            if self.is_due() {
                return;
            }
            // both arms are cancellation safe
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(oldest + interval) => return,
            }
        }
    }

    /// Uploads all batches that are durable now, if there are any. Cancellation safe: the next upload continues.
    pub(crate) async fn all(&self) -> Result<(), StreamError> {
        while self.next().await? {}
        Ok(())
    }

    /// The last upload of a clean stop. An upload that was refused for good is not repeated: it would be refused again,
    /// and leave another object behind.
    pub(crate) async fn finish(&self) -> Result<(), StreamError> {
        let is_refused = self.failed.borrow().is_some();
        match is_refused {
            true => Ok(()),
            false => self.all().await,
        }
    }

    /// Uploads the oldest durable batches as one object; returns whether there were any. One call runs at a time.
    /// Cancellation safe: the next call continues with the object that was begun.
    async fn next(&self) -> Result<bool, StreamError> {
        let mut under_way = self.under_way.lock().await;
        if under_way.is_none() {
            // all batches before the cut have reached their streams, because that happens under the same lock
            let cut = self.backlog().cut();
            if let Some(floor) = cut {
                *under_way = Some(Begun::encode(self, floor).await?);
            }
        }
        let is_any = under_way.is_some();
        self.go_on(&mut under_way).await?;
        self.carry_checkpoints(self.committed_floor()).await?;
        Ok(is_any)
    }

    /// Ends the upload that was begun, if there is one. Cancellation safe: it stays begun.
    pub(super) async fn go_on(&self, under_way: &mut Option<Begun>) -> Result<(), StreamError> {
        if let Some(begun) = under_way {
            begun.put_and_commit(self).await?;
        }
        if let Some(done) = under_way.take() {
            let floor = done.release(self);
            self.backlog().uploaded(floor);
            let is_waited_for = self.held_back().waiting() > 0;
            self.evictions.keep_free(is_waited_for);
            self.wal.get().trim(floor);
        }
        Ok(())
    }

    /// The bytes of batches at which an object is worth its requests. Uploaded batches in the cache do not count,
    /// because they stay only until their room is needed.
    pub(super) fn object_bytes(&self) -> u64 {
        let bytes = self.config.upload_bytes.min(OBJECT_BYTES_MAX);
        bytes.min(self.memory.limit() / 4)
    }

    /// Whether an upload is due before the interval ends.
    pub(super) fn is_due(&self) -> bool {
        let (bytes, memory) = {
            let backlog = self.backlog();
            (backlog.bytes(), backlog.memory())
        };
        let pressure = Pressure {
            bytes,
            object_bytes: self.object_bytes(),
            memory,
            memory_max: self.memory.limit(),
            is_wal_short: self.wal_room().is_short(),
            is_waited_for: self.held_back().waiting() > 0 || self.is_moving(),
        };
        pressure.is_upload_due()
    }
}
