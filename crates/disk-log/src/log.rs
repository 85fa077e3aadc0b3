//! The open log: entries that are appended gather in groups, which one writer makes durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use highwater_io::{Segments, Threads};
use tokio::sync::{Notify, watch};

use crate::filling::{Filling, Part};
use crate::group::GroupReceiver;
use crate::metrics::SYNC_SECONDS;
use crate::state::{Ended, Open, Shared, State};
use crate::writer::Writer;
use crate::{LogError, Recovery};

/// The group of an appended entry. The entry is durable once its group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The number of its group; the first is 1.
    pub group: u64,
}

/// An open log. Cheap to clone.
pub struct DiskLog<M>(Arc<Shared<M>>);

impl<M> Clone for DiskLog<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> std::fmt::Debug for DiskLog<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLog")
    }
}

impl<M: Send + 'static> DiskLog<M> {
    /// Continues a log at its end, under a new opening number. The log must have been read to its end before.
    ///
    /// # Panics
    /// When `opening` is not above every earlier one (D1), or the log was not read to its end.
    #[must_use]
    pub fn start(
        recovery: Recovery,
        opening: u64,
        threads: &dyn Threads,
        name: &'static str,
        receiver: Arc<dyn GroupReceiver<M>>,
    ) -> Self {
        assert!(
            recovery.is_done(),
            "a log must be read to its end before it is started"
        );
        assert!(
            opening > recovery.opening(),
            "an opening number must be above all earlier ones"
        );
        let end = recovery.end;
        let (room, held) = (recovery.files.prepared() - end, recovery.files.held(end));
        let shared = Arc::new(Shared {
            open: Mutex::new(Open {
                closed: VecDeque::new(),
                filling: Filling::first(),
                segments: Segments::default(),
                closing: false,
                floor: recovery.files.first_position(),
                requested: 0,
            }),
            wake: Notify::new(),
            state: watch::Sender::new(State {
                groups: 0,
                end,
                ended: None,
                full: false,
                room,
                held,
            }),
            ended: watch::Sender::new(false),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            files: recovery.files,
            opening,
            position: end,
            synced: end,
            full: false,
            sync_seconds: metrics::histogram!(SYNC_SECONDS, "log" => name),
            receiver,
        };
        threads.spawn(name, Box::pin(writer.run()));
        Self(shared)
    }

    /// Appends one entry by copying its parts into the group being filled; never waits. The entry is durable when
    /// [`State::groups`] reaches its group.
    pub fn append(&self, parts: &[Part<'_>], meta: M) -> Appended {
        let bytes = parts.iter().map(|part| part.bytes.len()).sum();
        let mut locked = self.lock();
        let open = &mut *locked;
        if !open.filling.fits(bytes) {
            let full = open.filling.close();
            open.closed.push_back(full);
        }
        let begins = open.filling.is_empty();
        open.filling.push(&mut open.segments, parts, bytes, meta);
        let group = open.filling.number;
        drop(locked);
        if begins {
            self.0.wake.notify_one();
        }
        Appended { group }
    }

    fn lock(&self) -> MutexGuard<'_, Open<M>> {
        self.0.lock()
    }

    /// A watch of the log's state.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Releases everything below a position. It happens soon, and isn't durable.
    pub fn trim(&self, floor: u64) {
        let mut open = self.lock();
        open.floor = open.floor.max(floor);
        drop(open);
        self.0.wake.notify_one();
    }

    /// Requests room for `bytes` more. [`State::room`] shows when it is there, [`State::full`] when the disk has none.
    pub fn request_room(&self, bytes: u64) {
        let mut open = self.lock();
        open.requested = open.requested.max(bytes);
        drop(open);
        self.0.wake.notify_one();
    }

    /// Waits until the log has ended, and returns the error if it failed. Cancellation safe.
    pub async fn ended(&self) -> Option<LogError> {
        let mut ended = self.0.ended.subscribe();
        // the watch fails if the writer is gone, which also means that the log has ended
        drop(ended.wait_for(|ended| *ended).await);
        match &self.0.state.borrow().ended {
            Some(Ended::Failed(error)) => Some(error.clone()),
            Some(Ended::Closed) | None => None,
        }
    }

    /// Ends the log, once all appended entries are durable. Never waits.
    pub fn close(&self) {
        self.lock().closing = true;
        self.0.wake.notify_one();
    }

    /// Makes all appended entries durable and ends the log.
    ///
    /// # Errors
    /// The error with which the log ended.
    pub async fn shutdown(&self) -> Result<(), LogError> {
        self.close();
        match self.ended().await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Appended {
    /// Waits until the entry is durable; returns false if the log ended before. Cancellation safe.
    pub async fn wait(self, mut state: watch::Receiver<State>) -> bool {
        let reached = state
            .wait_for(|state| state.groups >= self.group || state.ended.is_some())
            .await;
        reached.is_ok_and(|state| state.groups >= self.group)
    }
}
