//! What an append is answered with, and the one watermark that all answers look at.

use tokio::sync::watch;

use crate::WalError;

/// How far the log is durable. Group commits are numbered from 1, in the order of appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    /// Every group commit up to this one is durable.
    UpTo(u64),
    /// The log ended after this one.
    Ended(u64),
}

impl Confirmed {
    fn up_to(self) -> u64 {
        let (Self::UpTo(group) | Self::Ended(group)) = self;
        group
    }
}

/// How far a log acknowledges; a backend has one, and raises it by whole prefixes alone (W2).
#[derive(Debug)]
pub(crate) struct Watermark(watch::Sender<Confirmed>);

impl Watermark {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Confirmed::UpTo(0)))
    }

    /// Acknowledges every group commit up to this one; nothing any more after the end.
    pub(crate) fn raise(&self, group: u64) {
        self.0.send_if_modified(|confirmed| match confirmed {
            Confirmed::UpTo(up_to) => {
                *up_to = group.max(*up_to);
                true
            }
            Confirmed::Ended(_) => false,
        });
    }

    /// What is not acknowledged never will be.
    pub(crate) fn end(&self) {
        self.0
            .send_modify(|confirmed| *confirmed = Confirmed::Ended(confirmed.up_to()));
    }

    /// A receipt for a batch of a group commit.
    pub(crate) fn receipt(&self, group: u64) -> AppendReceipt {
        AppendReceipt {
            group,
            confirmed: self.0.subscribe(),
        }
    }
}

/// A promise about one appended batch. Dropping it cancels nothing.
#[must_use]
#[derive(Debug, Clone)]
pub struct AppendReceipt {
    /// The group commit that the batch is in.
    group: u64,
    confirmed: watch::Receiver<Confirmed>,
}

impl AppendReceipt {
    /// Waits until the batch is durable. Cancellation safe.
    ///
    /// # Errors
    /// [`WalError::Ended`] when the log ended before: the batch may or may not be durable.
    pub async fn wait(&mut self) -> Result<(), WalError> {
        let group = self.group;
        let reached = self.confirmed.wait_for(|confirmed| match confirmed {
            Confirmed::UpTo(up_to) => *up_to >= group,
            Confirmed::Ended(_) => true,
        });
        match reached.await {
            Ok(confirmed) if confirmed.up_to() >= group => Ok(()),
            _ => Err(WalError::Ended),
        }
    }

    /// Whether the batch is durable already.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.confirmed.borrow().up_to() >= self.group
    }

    /// The one of some receipts of a log that resolves last: the others have resolved then.
    pub fn last_of<'a>(receipts: impl Iterator<Item = &'a Self>) -> Option<&'a Self> {
        receipts.max_by_key(|receipt| receipt.group)
    }
}
