//! Memory and room in the log, which a request reserves before it appends (A1, M1).

use highwater_runtime::BytePermit;

/// How much of memory and room a reservation may take, and behind which other reservations it waits (M2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// For produce: the budget without its reserve, behind all earlier reservations of this share.
    Common,
    /// For coordinators, which have to continue while produce waits for the store: the budget with its reserve, behind
    /// earlier reservations of this share only.
    Reserve,
    /// For decisions that a coordinator has made and that exceed its reservation: at once and past every bound. It is
    /// refused only if the epoch has ended. If the disk has no room, the batch and all batches behind it wait in the
    /// log.
    Unbounded,
}

/// Bytes of memory and of the log that a batch needs, which its [`AppendPermit`] must hold.
#[must_use]
pub const fn record_bytes(batch_bytes: usize) -> u64 {
    batch_bytes as u64 + 192
}

/// How many of its own bytes, for example of a ring's files, a log uses. Room is distinct from memory: a batch gives
/// its room back when it is trimmed, and its memory when the log cache evicts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes that are reserved or not trimmed yet.
    pub used: u64,
    /// Bytes in all; 0 for a log without a bound.
    pub limit: u64,
}

impl Room {
    /// Whether a quarter of it is used, so that uploads should make room.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.limit > 0 && self.used >= self.limit / 4
    }
}

/// A reservation for one or more batches. It is opaque: only the log that gave it knows its contents. Dropping it gives
/// back what was not appended.
#[derive(Debug)]
#[must_use]
pub struct AppendPermit {
    /// Bytes of the log cache's budget. They pass to the batch, which holds them while it is in memory.
    pub(crate) memory: BytePermit,
    /// Bytes of the log. They pass to the log, which holds them until the batch is trimmed.
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
