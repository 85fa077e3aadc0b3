//! Backpressure on proposals: a log that has grown too long takes no more commands until a snapshot has replaced it.

use std::time::Duration;

use highwater_runtime::ByteBudget;
use tokio::sync::watch;

use crate::raft::voter::{Undecided, Voter};

/// How long a proposal waits for a snapshot. It is less than the 30 s that Kafka's clients wait for an answer.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(20);
/// How often a waiter triggers a snapshot: the library ignores a trigger while it is writing another snapshot.
const ASKED_AGAIN: Duration = Duration::from_millis(50);
/// The encoded bytes that waiting commands may take together; a larger command waits alone.
const WAITING_BYTES_MAX: u64 = 1 << 20;
/// The bytes that a waiting command takes beside its encoding.
const WAITING_BYTES: u64 = 1 << 10;

/// The state that all waiting proposals share.
#[derive(Debug)]
pub(in crate::raft) struct Waiting {
    room: ByteBudget,
    /// Why the snapshot that is due finds no room on the disk.
    pub(super) lacking: watch::Receiver<Option<String>>,
}

impl Waiting {
    pub(super) fn new(lacking: watch::Receiver<Option<String>>) -> Self {
        let room = ByteBudget::new(WAITING_BYTES_MAX);
        Self { room, lacking }
    }
}

impl Voter {
    /// Why no command is decided for now: the log waits for a snapshot, and the snapshot waits for room on the disk.
    pub(in crate::raft) fn lacks(&self) -> Option<String> {
        let lacking = self.waiting.lacking.borrow().clone();
        let lacking = lacking.filter(|_| self.is_too_long());
        lacking.map(|why| format!("its log waits for a snapshot: {why}"))
    }

    /// Waits until the log takes a command of so many bytes. A waiter holds nothing but its command, and all waiters
    /// together stay within a budget. The command is refused at once if the snapshot finds no room on the disk, just as
    /// when the log finds none. Cancellation safe: nothing was proposed.
    pub(in crate::raft) async fn turn(&self, bytes: usize) -> Result<(), Undecided> {
        if !self.is_too_long() {
            return Ok(());
        }
        if let Some(why) = self.lacks() {
            return Err(Undecided::Unavailable(why));
        }
        let bytes = (bytes as u64).saturating_add(WAITING_BYTES);
        let waits = self.waiting.room.try_acquire(bytes.min(WAITING_BYTES_MAX));
        let Some(_waits) = waits else {
            let reason = "its log waits for a snapshot, and too many commands wait for that";
            return Err(Undecided::Unavailable(reason.to_owned()));
        };
        self.for_room(PROPOSAL_DEADLINE)
            .await
            .map_err(Undecided::Unavailable)
    }

    /// Waits until a snapshot has replaced enough of the log; the error says why none has. Cancellation safe.
    pub(in crate::raft) async fn for_room(&self, within: Duration) -> Result<(), String> {
        let found = async {
            tokio::select! {
                biased;
                why = self.ended() => Err(why),
                () = self.until_short() => Ok(()),
            }
        };
        let found = tokio::time::timeout(within, found).await;
        found.unwrap_or_else(|_elapsed| {
            let slow = || {
                let seconds = within.as_secs();
                format!("its log waits for a snapshot, which is not written after {seconds} s")
            };
            Err(self.lacks().unwrap_or_else(slow))
        })
    }

    /// Waits until the log is no longer too long; never returns once the log has ended.
    async fn until_short(&self) {
        while self.is_too_long() {
            if self.raft.trigger().snapshot().await.is_err() {
                std::future::pending::<()>().await;
            }
            let wait = self.raft.wait(Some(ASKED_AGAIN));
            let taken = wait.metrics(|_| !self.is_too_long(), "a snapshot replaces the log");
            // if no snapshot was written, or the log is still too long, the loop triggers another
            drop(taken.await);
        }
    }
}
