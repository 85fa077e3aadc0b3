//! Memory and room in the log, which an append has before it begins (A1, M1).

use highwater_runtime::BytePermit;

/// What a reservation may take of memory and log, and behind which others it waits (M2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The budget without its reserve, behind those that came before: produce.
    Common,
    /// The reserve too, behind others of this kind alone: coordinators, which go on while produce waits for the store.
    Reserve,
    /// Past every bound and at once, refused only where the epoch ended: what a coordinator has decided already, beyond what
    /// it reserved for it. Where the disk has no room, what is appended with it waits in the log, and all that follows it.
    Unbounded,
}

/// Bytes of memory and log that a batch needs: what [`AppendPermit`] must hold for it.
#[must_use]
pub const fn record_bytes(batch_bytes: usize) -> u64 {
    batch_bytes as u64 + 192
}

/// How much of its own bytes a log holds: of the files of a ring, say. It is apart from memory, which batches leave only
/// when the log cache evicts them: a batch gives its room back when it is trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes that are not trimmed yet or are reserved.
    pub used: u64,
    /// Bytes there are; 0 for a log without a bound.
    pub limit: u64,
}

impl Room {
    /// Whether a quarter of it is taken: it is time to let go of something.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.limit > 0 && self.used >= self.limit / 4
    }
}

/// A reservation for one or more batches: what was promised to it is promised to nothing else. What it is made of is known
/// to the log that gave it alone. Dropping it gives back what was not appended with it.
#[derive(Debug)]
#[must_use]
pub struct AppendPermit {
    /// Of the log cache's budget: it goes to the batch, which keeps it in memory.
    pub(crate) memory: BytePermit,
    /// Of the log's own bytes: it goes to the log, which keeps it until the batch is trimmed.
    pub(crate) room: BytePermit,
}

impl AppendPermit {
    /// Bytes that may be appended with it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.memory.bytes().min(self.room.bytes())
    }

    /// Takes out the part for one batch (M1).
    ///
    /// # Panics
    /// When less is left.
    pub fn split(&mut self, bytes: u64) -> Self {
        Self {
            memory: self.memory.split(bytes),
            room: self.room.split(bytes),
        }
    }
}
