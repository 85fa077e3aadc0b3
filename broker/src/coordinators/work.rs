//! The calls of a partition's state machine, and their answers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_coordinator::{Answer, Coordinator, Effects, Now, Ticket};
use highwater_protocol::ErrorCode;
use highwater_runtime::panic_text;
use highwater_s3stream::AppendReceipt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Host;
use crate::metrics;

/// An answer, with the receipt that must be durable before it is given; or the reason why the call was not made.
pub(super) type Answered<T> = Result<(T, Option<AppendReceipt>), ErrorCode>;
/// A job, which runs on the state machine or is refused with an error.
pub(super) type Act<M> = Box<dyn FnOnce(Result<&mut Work<M>, ErrorCode>) + Send>;
/// The caller that waits for the answer to a ticket.
type Waiting = Box<dyn FnOnce(Answered<Answer>) + Send>;

/// A job for a state machine. A job that is dropped answers `NOT_COORDINATOR`.
pub(super) enum Job<M: Coordinator> {
    /// It writes nothing, so it runs at once, even if other jobs wait for room (M2).
    Read(Act<M>),
    /// It may write, so it runs in its turn when there is room, and is refused after the deadline.
    Write(Instant, Act<M>),
}

impl<M: Coordinator> Job<M> {
    /// Answers with the reason why it is not done.
    pub(super) fn refuse(self, why: ErrorCode) {
        match self {
            Self::Read(act) | Self::Write(_, act) => act(Err(why)),
        }
    }
}

/// The description of a call, for the log.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Kafka's name of the API, or `none`.
    pub(super) api: &'static str,
    /// The group; empty means all groups.
    pub(super) group: String,
}

/// The state machine, and everything that a job changes.
pub(super) struct Work<M: Coordinator> {
    pub(super) machine: M,
    pub(super) effects: Effects<M::Action>,
    pub(super) now: Now,
    /// Set by a panic, which may have changed only a part of the state machine.
    broken: bool,
    /// The receipt of the last appended batch, while it is not durable.
    receipt: Option<AppendReceipt>,
    waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
}

impl<M: Coordinator> Work<M> {
    /// Starts with a state machine that has replayed nothing yet.
    pub(super) fn new(machine: M, now: Now) -> Self {
        Self {
            machine,
            effects: Effects::default(),
            now,
            broken: false,
            receipt: None,
            waiting: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Makes a call. If it panics, this state machine must not be used any more.
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` after a panic, as in Kafka: a client that repeats the request would cause the panic
    /// again.
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
                "request panicked: its coordinator is loaded again"
            );
            ErrorCode::UnknownServerError
        })
    }

    /// Whether the state machine may be used.
    ///
    /// # Errors
    /// The reason why it must be loaded again.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.broken {
            true => Err("a request panicked".to_owned()),
            false => Ok(()),
        }
    }

    /// Makes a call that is answered through the effects, now or later.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        asked: &Asked,
        to: oneshot::Sender<Answered<T>>,
        ask: impl FnOnce(&mut M, Ticket<T>, Now, &mut Effects<M::Action>),
    ) {
        self.tickets += 1;
        let number = self.tickets;
        let typed = |answer: Answered<Answer>| answer.map(|(answer, on)| (answer.value(), on));
        let waiting: Waiting = Box::new(move |answer| tell(to, typed(answer)));
        self.waiting.insert(number, waiting);
        let attempt = self.attempt(asked, |work| {
            let effects = &mut work.effects;
            ask(&mut work.machine, Ticket::new(number), work.now, effects);
        });
        if let Err(error) = attempt
            && let Some(waiting) = self.waiting.remove(&number)
        {
            waiting(Err(error));
        }
    }

    /// The receipt that must be durable before an answer may tell the current state.
    pub(super) fn pending(&mut self) -> Option<AppendReceipt> {
        self.receipt.take_if(|receipt| receipt.is_durable());
        self.receipt.clone()
    }

    /// Gives the answers of a round and starts its actions, once its records are appended.
    pub(super) fn appended<H: Host<Machine = M>>(
        &mut self,
        receipt: Option<AppendReceipt>,
        host: &H,
    ) {
        if receipt.is_some() {
            self.receipt = receipt;
        }
        let receipt = self.pending();
        for answer in self.effects.answers.drain(..) {
            if let Some(waiting) = self.waiting.remove(&answer.ticket()) {
                waiting(Ok((answer, receipt.clone())));
            }
        }
        for action in self.effects.actions.drain(..) {
            host.act(action, receipt.as_ref());
        }
    }
}

/// Sends an answer; a client that no longer waits is not an error.
pub(super) fn tell<T>(to: oneshot::Sender<T>, answer: T) {
    if to.send(answer).is_err() {
        tracing::trace!("client did not wait for its coordinator's answer");
    }
}
