//! What the handles of a log and its writer share.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::LogError;
use crate::filling::{Filling, Segments};

/// What the writer has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Groups that are durable.
    pub groups: u64,
    /// The position just after them.
    pub end: u64,
    /// How the log ended; once it has, nothing more becomes durable.
    pub ended: Option<Ended>,
    /// Whether the disk has no room for the next file. It is tried again until it has.
    pub full: bool,
    /// Bytes that still fit into files that are there: what follows the last group.
    pub room: u64,
    /// Bytes of files that become room once what they hold is let go of.
    pub held: u64,
}

/// How a log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was closed, and everything that was appended before is durable.
    Closed,
    /// By an error.
    Failed(LogError),
}

pub(crate) struct Shared<M> {
    pub(crate) open: Mutex<Open<M>>,
    pub(crate) wake: Notify,
    pub(crate) state: watch::Sender<State>,
    /// Apart from the state, so that who waits for the end is not woken by every sync.
    pub(crate) ended: watch::Sender<bool>,
}

impl<M> Shared<M> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Open<M>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Open<M> {
    /// Groups that are closed and wait for the writer.
    pub(crate) closed: VecDeque<Filling<M>>,
    pub(crate) filling: Filling<M>,
    pub(crate) segments: Segments,
    pub(crate) closing: bool,
    pub(crate) floor: u64,
    /// Room that somebody waits for.
    pub(crate) wanted: u64,
}
