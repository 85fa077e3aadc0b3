//! Groups: what one sync makes durable, one or more of them.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;

/// Entries that lie together in memory and in the log, and became durable together.
#[derive(Debug)]
pub struct Group<M> {
    /// The memory they lie in, with what the log put around them: all of it is held while any slice of it is.
    pub memory: Bytes,
    /// Where each lies in that memory, with what was given for it.
    pub entries: Vec<(Range<usize>, M)>,
    /// The position just after the group.
    pub end: u64,
    /// Its number, from 1.
    pub number: u64,
}

/// Takes what became durable, in order, on the writer's thread, before any waiter is woken.
pub trait GroupSink<M>: Debug + Send + Sync + 'static {
    /// Takes the groups of one sync; never blocks for long.
    fn durable(&self, groups: Vec<Group<M>>);
    /// Is told that nothing more will become durable.
    fn ended(&self);
}
