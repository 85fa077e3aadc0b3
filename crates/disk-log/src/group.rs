//! Groups: what one sync makes durable.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;

/// Entries that became durable together.
#[derive(Debug)]
pub struct Group<M> {
    /// Their bytes, one after the other.
    pub body: Bytes,
    /// Where each lies in the body, with what was given for it.
    pub entries: Vec<(Range<usize>, M)>,
    /// The position just after the group.
    pub end: u64,
    /// Its number, from 1.
    pub number: u64,
}

/// Takes what became durable, in order, on the writer's thread, before any waiter is woken.
pub trait GroupSink<M>: Debug + Send + Sync + 'static {
    /// Takes one group; never blocks for long.
    fn durable(&self, group: Group<M>);
    /// Is told that nothing more will become durable.
    fn ended(&self);
}
