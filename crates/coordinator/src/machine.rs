//! What a coordinator is: a state machine that is replicated through one partition of an internal topic.
//!
//! One driver, in the broker, runs every kind. It gives the records of the partition to [`Coordinator::replay`], from the
//! first to the last, then calls [`Coordinator::loaded`]. From then on it calls [`Coordinator::tick`] when
//! [`Coordinator::wake_at`] is due, and does requests, each a call of a method of the state machine's own that takes the
//! time and [`Effects`]. A call may touch as many keys of the partition as it likes: its records are appended together.
//!
//! A call changes the state at once. What it leaves in the effects goes on when its records are appended: an answer reaches
//! the client once they, and all before them, are durable; an action is told with what has to be durable first. Where they
//! can't be appended nothing of it is told, and the state machine is dropped and loaded again, as it is where a call panics.

use std::any::Any;
use std::fmt::{self, Debug};
use std::marker::PhantomData;

use bytes::Bytes;

use crate::RecordError;

/// A state machine over one partition of an internal topic. It does no I/O, has no clock and no task.
pub trait Coordinator: Debug + Send + 'static {
    /// What it wants done outside of its partition.
    type Action: Debug + Send + 'static;

    /// Takes a record as it stands in the log.
    ///
    /// # Errors
    /// [`RecordError::Unknown`], which changed nothing and is passed over; [`RecordError::Malformed`], which ends the load.
    fn replay(&mut self, record: &CoordinatorRecord, now: Now) -> Result<(), RecordError>;

    /// The log is replayed to its end: timers start now, however long that took, and what was begun before and isn't ended
    /// is taken up again.
    fn loaded(&mut self, now: Now, effects: &mut Effects<Self::Action>);

    /// When [`Coordinator::tick`] wants to be called; monotonic milliseconds.
    fn wake_at(&self) -> Option<u64>;

    /// Does what is due; called earlier and more often than was asked for, too.
    fn tick(&mut self, now: Now, effects: &mut Effects<Self::Action>);
}

/// The time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds from any start, never back: deadlines.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970: what records say.
    pub wall_ms: i64,
}

/// A record of an internal topic; without a value it deletes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRecord {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// What a call leaves to be done.
#[derive(Debug)]
pub struct Effects<A> {
    /// To be appended, in this order; those of one call in one batch, where a batch may hold them.
    pub records: Vec<CoordinatorRecord>,
    /// To be given when the records are durable.
    pub answers: Vec<Answer>,
    /// To be done outside of the partition.
    pub actions: Vec<A>,
    /// The largest batch that is appended, for calls that are all or nothing. No bound by default.
    pub batch_bytes_max: usize,
}

impl<A> Default for Effects<A> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            answers: Vec::new(),
            actions: Vec::new(),
            batch_bytes_max: usize::MAX,
        }
    }
}

impl<A> Effects<A> {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty() && self.actions.is_empty()
    }

    /// Answers a ticket, of this call or of an earlier one.
    pub fn answer<T: Send + 'static>(&mut self, ticket: Ticket<T>, value: T) {
        self.answers.push(Answer {
            ticket: ticket.number,
            value: Box::new(value),
        });
    }
}

/// What waits for an answer of a type. It is answered once, now or in a later call; what is never answered is told when the
/// state machine is dropped.
pub struct Ticket<T> {
    number: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Ticket<T> {
    /// A ticket by its number, which no other has.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self {
            number,
            of: PhantomData,
        }
    }
}

impl<T> Clone for Ticket<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ticket<T> {}

impl<T> PartialEq for Ticket<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Ticket<T> {}

impl<T> Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.number).finish()
    }
}

/// The answer to a ticket.
#[derive(Debug)]
pub struct Answer {
    ticket: u64,
    value: Box<dyn Any + Send>,
}

impl Answer {
    /// The number of its ticket.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// What is answered.
    ///
    /// # Panics
    /// Where its ticket is one for another type.
    #[must_use]
    pub fn value<T: 'static>(self) -> T {
        let value = self.value.downcast();
        *value.expect("a ticket is answered in its own type alone")
    }
}
