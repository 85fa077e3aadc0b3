//! What is asked of a shard's groups, and how it is answered.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_coordinator::{Effects, GroupConfig, GroupShard, JoinReply, Now, SyncReply, Ticket};
use highwater_protocol::ErrorCode;
use highwater_runtime::panic_text;
use highwater_s3stream::AppendReceipt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics;

/// An answer, with what must be durable before it is given; or why nothing was done.
pub(super) type Answered<T> = Result<(T, Option<AppendReceipt>), ErrorCode>;
type Completion = Box<dyn FnOnce(Option<AppendReceipt>) + Send>;
/// Done on the groups, or refused with an error.
pub(super) type Act = Box<dyn FnOnce(Result<&mut Work, ErrorCode>) + Send>;

/// Something to be done with the groups of a shard. One that is dropped answers `NOT_COORDINATOR`.
pub(super) enum Job {
    /// It writes nothing: done at once, whatever waits for room (M2).
    Read(Act),
    /// It may write: done in its turn, when there is room; refused after the deadline.
    Write(Instant, Act),
}

impl Job {
    /// Answers why it is not done.
    pub(super) fn refuse(self, why: ErrorCode) {
        match self {
            Self::Read(act) | Self::Write(_, act) => act(Err(why)),
        }
    }
}

/// What is asked, for the log.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Kafka's name of the API, or none.
    pub(super) api: &'static str,
    /// Empty for all groups.
    pub(super) group: String,
}

/// What a job works on.
pub(super) struct Work {
    pub(super) shard: GroupShard,
    pub(super) effects: Effects,
    pub(super) now: Now,
    /// Set by a panic: the groups may be half changed.
    broken: bool,
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
            broken: false,
            receipt: None,
            completions: Vec::new(),
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Does what is asked. Where that panics, nothing more is to be done with these groups.
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` after a panic, as Kafka answers: a client that asks the same again would do it again.
    pub(super) fn attempt<T>(
        &mut self,
        asked: &Asked,
        ask: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, ErrorCode> {
        let done = catch_unwind(AssertUnwindSafe(|| ask(self)));
        done.map_err(|panic| {
            self.broken = true;
            metrics::count_panic(asked.api);
            tracing::error!(
                api = asked.api,
                group_id = ?asked.group,
                error = panic_text(&*panic),
                "request panicked: the groups that it may have changed are loaded again"
            );
            ErrorCode::UnknownServerError
        })
    }

    /// Whether the groups may be used.
    ///
    /// # Errors
    /// Why they are to be loaded again.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.broken {
            true => Err("a request panicked".to_owned()),
            false => Ok(()),
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

    /// Joins: the ticket is answered through the effects.
    pub(super) fn join(
        &mut self,
        asked: &Asked,
        to: oneshot::Sender<Answered<JoinReply>>,
        join: impl FnOnce(&mut Self, Ticket),
    ) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.joins.insert(ticket, to);
        if let Err(error) = self.attempt(asked, |work| join(work, ticket))
            && let Some(to) = self.joins.remove(&ticket)
        {
            tell(to, Err(error));
        }
    }

    /// Syncs: the ticket is answered through the effects.
    pub(super) fn sync(
        &mut self,
        asked: &Asked,
        to: oneshot::Sender<Answered<SyncReply>>,
        sync: impl FnOnce(&mut Self, Ticket),
    ) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.syncs.insert(ticket, to);
        if let Err(error) = self.attempt(asked, |work| sync(work, ticket))
            && let Some(to) = self.syncs.remove(&ticket)
        {
            tell(to, Err(error));
        }
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
