//! What a proposal waits for: a log that no snapshot replaced for long takes no more until one does.

use std::time::Duration;

use highwater_runtime::ByteBudget;
use tokio::sync::watch;

use super::RaftMetadata;
use crate::MetadataStore;
use crate::error::ProposeError;

/// How long a proposal waits for a snapshot: less than the 30 s that Kafka's clients wait for an answer.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(20);
/// A snapshot that is asked for while another is being written is forgotten: so it is asked for again.
const ASKED_AGAIN: Duration = Duration::from_millis(50);
/// What commands that wait may take together, as they are encoded; a larger one waits alone.
const WAITING_BYTES_MAX: u64 = 1 << 20;
/// What a command that waits takes beside its bytes.
const WAITING_BYTES: u64 = 1 << 10;

/// What those that wait share.
#[derive(Debug)]
pub(super) struct Waiting {
    room: ByteBudget,
    /// Why the snapshot that is to be written finds no room.
    pub(super) lacking: watch::Receiver<Option<String>>,
}

impl Waiting {
    pub(super) fn new(lacking: watch::Receiver<Option<String>>) -> Self {
        let room = ByteBudget::new(WAITING_BYTES_MAX);
        Self { room, lacking }
    }
}

impl RaftMetadata {
    pub(super) fn is_too_long(&self) -> bool {
        self.voter.is_too_long()
    }

    /// Why no command is decided for now: the log waits for a snapshot, and that for room on the disk.
    pub(super) fn lacks(&self) -> Option<String> {
        let lacking = self.waiting.lacking.borrow().clone();
        let lacking = lacking.filter(|_| self.is_too_long());
        lacking.map(|why| format!("its log waits for a snapshot: {why}"))
    }

    /// Waits until the log takes a command of so many bytes. Nothing is held meanwhile but the command, and all that wait
    /// hold no more than they may. Where the snapshot finds no room on the disk the command is refused at once, as where the
    /// log finds none. Cancellation safe: nothing was proposed.
    pub(super) async fn turn(&self, bytes: usize) -> Result<(), ProposeError> {
        if !self.is_too_long() {
            return Ok(());
        }
        if let Some(why) = self.lacks() {
            return Err(ProposeError::Unavailable(why));
        }
        let bytes = (bytes as u64).saturating_add(WAITING_BYTES);
        let waits = self.waiting.room.try_acquire(bytes.min(WAITING_BYTES_MAX));
        let Some(_waits) = waits else {
            let reason = "its log waits for a snapshot, and too many commands do";
            return Err(ProposeError::Unavailable(reason.to_owned()));
        };
        self.for_room(PROPOSAL_DEADLINE)
            .await
            .map_err(ProposeError::Unavailable)
    }

    /// Waits until a snapshot has replaced enough of the log; its error says why none has. Cancellation safe.
    pub(super) async fn for_room(&self, within: Duration) -> Result<(), String> {
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

    /// Waits until the log is no longer too long; for ever where it has ended.
    async fn until_short(&self) {
        while self.is_too_long() {
            if self.voter.raft.trigger().snapshot().await.is_err() {
                std::future::pending::<()>().await;
            }
            let wait = self.voter.raft.wait(Some(ASKED_AGAIN));
            let taken = wait.metrics(|_| !self.is_too_long(), "a snapshot replaces the log");
            // where it did not, or left more than the log may take, it is asked for again
            drop(taken.await);
        }
    }
}
