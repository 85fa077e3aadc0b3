//! The loop: when an upload is due, and one upload after the other.
//!
//! It owns the order of the steps of an upload: cut, encode, put, commit, release, trim. Each step is in a file of its own.

use std::sync::Arc;

use highwater_runtime::reasons;
use tokio::time::Instant;

use super::Uploads;
use super::begun::Begun;
use super::plan::Pressure;
use crate::StreamError;

/// No object takes more batches, whatever is configured: a request takes 5 GiB at most, and one that fails is made again.
const OBJECT_BYTES_MAX: u64 = 1 << 30;

impl Uploads {
    /// Uploads for ever: when enough has gathered, when room is short, and at the latest after the interval. Ends when an
    /// upload is refused for good, and the node epoch with it (A1, U3).
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.until_due().await;
            if let Err(error) = self.next().await {
                self.fail(reasons(&error));
                return;
            }
        }
    }

    async fn until_due(&self) {
        let interval = self.config.upload_interval;
        let begin = Instant::now();
        loop {
            // a batch that comes while there is none is not as old as this wait
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

    /// Uploads all that is durable now; nothing to do is no error. Cancellation safe: the next upload goes on.
    pub(crate) async fn all(&self) -> Result<(), StreamError> {
        while self.next().await? {}
        Ok(())
    }

    /// The last upload of a clean stop. What was refused for good is not tried again: it would be refused again, and leave
    /// another object behind.
    pub(crate) async fn finish(&self) -> Result<(), StreamError> {
        let is_refused = self.failed.borrow().is_some();
        match is_refused {
            true => Ok(()),
            false => self.all().await,
        }
    }

    /// Uploads the oldest of what is durable, as one object; answers whether there was anything. One at a time.
    /// Cancellation safe: the next call goes on with the object that was begun.
    async fn next(&self) -> Result<bool, StreamError> {
        let mut under_way = self.under_way.lock().await;
        if under_way.is_none() {
            // all that lies before the cut has reached its stream: that is done under the same lock
            let cut = self.backlog().cut();
            if let Some(floor) = cut {
                *under_way = Some(Begun::encode(self, floor).await?);
            }
        }
        let is_any = under_way.is_some();
        if let Some(begun) = &*under_way {
            begun.put_and_commit(self).await?;
        }
        if let Some(done) = under_way.take() {
            let floor = done.release(self);
            self.backlog().uploaded(floor);
            let is_waited_for = self.held_back().waiting() > 0;
            self.evictions.keep_free(is_waited_for);
            self.wal.get().trim(floor);
        }
        self.carry_checkpoints(self.committed_floor()).await?;
        Ok(is_any)
    }

    /// Bytes of batches that are worth an object. What is cached besides does not count, for uploaded batches stay until
    /// their room is needed.
    pub(super) fn object_bytes(&self) -> u64 {
        let bytes = self.config.upload_bytes.min(OBJECT_BYTES_MAX);
        bytes.min(self.memory.limit() / 4)
    }

    /// Whether an upload is due before the interval is over.
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
            is_waited_for: self.held_back().waiting() > 0,
        };
        pressure.is_upload_due()
    }
}
