//! Groups of entries. One sync makes one or several groups durable.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;

/// Entries that lie together in memory and in the log, and become durable together.
#[derive(Debug)]
pub struct Group<M> {
    /// The memory with the entries, and with the block's header and padding. It stays allocated while any slice of it
    /// is held.
    pub memory: Bytes,
    /// The range of each entry in the memory, and the value that was appended with it.
    pub entries: Vec<(Range<usize>, M)>,
    /// The position after the group.
    pub end: u64,
    /// The group's number; the first is 1.
    pub number: u64,
}

/// Receives groups as they become durable, in order, on the writer's thread, before any waiter is woken.
pub trait GroupReceiver<M>: Debug + Send + Sync + 'static {
    /// Receives the groups of one sync. It must not block for long: the next sync waits for it.
    fn durable(&self, groups: Vec<Group<M>>);
    /// Is called once, when nothing more will become durable.
    fn ended(&self);
}
