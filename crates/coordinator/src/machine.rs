//! The trait of coordinators: a state machine that is replicated through one partition of an internal topic.
//!
//! One driver, in the broker, runs every kind. It passes the records of the partition to [`Coordinator::replay`],
//! from the first to the last, then calls [`Coordinator::loaded`]. From then on it calls [`Coordinator::tick`] when
//! [`Coordinator::wake_at`] is due, and serves requests: each is a method of the concrete state machine that takes
//! the time and [`Effects`]. A call may change as many keys of the partition as it likes, because its records are
//! appended together.
//!
//! A call changes the state at once. Its effects become visible later: the driver appends the records, and it sends
//! the answers once these records and all before them are durable. Actions are passed on together with the position
//! that must be durable before they are carried out. If the records can't be appended, or if a call panics, no effect
//! becomes visible, and the driver drops the state machine and loads it again.

use std::any::Any;
use std::fmt::{self, Debug};
use std::marker::PhantomData;

use bytes::Bytes;
use highwater_protocol::DecodeError;

/// A state machine over one partition of an internal topic. It does no I/O and has neither a clock nor a task.
pub trait Coordinator: Debug + Send + 'static {
    /// An action that the driver carries out outside of the partition.
    type Action: Debug + Send + 'static;

    /// Applies a record of the log.
    ///
    /// # Errors
    /// [`RecordError::Unknown`]: the state hasn't changed, and the driver skips the record.
    /// [`RecordError::Malformed`]: the load fails.
    fn replay(&mut self, record: &CoordinatorRecord, now: Now) -> Result<(), RecordError>;

    /// Is called once, when the log has been replayed to its end. Timers start now, however long the replay took, and
    /// work that was begun and not finished before is taken up again.
    fn loaded(&mut self, now: Now, effects: &mut Effects<Self::Action>);

    /// When [`Coordinator::tick`] must be called next; monotonic milliseconds.
    fn wake_at(&self) -> Option<u64>;

    /// Does what is due. It may be called earlier and more often than requested.
    fn tick(&mut self, now: Now, effects: &mut Effects<Self::Action>);
}

/// Why a record can't be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record ends too early, or has a wrong length: its content is lost, so the log can't be relied on.
    #[error("record is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The record was written by a newer broker, or by one with other features: it is skipped.
    #[error("record is unknown {0}")]
    Unknown(UnknownRecord),
}

/// A kind of record, or a version of a known kind's value, that this version doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownRecord {
    /// The kind, with which the key begins.
    pub record_type: i16,
    /// The version, with which the value begins, if the kind is known.
    pub version: Option<i16>,
}

impl fmt::Display for UnknownRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type={}", self.record_type)?;
        self.version
            .map_or(Ok(()), |version| write!(f, " version={version}"))
    }
}

/// The time of a call, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since an arbitrary start, never decreasing: for deadlines.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970: for records.
    pub wall_ms: i64,
}

/// A record of an internal topic. A record without a value deletes its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRecord {
    /// The record's key.
    pub key: Bytes,
    /// The record's value.
    pub value: Option<Bytes>,
}

/// The effects of a call, which the driver carries out.
#[derive(Debug)]
pub struct Effects<A> {
    /// Records to append, in this order. Those of one call go into one batch if they fit.
    pub records: Vec<CoordinatorRecord>,
    /// Answers to send once the records are durable.
    pub answers: Vec<Answer>,
    /// Actions to carry out outside of the partition.
    pub actions: Vec<A>,
    /// The largest batch that the log accepts, for calls that must fit into one batch. Without limit by default.
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
    /// Whether there is no effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty() && self.actions.is_empty()
    }

    /// Answers a ticket of this call or of an earlier one.
    pub fn answer<T: Send + 'static>(&mut self, ticket: Ticket<T>, value: T) {
        self.answers.push(Answer {
            ticket: ticket.number,
            value: Box::new(value),
        });
    }
}

/// The place of one answer, of a type. A ticket is answered once, by the call that received it or by a later one. If
/// it never is, the driver answers with an error when the state machine is dropped.
pub struct Ticket<T> {
    number: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Ticket<T> {
    /// A ticket with a number that no other ticket has.
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
    /// The ticket's number.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The answer's value.
    ///
    /// # Panics
    /// When the ticket was created for another type.
    #[must_use]
    pub fn value<T: 'static>(self) -> T {
        let value = self.value.downcast();
        *value.expect("the answer to a ticket has the ticket's type")
    }
}
