//! The durable batches that are not uploaded yet, their size, and where they are cut into objects. This code is pure.

use std::collections::VecDeque;

use highwater_types::WalPosition;
use tokio::time::Instant;

/// The most rolls that begin in one object. The commit lists each of them, and a command of the metadata may take 16 MiB
/// at most; a roll takes up to 70 bytes of it.
pub(super) const ROLLS_MAX: usize = 1 << 16;

/// The end of the WAL that is not uploaded, in pieces of one object each, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pieces: VecDeque<Piece>,
    /// The sums over the pieces, because every sync asks for them, however long the backlog is.
    bytes: u64,
    memory: u64,
}

#[derive(Debug)]
struct Piece {
    /// The WAL position after its last batch.
    end: WalPosition,
    /// The bytes of its batches.
    bytes: u64,
    /// The memory that the batches hold, with padding.
    memory: u64,
    /// The number of rolls that begin in it.
    rolls: usize,
    /// The time when its first batch became durable.
    since: Instant,
    /// Whether an upload of it has begun.
    is_cut: bool,
}

/// A batch that became durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durable {
    /// The WAL position after the batch.
    pub(crate) end: WalPosition,
    /// The size of the batch.
    pub(crate) bytes: u64,
    /// The memory that the batch holds.
    pub(crate) memory: u64,
    /// Whether a roll begins with the batch.
    pub(crate) begins_roll: bool,
}

impl Piece {
    fn is_full(&self, object_bytes: u64) -> bool {
        self.is_cut || self.bytes >= object_bytes || self.rolls >= ROLLS_MAX
    }
}

impl Backlog {
    /// The WAL position after its last batch, if it has any.
    pub(crate) fn end(&self) -> Option<WalPosition> {
        self.pieces.back().map(|piece| piece.end)
    }

    /// Adds a batch; an object is full at `object_bytes`, or when many rolls begin in it. The cut is between two groups of the WAL, because the batches
    /// of one group have the same position.
    pub(crate) fn add(&mut self, batch: Durable, object_bytes: u64, now: Instant) {
        self.bytes += batch.bytes;
        self.memory += batch.memory;
        if let Some(last) = self.pieces.back_mut()
            && (last.end == batch.end || !last.is_full(object_bytes))
        {
            last.end = batch.end;
            last.bytes += batch.bytes;
            last.memory += batch.memory;
            last.rolls += usize::from(batch.begins_roll);
            return;
        }
        self.pieces.push_back(Piece {
            end: batch.end,
            bytes: batch.bytes,
            memory: batch.memory,
            rolls: usize::from(batch.begins_roll),
            since: now,
            is_cut: false,
        });
    }

    /// The position up to which the next object goes; it stays the same until that is uploaded.
    pub(crate) fn cut(&mut self) -> Option<WalPosition> {
        let next = self.pieces.front_mut()?;
        next.is_cut = true;
        Some(next.end)
    }

    /// Removes the pieces that are uploaded and committed.
    pub(crate) fn uploaded(&mut self, end: WalPosition) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.end <= end) {
            self.bytes -= piece.bytes;
            self.memory -= piece.memory;
        }
    }

    /// The bytes of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The memory that the batches hold.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// The time when the oldest batch became durable.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.pieces.front().map(|piece| piece.since)
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::NodeEpoch;

    use super::*;

    fn at(at: u64) -> WalPosition {
        let epoch = NodeEpoch(1);
        WalPosition { epoch, at }
    }

    fn add(backlog: &mut Backlog, end: u64, bytes: u64) {
        let batch = Durable {
            end: at(end),
            bytes,
            memory: bytes + 1,
            begins_roll: false,
        };
        backlog.add(batch, 100, Instant::now());
    }

    // A commit lists every roll, and the metadata refuses a command without bound (U3).
    #[test]
    fn an_object_is_cut_when_many_rolls_begin_in_it_however_small_they_are() {
        let mut backlog = Backlog::default();
        let rolls = ROLLS_MAX as u64;
        for end in 1..=2 * rolls {
            let batch = Durable {
                end: at(end),
                bytes: 1,
                memory: 1,
                begins_roll: end != rolls,
            };
            backlog.add(batch, u64::MAX, Instant::now());
        }
        assert_eq!(backlog.cut(), Some(at(rolls + 1)));
        backlog.uploaded(at(rolls + 1));
        assert_eq!(backlog.cut(), Some(at(2 * rolls)));
    }

    #[test]
    fn it_is_cut_between_groups_into_objects_of_bounded_size() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.cut(), None);
        for (end, bytes) in [(10, 60), (20, 60), (30, 20), (30, 200), (40, 5), (50, 5)] {
            add(&mut backlog, end, bytes);
        }
        assert_eq!((backlog.bytes(), backlog.memory()), (350, 356));
        assert_eq!(backlog.cut(), Some(at(20)));
        assert_eq!(backlog.cut(), Some(at(20)), "until it is uploaded");
        backlog.uploaded(at(20));
        assert_eq!(backlog.cut(), Some(at(30)), "a group is never cut");
        backlog.uploaded(at(30));
        assert_eq!(backlog.cut(), Some(at(50)));
        // a batch that comes while a piece is being uploaded belongs to the next piece, however small the piece is
        add(&mut backlog, 60, 1);
        assert_eq!(backlog.cut(), Some(at(50)));
        backlog.uploaded(at(50));
        assert_eq!((backlog.bytes(), backlog.cut()), (1, Some(at(60))));
        backlog.uploaded(at(60));
        assert!(backlog.oldest().is_none() && backlog.cut().is_none());
        assert_eq!((backlog.bytes(), backlog.memory()), (0, 0));
    }
}
