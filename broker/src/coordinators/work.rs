//! What is asked of a shard's groups, and how it is answered.

use std::collections::BTreeMap;

use highwater_coordinator::{Effects, GroupConfig, GroupShard, JoinReply, Now, SyncReply, Ticket};
use highwater_protocol::ErrorCode;
use highwater_s3stream::AppendReceipt;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// An answer, with what must be durable before it is given; or why nothing was done.
pub(super) type Answered<T> = Result<(T, Option<AppendReceipt>), ErrorCode>;
type Completion = Box<dyn FnOnce(Option<AppendReceipt>) + Send>;
/// Done on the groups, or refused with an error.
pub(super) type Writing = Box<dyn FnOnce(Result<&mut Work, ErrorCode>) + Send>;

/// Something to be done with the groups of a shard.
pub(super) enum Job {
    /// It writes nothing: done at once, whatever waits for room (M2).
    Read(Box<dyn FnOnce(&mut Work) + Send>),
    /// It may write: done in its turn, when there is room; refused after the deadline.
    Write(Instant, Writing),
}

/// What a job works on.
pub(super) struct Work {
    pub(super) shard: GroupShard,
    pub(super) effects: Effects,
    pub(super) now: Now,
    /// Of the last batch appended, while it is not durable.
    receipt: Option<AppendReceipt>,
    completions: Vec<Completion>,
    joins: BTreeMap<Ticket, oneshot::Sender<Answered<JoinReply>>>,
    syncs: BTreeMap<Ticket, oneshot::Sender<Answered<SyncReply>>>,
    tickets: u64,
}

impl Work {
    /// On no groups yet.
    pub(super) fn new(config: GroupConfig, now: Now) -> Self {
        Self {
            shard: GroupShard::new(config),
            effects: Effects::default(),
            now,
            receipt: None,
            completions: Vec::new(),
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Answers when the records of this round are appended.
    pub(super) fn complete<T: Send + 'static>(
        &mut self,
        answer: T,
        to: oneshot::Sender<Answered<T>>,
    ) {
        self.completions
            .push(Box::new(move |receipt| tell(to, Ok((answer, receipt)))));
    }

    /// A ticket for a join, answered through the effects.
    pub(super) fn join_ticket(&mut self, to: oneshot::Sender<Answered<JoinReply>>) -> Ticket {
        self.tickets += 1;
        self.joins.insert(Ticket(self.tickets), to);
        Ticket(self.tickets)
    }

    /// A ticket for a sync, answered through the effects.
    pub(super) fn sync_ticket(&mut self, to: oneshot::Sender<Answered<SyncReply>>) -> Ticket {
        self.tickets += 1;
        self.syncs.insert(Ticket(self.tickets), to);
        Ticket(self.tickets)
    }

    /// What must be durable before the state now may be told.
    pub(super) fn pending(&mut self) -> Option<AppendReceipt> {
        self.receipt.take_if(|receipt| receipt.is_durable());
        self.receipt.clone()
    }

    /// Answers what the records just appended stand for.
    pub(super) fn appended(&mut self, receipt: Option<AppendReceipt>) {
        if receipt.is_some() {
            self.receipt = receipt;
        }
        let receipt = self.pending();
        for completion in self.completions.drain(..) {
            completion(receipt.clone());
        }
        for (ticket, reply) in self.effects.joins.drain(..) {
            if let Some(to) = self.joins.remove(&ticket) {
                tell(to, Ok((reply, receipt.clone())));
            }
        }
        for (ticket, reply) in self.effects.syncs.drain(..) {
            if let Some(to) = self.syncs.remove(&ticket) {
                tell(to, Ok((reply, receipt.clone())));
            }
        }
    }
}

/// Sends an answer; that the client does not wait any more is no error.
pub(super) fn tell<T>(to: oneshot::Sender<T>, answer: T) {
    if to.send(answer).is_err() {
        tracing::trace!("a client did not wait for its group's answer");
    }
}
