//! Decides how much to read ahead for each reader. This code is pure.

use std::collections::BTreeMap;

use highwater_types::{StreamId, StreamOffset};

/// The number of readers that are remembered.
const READERS_MAX: usize = 1024;
/// The bytes that are read ahead for a reader at its first sequential read.
const WINDOW_BYTES_MIN: u64 = 4 << 20;
/// The factor by which the bytes grow at each further sequential read.
const GROWTH: u64 = 4;
/// The most bytes that are read ahead for one reader.
const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// The number of reads by others after which a reader counts as stopped.
const READS_MAX: u64 = 512;

#[derive(Debug, Clone, Copy)]
struct Reader {
    /// The bytes to have read ahead when the reader goes on, if there is enough room for all readers.
    window: u64,
    /// Whether the reader has read sequentially before.
    goes_on: bool,
    /// The time of its last read, counted in reads.
    used: u64,
}

/// Sequential readers, such as a consumer that replays, each of whose reads begins where the last one ended. A reader
/// is known by the offset at which its next read will begin.
#[derive(Debug)]
pub(crate) struct Readahead {
    readers: BTreeMap<(StreamId, StreamOffset), Reader>,
    reads: u64,
    /// The most bytes to have read ahead for all readers together.
    bytes_max: u64,
}

impl Readahead {
    /// Reads ahead at most `bytes_max` for all readers together.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            readers: BTreeMap::new(),
            reads: 0,
            bytes_max,
        }
    }

    /// The bytes to have read ahead for a reader at `from`; 0 if no read ended there. Sequential readers share the
    /// bytes evenly.
    pub(crate) fn window(&self, stream: StreamId, from: StreamOffset) -> u64 {
        let Some(reader) = self.readers.get(&(stream, from)) else {
            return 0;
        };
        let others = self.readers.iter().filter(|(key, other)| {
            **key != (stream, from) && other.goes_on && self.reads - other.used < READS_MAX
        });
        let readers = u64::try_from(others.count()).unwrap_or(u64::MAX);
        reader
            .window
            .min(self.bytes_max / readers.saturating_add(1))
    }

    /// Notes a read of `[from, next)`.
    pub(crate) fn served(&mut self, stream: StreamId, from: StreamOffset, next: StreamOffset) {
        self.reads += 1;
        let known = self.readers.remove(&(stream, from));
        let window = known.map_or(WINDOW_BYTES_MIN, |known| {
            (known.window * GROWTH).min(WINDOW_BYTES_MAX)
        });
        if self.readers.len() == READERS_MAX {
            let idle = self.readers.iter().min_by_key(|(_, reader)| reader.used);
            if let Some(key) = idle.map(|(key, _)| *key) {
                self.readers.remove(&key);
            }
        }
        // two readers of a stream that come to the same offset become one
        let other = self.readers.get(&(stream, next)).copied();
        let reader = Reader {
            window: window.max(other.map_or(0, |other| other.window)),
            goes_on: known.is_some() || other.is_some_and(|other| other.goes_on),
            used: self.reads,
        };
        self.readers.insert((stream, next), reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(7);
    const MIB: u64 = 1 << 20;

    /// The bytes that are read ahead for a reader that goes on by ten offsets.
    fn read(readahead: &mut Readahead, stream: StreamId, from: StreamOffset) -> u64 {
        let window = readahead.window(stream, from);
        readahead.served(stream, from, from + 10);
        window / MIB
    }

    #[test]
    fn who_goes_on_gets_more_each_time_up_to_the_limit() {
        let mut readahead = Readahead::new(64 * MIB);
        let windows: Vec<u64> = (0..5)
            .map(|i| read(&mut readahead, STREAM, i * 10))
            .collect();
        assert_eq!(windows, [0, 4, 16, 32, 32]);
    }

    #[test]
    fn those_who_go_on_share_and_who_stopped_is_forgotten() {
        let mut readahead = Readahead::new(24 * MIB);
        for i in 0..4 {
            for stream in 1..=3 {
                read(&mut readahead, StreamId(stream), i * 10);
            }
        }
        assert_eq!(read(&mut readahead, StreamId(1), 40), 8);
        let reads = i64::try_from(READS_MAX).expect("small");
        let last = (5..=reads + 5).map(|i| read(&mut readahead, StreamId(1), i * 10));
        assert_eq!(last.last(), Some(24), "the others have gone");
    }

    #[test]
    fn who_jumps_about_gets_nothing_and_takes_nothing_from_others() {
        let mut readahead = Readahead::new(4 * MIB);
        readahead.served(STREAM, 0, 10);
        for offset in [500, 100, 900] {
            assert_eq!(read(&mut readahead, STREAM, offset), 0);
            assert_eq!(readahead.window(StreamId(8), 10), 0, "another stream");
        }
        assert_eq!(read(&mut readahead, STREAM, 10), 4);
    }

    #[test]
    fn a_second_reader_of_the_same_place_takes_nothing_from_the_first() {
        let mut readahead = Readahead::new(64 * MIB);
        for from in [0, 10, 20] {
            read(&mut readahead, STREAM, from);
            read(&mut readahead, STREAM, from);
        }
        assert_eq!(read(&mut readahead, STREAM, 30), 32);
    }

    #[test]
    fn only_so_many_readers_are_remembered_and_the_idlest_is_forgotten() {
        let mut readahead = Readahead::new(4 * MIB);
        let readers = i64::try_from(READERS_MAX).expect("small");
        for i in 0..=readers {
            readahead.served(STREAM, i * 1000, i * 1000 + 10);
        }
        assert_eq!(readahead.readers.len(), READERS_MAX);
        assert_eq!(readahead.window(STREAM, 10), 0, "the first is forgotten");
        assert_ne!(readahead.window(STREAM, readers * 1000 + 10), 0);
    }
}
