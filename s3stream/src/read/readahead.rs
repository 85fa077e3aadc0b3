//! How much to read ahead of whom. Pure.

use std::collections::BTreeMap;

use highwater_types::{StreamId, StreamOffset};

/// Readers that are remembered.
const READERS_MAX: usize = 1024;
/// What is read ahead of a reader that went on once; it doubles each time that it goes on again.
const WINDOW_BYTES_MIN: usize = 512 << 10;

#[derive(Debug, Clone, Copy)]
struct Reader {
    window: usize,
    /// When it last read, counted in reads.
    used: u64,
}

/// Who reads on where they left off: a consumer that replays. It is known by where it will go on.
#[derive(Debug)]
pub(crate) struct Readahead {
    readers: BTreeMap<(StreamId, StreamOffset), Reader>,
    reads: u64,
    window_max: usize,
}

impl Readahead {
    /// At most `window_max` bytes are read ahead of one reader.
    pub(crate) fn new(window_max: usize) -> Self {
        Self {
            readers: BTreeMap::new(),
            reads: 0,
            window_max,
        }
    }

    /// Takes note of a read of `[from, next)`; answers how many bytes beyond it to read ahead.
    pub(crate) fn served(
        &mut self,
        stream: StreamId,
        from: StreamOffset,
        next: StreamOffset,
    ) -> usize {
        self.reads += 1;
        let window = match self.readers.remove(&(stream, from)) {
            Some(known) => (known.window * 2)
                .max(WINDOW_BYTES_MIN)
                .min(self.window_max),
            None => 0,
        };
        if self.readers.len() == READERS_MAX {
            let idle = self.readers.iter().min_by_key(|(_, reader)| reader.used);
            if let Some(key) = idle.map(|(key, _)| *key) {
                self.readers.remove(&key);
            }
        }
        let used = self.reads;
        self.readers.insert((stream, next), Reader { window, used });
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(7);

    #[test]
    fn who_goes_on_gets_more_each_time_up_to_the_limit() {
        let mut readahead = Readahead::new(3 << 20);
        let mut windows = Vec::new();
        for i in 0..6 {
            windows.push(readahead.served(STREAM, i * 10, i * 10 + 10) >> 10);
        }
        assert_eq!(windows, [0, 512, 1024, 2048, 3072, 3072]);
    }

    #[test]
    fn who_jumps_about_gets_nothing_and_disturbs_nobody() {
        let mut readahead = Readahead::new(3 << 20);
        readahead.served(STREAM, 0, 10);
        for offset in [500, 100, 900] {
            assert_eq!(readahead.served(STREAM, offset, offset + 10), 0);
            assert_eq!(
                readahead.served(StreamId(8), 10, 20) >> 20,
                0,
                "another stream"
            );
        }
        assert_eq!(readahead.served(STREAM, 10, 20), WINDOW_BYTES_MIN);
    }

    #[test]
    fn only_so_many_readers_are_remembered_and_the_idlest_is_forgotten() {
        let mut readahead = Readahead::new(3 << 20);
        let readers = i64::try_from(READERS_MAX).expect("small");
        for i in 0..=readers {
            readahead.served(STREAM, i * 1000, i * 1000 + 10);
        }
        assert_eq!(readahead.readers.len(), READERS_MAX);
        assert_eq!(
            readahead.served(STREAM, 10, 20),
            0,
            "the first is forgotten"
        );
        assert_ne!(readahead.served(STREAM, readers * 1000 + 10, 0), 0);
    }
}
