//! Room for produce: a request that waits for it wakes the uploader, and a long wait is logged (rules M1, D3).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use highwater_object_storage::StorageError;
use highwater_runtime::reasons;
use highwater_types::ByteSize;
use highwater_wal::{Room, Share, WalError};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use crate::backlog::Backlog;
use crate::held_back::{Failed, HeldBack};
use crate::store::Shared;
use crate::{AppendPermit, StreamError};

/// How long produce waits before that is said.
const SAID_AFTER: Duration = Duration::from_secs(1);
/// No object takes more batches, whatever is configured: a request takes 5 GiB at most, and one that fails is made again.
const OBJECT_BYTES_MAX: u64 = 1 << 30;

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

/// A request that waits for room.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.held_back().wait(Instant::now());
        shared.wake_upload.notify_one();
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.held_back().leave();
    }
}

impl Shared {
    pub(crate) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn held_back(&self) -> MutexGuard<'_, HeldBack> {
        let held_back = self.held_back.lock();
        held_back.unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of batches that are worth an object: what is cached besides says nothing of it, for uploaded batches stay
    /// until their room is needed.
    pub(crate) fn object_bytes(&self) -> u64 {
        let bytes = self.config.upload_bytes.min(OBJECT_BYTES_MAX);
        bytes.min(self.parts.memory.limit() / 4)
    }

    /// Whether what is not uploaded is worth an object, holds a quarter of the memory or of the WAL, or is waited for.
    pub(crate) fn is_upload_due(&self) -> bool {
        let (bytes, memory) = {
            let backlog = self.backlog();
            (backlog.bytes(), backlog.memory())
        };
        bytes > 0
            && (bytes >= self.object_bytes()
                || memory >= self.parts.memory.limit() / 4
                || self.wal_room().is_short()
                || self.held_back().waiting() > 0)
    }

    fn wal_room(&self) -> Room {
        self.wal.get().map_or_else(Room::default, |wal| wal.room())
    }

    /// Evicts what keeps others from memory: a quarter of it is free, and half where somebody waits.
    pub(crate) fn evict_for_room(&self) {
        let quarters = if self.held_back().waiting() > 0 { 2 } else { 3 };
        self.evict_to(self.parts.memory.limit() / 4 * quarters);
    }

    /// Waits for room for a whole request; of a coordinator's, which has a reserve, nothing is said. Cancellation safe.
    pub(crate) async fn reserve(
        &self,
        bytes: u64,
        share: Share,
    ) -> Result<AppendPermit, StreamError> {
        let memory = &self.parts.memory;
        let keep = memory.limit() / 4 * 3;
        if memory.used() + bytes > keep {
            self.evict_to(keep.saturating_sub(bytes));
        }
        if share != Share::Common {
            return self.room(bytes, share).await;
        }
        if self.failed.borrow().is_none()
            && let Some(permit) = self.wal().try_reserve(bytes)
        {
            self.say_it_goes_on();
            return Ok(permit);
        }
        // unconstrained: one that is told to let others run first does not wait for room
        let mut reserving = pin!(unconstrained(self.room(bytes, share)));
        let at_once = poll_fn(|cx| Poll::Ready(reserving.as_mut().poll(cx))).await;
        let reserved = match at_once {
            Poll::Ready(reserved) => reserved,
            Poll::Pending => {
                let _waiting = Waiting::new(self);
                match timeout(SAID_AFTER, reserving.as_mut()).await {
                    Ok(reserved) => reserved,
                    Err(_elapsed) => {
                        self.say_held_back();
                        reserving.await
                    }
                }
            }
        };
        match &reserved {
            Ok(_) => self.say_it_goes_on(),
            Err(StreamError::Wal(WalError::Full)) => {
                drop(Waiting::new(self));
                self.say_held_back();
            }
            Err(_) => {}
        }
        reserved
    }

    async fn room(&self, bytes: u64, share: Share) -> Result<AppendPermit, StreamError> {
        let mut full = self.store_full.subscribe();
        // every arm is cancellation safe
        tokio::select! {
            biased;
            _reason = self.failed() => Err(StreamError::Wal(WalError::Ended)),
            reserved = self.wal().reserve(bytes, share) => reserved.map_err(StreamError::Wal),
            // D3: ring or memory is full, and nothing will leave it while the store takes nothing
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

    /// A put or a commit failed and is tried again: said once for each outage. Answers for how long all have failed.
    pub(crate) fn upload_failed(&self, error: &StreamError) -> Failed {
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

    /// An object is uploaded and committed.
    pub(crate) fn upload_succeeded(&self) {
        if let Some(failed) = self.held_back().upload_succeeded(Instant::now()) {
            tracing::info!(elapsed_ms = millis(failed), "uploads go on");
        }
    }

    pub(crate) fn upload_status(&self) -> UploadStatus {
        let now = Instant::now();
        let since = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        let (backlog_bytes, oldest) = {
            let backlog = self.backlog();
            (backlog.bytes(), since(backlog.oldest()))
        };
        let held = self.held_back();
        UploadStatus {
            backlog_bytes,
            oldest,
            failing: since(held.failing().map(|(at, _)| at)),
            failed_by: held
                .failing()
                .map_or_else(String::new, |(_, by)| by.to_owned()),
            waiting: held.waiting(),
            held_back: since(held.since()),
            wal: self.wal_room(),
        }
    }

    /// The node epoch has to end; nothing is reserved any more.
    pub(crate) fn fail(&self, reason: String) {
        self.failed.send_replace(Some(reason));
    }

    pub(crate) async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(reason) = failed.borrow_and_update().clone() {
                return reason;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
