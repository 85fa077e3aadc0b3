//! State that the handles of a log and its writer share.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use highwater_io::Segments;
use tokio::sync::{Notify, watch};

use crate::LogError;
use crate::filling::Filling;

/// The state of an open log, as its writer publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The number of groups that are durable.
    pub groups: u64,
    /// The position after the last durable group.
    pub end: u64,
    /// How the log ended; once it has, nothing more becomes durable.
    pub ended: Option<Ended>,
    /// Whether the disk has no room for the next file. The writer tries again until there is room.
    pub full: bool,
    /// The bytes that can be written before another file is needed.
    pub room: u64,
    /// The bytes of files that can be reused once the log is trimmed.
    pub held: u64,
}

/// How a log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was closed, and everything that was appended before is durable.
    Closed,
    /// It failed, and the error says why.
    Failed(LogError),
}

pub(crate) struct Shared<M> {
    pub(crate) open: Mutex<Open<M>>,
    pub(crate) wake: Notify,
    pub(crate) state: watch::Sender<State>,
    /// Separate from the state, so that a sync doesn't wake the tasks that wait for the end.
    pub(crate) ended: watch::Sender<bool>,
}

impl<M> Shared<M> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Open<M>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Open<M> {
    /// Closed groups that the writer has not taken yet.
    pub(crate) closed: VecDeque<Filling<M>>,
    pub(crate) filling: Filling<M>,
    pub(crate) segments: Segments,
    pub(crate) closing: bool,
    pub(crate) floor: u64,
    /// The room that a caller has requested, in bytes.
    pub(crate) requested: u64,
}
