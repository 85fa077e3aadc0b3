//! What is durable and not uploaded yet: how it is cut into objects, and whether there is enough of it. Pure.

use std::collections::VecDeque;

use highwater_types::WalPosition;
use tokio::time::Instant;

/// The end of the WAL that no upload has taken, in pieces of an object each, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pieces: VecDeque<Piece>,
    /// The sums of the pieces: they are asked for at every sync, however long the backlog is.
    bytes: u64,
    memory: u64,
}

#[derive(Debug)]
struct Piece {
    /// Just after its last batch.
    end: WalPosition,
    /// Bytes of its batches.
    bytes: u64,
    /// Bytes of memory that they hold, padding and all.
    memory: u64,
    /// When the first of them became durable.
    since: Instant,
    /// Whether an upload has begun with it.
    is_cut: bool,
}

/// A batch that became durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durable {
    /// The WAL position just after it.
    pub(crate) end: WalPosition,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// The memory it holds.
    pub(crate) memory: u64,
}

impl Backlog {
    /// Takes a batch; an object is full at `object_bytes`. It is cut between two groups of the WAL, for the batches of
    /// one group share their position.
    pub(crate) fn add(&mut self, batch: Durable, object_bytes: u64, now: Instant) {
        self.bytes += batch.bytes;
        self.memory += batch.memory;
        if let Some(last) = self.pieces.back_mut()
            && (last.end == batch.end || (!last.is_cut && last.bytes < object_bytes))
        {
            last.end = batch.end;
            last.bytes += batch.bytes;
            last.memory += batch.memory;
            return;
        }
        self.pieces.push_back(Piece {
            end: batch.end,
            bytes: batch.bytes,
            memory: batch.memory,
            since: now,
            is_cut: false,
        });
    }

    /// Where the next object ends; the same again until it is uploaded.
    pub(crate) fn cut(&mut self) -> Option<WalPosition> {
        let next = self.pieces.front_mut()?;
        next.is_cut = true;
        Some(next.end)
    }

    /// Forgets what is uploaded and committed.
    pub(crate) fn uploaded(&mut self, end: WalPosition) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.end <= end) {
            self.bytes -= piece.bytes;
            self.memory -= piece.memory;
        }
    }

    /// Bytes of its batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory that its batches hold.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// When the oldest batch became durable.
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
        };
        backlog.add(batch, 100, Instant::now());
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
        // what comes while a piece is uploaded is of the next, however small that is
        add(&mut backlog, 60, 1);
        assert_eq!(backlog.cut(), Some(at(50)));
        backlog.uploaded(at(50));
        assert_eq!((backlog.bytes(), backlog.cut()), (1, Some(at(60))));
        backlog.uploaded(at(60));
        assert!(backlog.oldest().is_none() && backlog.cut().is_none());
        assert_eq!((backlog.bytes(), backlog.memory()), (0, 0));
    }
}
