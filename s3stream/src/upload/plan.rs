//! Decides what is uploaded, and when (rules U1, F2, F5). This code is pure: it locks nothing and waits for nothing.
//!
//! It decides whether an upload is due, which batches of a stream go into an object and with which checkpoint, and in
//! which steps they may be evicted afterwards. `backlog` decides how the backlog is cut into objects.

use bytes::Bytes;
use highwater_object_format::{BatchEntry, SummedBytes};
use highwater_types::{StreamOffset, Timestamp, WalPosition};

use super::summed;
use crate::cache::Cached;
use crate::folding::{Deltas, Folding};
use crate::stream::State;
use crate::{DeltaFold, Folded};

/// The number of batches that are evicted in one step, so that an eviction frees no more than necessary.
const EVICTED_AT_ONCE: usize = 64;

/// The values by which an upload may be due before its interval ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pressure {
    /// The bytes of batches that are not uploaded.
    pub(super) bytes: u64,
    /// The bytes of batches at which an object is worth its requests.
    pub(super) object_bytes: u64,
    /// The memory that the batches hold, with padding.
    pub(super) memory: u64,
    /// The size of the log cache's budget.
    pub(super) memory_max: u64,
    /// Whether the log is short of room.
    pub(super) is_wal_short: bool,
    /// Whether a request waits for room.
    pub(super) is_waited_for: bool,
}

impl Pressure {
    /// Whether the batches are worth an object, hold a quarter of the memory or of the log, or block a waiting request.
    pub(super) fn is_upload_due(self) -> bool {
        let is_enough = self.bytes >= self.object_bytes || self.memory >= self.memory_max / 4;
        self.bytes > 0 && (is_enough || self.is_wal_short || self.is_waited_for)
    }
}

/// One batch of an upload.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entry: BatchEntry,
    pub(super) delta: Bytes,
    pub(super) roll: bool,
    pub(super) append_time: Timestamp,
    pub(super) body: SummedBytes,
}

/// Which streams of an upload get a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoints {
    /// Those of which one is due (F2).
    WhenDue,
    /// Every one, because their next leaders read it at once (C2).
    Always,
}

/// The batches that an upload takes of one stream, and the state from which their checkpoint would be folded.
#[derive(Debug)]
pub(super) struct TakenBatches {
    batches: Vec<Batch>,
    folding: Folding,
    start: StreamOffset,
}

impl TakenBatches {
    /// The batches of a stream before a log position that are not uploaded; `None` if there are none.
    pub(super) fn before(stream: &State, floor: WalPosition) -> Option<Self> {
        Self::until(stream, |batch| batch.end <= floor)
    }

    /// All batches of a stream that are not uploaded; `None` if there are none.
    pub(super) fn all(stream: &State) -> Option<Self> {
        Self::until(stream, |_batch| true)
    }

    fn until(stream: &State, is_taken: impl Fn(&Cached) -> bool) -> Option<Self> {
        let pinned = stream.cache.pinned();
        let batches = pinned.take_while(|batch| is_taken(batch));
        let batches: Vec<Batch> = batches
            .map(|batch| Batch {
                entry: BatchEntry {
                    base: batch.base,
                    count: u32::try_from(batch.next - batch.base).unwrap_or(u32::MAX),
                    bytes: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
                    max_timestamp: batch.max_timestamp,
                },
                delta: batch.delta.clone(),
                roll: batch.roll,
                append_time: batch.append_time,
                body: summed(batch.bytes.clone(), batch.tail_crc),
            })
            .collect();
        (!batches.is_empty()).then(|| Self {
            batches,
            folding: stream.folding.clone(),
            start: stream.bounds.start,
        })
    }

    /// Adds a checkpoint if there is to be one, and the entries that stand beside these batches (F3). This takes time in
    /// proportion to the state.
    pub(super) fn fold(self, fold: &dyn DeltaFold, checkpoints: Checkpoints) -> StreamPart {
        let mut part = StreamPart {
            batches: self.batches,
            checkpoint: None,
            entries: Vec::new(),
            open_from: None,
        };
        let deltas: Deltas = part.deltas().collect();
        let is_due = match checkpoints {
            Checkpoints::WhenDue => self.folding.is_due(self.start, Some(&deltas)),
            Checkpoints::Always => true,
        };
        if is_due && let Some(folded) = self.folding.fold(fold, deltas) {
            let first = part.first();
            let entries = folded.entries.into_iter();
            let entries = entries.filter(|entry| entry.at >= first);
            part.entries = entries.map(|entry| (entry.at, entry.body)).collect();
            part.open_from = folded.open_from;
            part.checkpoint = Some(folded.checkpoint);
        }
        part
    }
}

/// A stream's part of an object.
#[derive(Debug)]
pub(super) struct StreamPart {
    pub(super) batches: Vec<Batch>,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) entries: Vec<(StreamOffset, Bytes)>,
    pub(super) open_from: Option<StreamOffset>,
}

impl StreamPart {
    pub(super) fn first(&self) -> StreamOffset {
        self.batches.first().map_or(0, |batch| batch.entry.base)
    }

    fn end(&self) -> StreamOffset {
        self.batches.last().map_or(0, |batch| batch.entry.next())
    }

    /// The deltas of its batches, each with the offsets of its batch.
    fn deltas(&self) -> impl Iterator<Item = (std::ops::Range<StreamOffset>, Bytes)> {
        let batches = self.batches.iter().filter(|batch| !batch.delta.is_empty());
        batches.map(|batch| (batch.entry.base..batch.entry.next(), batch.delta.clone()))
    }

    /// The offsets up to which its batches may be evicted, step by step.
    pub(super) fn evictable_ends(&self) -> Vec<StreamOffset> {
        let steps = self.batches.iter().step_by(EVICTED_AT_ONCE).skip(1);
        let steps = steps.map(|batch| batch.entry.base);
        steps.chain([self.end()]).collect()
    }

    /// Notes that its batches are uploaded, and that the node's own image shows the claim (U6).
    pub(super) fn release(self, stream: &mut State) {
        let end = self.end();
        stream.uploaded = end;
        match &self.checkpoint {
            Some(checkpoint) => stream.folding.checkpointed(checkpoint.clone(), end, true),
            None => stream.folding.claimed(self.deltas(), end),
        }
        stream.cache.unpin(end);
    }
}

/// A due checkpoint of a stream without new records (F5).
#[derive(Debug)]
pub(super) struct LoneCheckpoint {
    /// The offset at which it stands: the end of the stream's uploaded batches.
    pub(super) at: StreamOffset,
    folding: Folding,
}

impl LoneCheckpoint {
    /// The checkpoint that is due of a stream, if any. A stream with records to upload writes its checkpoint with
    /// these.
    pub(super) fn due(stream: &State) -> Option<Self> {
        let has_records = stream.cache.pinned().next().is_some();
        let is_due = !has_records && stream.folding.is_due(stream.bounds.start, None);
        is_due.then(|| Self {
            at: stream.uploaded,
            folding: stream.folding.clone(),
        })
    }

    /// Folds its content; `None` if the state can't be read. This takes time in proportion to the state.
    pub(super) fn fold(&self, fold: &dyn DeltaFold) -> Option<Folded> {
        self.folding.fold(fold, Deltas::new())
    }
}

#[cfg(test)]
mod tests {
    use highwater_runtime::BytePermit;
    use highwater_types::{NodeEpoch, StreamRange};

    use super::*;
    use crate::{Entry, StreamBounds};

    /// A fold whose state is the deltas one after the other, and that has an entry at each of them.
    #[derive(Debug)]
    struct Concat;

    impl DeltaFold for Concat {
        fn fold(
            &self,
            checkpoint: &Bytes,
            deltas: &[(StreamRange, Bytes)],
            _: Timestamp,
        ) -> Option<Folded> {
            let state = deltas.iter().map(|(_, delta)| &delta[..]);
            let state: Vec<&[u8]> = std::iter::once(&checkpoint[..]).chain(state).collect();
            let entry = |(range, delta): &(StreamRange, Bytes)| Entry {
                at: range.start,
                body: delta.clone(),
            };
            Some(Folded {
                checkpoint: Bytes::from(state.concat()),
                entries: deltas.iter().map(entry).collect(),
                open_from: deltas.first().map(|(range, _)| range.start),
            })
        }
    }

    /// A stream whose batches below `count` are in the cache, none of them uploaded.
    fn stream(count: StreamOffset) -> State {
        let mut state = State {
            bounds: StreamBounds::default(),
            cache: Default::default(),
            rolls: Vec::new(),
            uploaded: 0,
            folding: Folding::default(),
            is_closed: false,
        };
        for base in 0..count {
            state.cache.push(Cached::test(base, BytePermit::empty()));
        }
        state
    }

    /// The WAL position after the batch at an offset.
    fn after(offset: u64) -> WalPosition {
        WalPosition {
            epoch: NodeEpoch(1),
            at: (offset + 1) * 10,
        }
    }

    fn bases(part: &StreamPart) -> Vec<StreamOffset> {
        part.batches.iter().map(|batch| batch.entry.base).collect()
    }

    fn take(stream: &State, floor: WalPosition) -> Option<StreamPart> {
        TakenBatches::before(stream, floor).map(|taken| taken.fold(&Concat, Checkpoints::WhenDue))
    }

    // U1, I4
    #[test]
    fn an_object_takes_all_that_is_before_the_cut_and_was_in_none_before() {
        let mut stream = stream(5);
        assert!(take(&stream, WalPosition::default()).is_none());
        let first = take(&stream, after(1)).expect("two batches");
        assert_eq!(bases(&first), [0, 1]);
        let again = take(&stream, after(1)).expect("they are pinned still");
        assert_eq!(bases(&again), [0, 1]);
        first.release(&mut stream);
        assert_eq!(stream.uploaded, 2);
        assert!(take(&stream, after(1)).is_none());
        let next = take(&stream, after(3)).expect("two more");
        assert_eq!((bases(&next), next.first(), next.end()), (vec![2, 3], 2, 4));
    }

    // F2, F3
    #[test]
    fn a_checkpoint_comes_with_the_batches_where_one_is_due() {
        let mut stream = stream(6);
        let first = take(&stream, after(1)).expect("two batches");
        // nothing was written before, so that any delta outweighs it
        assert_eq!(first.checkpoint, Some(Bytes::from_static(&[0, 1])));
        assert_eq!(first.open_from, Some(0));
        first.release(&mut stream);
        // from here on the state is large
        let large = Bytes::from(vec![7; 1 << 20]);
        stream.folding.checkpointed(large.clone(), 2, true);
        let second = take(&stream, after(3)).expect("two more");
        assert_eq!((&second.checkpoint, second.entries.len()), (&None, 0));
        second.release(&mut stream);
        // half of it has expired: the next checkpoint has the deltas since, but only the entries of its own batches
        stream.folding.forget(0, 10);
        let third = take(&stream, after(5)).expect("the last");
        let expected = [&large[..], &[2, 3, 4, 5]].concat();
        assert_eq!(third.checkpoint, Some(Bytes::from(expected)));
        let entries: Vec<StreamOffset> = third.entries.iter().map(|(at, _)| *at).collect();
        assert_eq!(entries, [4, 5]);
        third.release(&mut stream);
        assert!(
            LoneCheckpoint::due(&stream).is_none(),
            "it was just written"
        );
    }

    // F5
    #[test]
    fn a_checkpoint_stands_alone_where_the_stream_has_no_records_to_upload() {
        let mut stream = stream(2);
        let part = take(&stream, after(0)).expect("the first batch");
        part.release(&mut stream);
        stream.bounds.start = 1;
        assert!(LoneCheckpoint::due(&stream).is_none(), "a batch waits");
        let part = take(&stream, after(1)).expect("the second");
        part.release(&mut stream);
        assert!(LoneCheckpoint::due(&stream).is_none(), "it has a record");
        stream.bounds.start = 2;
        let due = LoneCheckpoint::due(&stream).expect("its object is kept for it alone");
        assert_eq!(due.at, 2);
        let folded = due.fold(&Concat).expect("can be read");
        assert_eq!(folded.checkpoint, Bytes::from_static(&[0, 1]));
    }

    #[test]
    fn what_is_uploaded_is_evicted_in_steps() {
        let stream = stream(200);
        let part = take(&stream, after(199)).expect("all");
        assert_eq!(part.evictable_ends(), [64, 128, 192, 200]);
        let part = take(&stream, after(63)).expect("some");
        assert_eq!(part.evictable_ends(), [64]);
    }

    #[test]
    fn an_upload_is_due_where_it_is_worth_an_object_or_its_room_is_needed() {
        let little = Pressure {
            bytes: 99,
            object_bytes: 100,
            memory: 249,
            memory_max: 1000,
            is_wal_short: false,
            is_waited_for: false,
        };
        assert!(!little.is_upload_due());
        let due = [
            Pressure {
                bytes: 100,
                ..little
            },
            Pressure {
                memory: 250,
                ..little
            },
            Pressure {
                is_wal_short: true,
                ..little
            },
            Pressure {
                is_waited_for: true,
                ..little
            },
        ];
        for pressure in due {
            assert!(pressure.is_upload_due(), "{pressure:?}");
            let nothing = Pressure {
                bytes: 0,
                ..pressure
            };
            assert!(!nothing.is_upload_due(), "there is nothing to upload");
        }
    }
}
