//! Offsets whose records were lost with a write-ahead log that was given up (D5). Pure.

use bytes::Bytes;
use highwater_protocol::records::{BATCH_HEADER_BYTES, empty_batch};
use highwater_types::{LeaderEpoch, StreamOffset, StreamRange};

/// The last offsets of a log that were lost. Empty if none were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(StreamRange);

impl Lost {
    pub(crate) fn new(range: StreamRange) -> Self {
        Self(range)
    }

    /// The offset from which a read has to begin: `from`, or the end of the range that it is in.
    pub(crate) fn first_from(&self, from: StreamOffset) -> StreamOffset {
        match self.0.contains(&from) {
            true => self.0.end,
            false => from,
        }
    }

    /// Whether a batch was appended before records were lost.
    pub(crate) fn is_behind(&self, base: StreamOffset) -> bool {
        base < self.0.end
    }

    /// A batch without records that takes a reader to the end of the range, or as far as one batch may reach. `None` if
    /// it is over a limit in bytes.
    pub(crate) fn batch(
        &self,
        from: StreamOffset,
        epoch: Option<LeaderEpoch>,
        bytes_max: usize,
    ) -> Option<Bytes> {
        let last = self.0.end.saturating_sub(1);
        let delta = i32::try_from(last.saturating_sub(from)).unwrap_or(i32::MAX);
        let epoch = epoch.map_or(-1, |epoch| epoch.0);
        (bytes_max >= BATCH_HEADER_BYTES).then(|| empty_batch(from, delta, epoch))
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::records::BatchHeader;

    use super::*;

    const LOST: i64 = 1 << 30;

    fn header(lost: &Lost, from: StreamOffset) -> BatchHeader {
        let batch = lost.batch(from, Some(LeaderEpoch(3)), BATCH_HEADER_BYTES);
        let batch = batch.expect("fits");
        let header = BatchHeader::read(&batch).expect("is a batch");
        header.check_crc(&batch).expect("is sound");
        assert_eq!((header.bytes, header.count), (batch.len(), 0));
        assert_eq!((header.base_offset, header.leader_epoch), (from, 3));
        assert_eq!(header.producer_id, -1);
        header
    }

    #[test]
    fn an_empty_batch_takes_a_reader_to_the_end() {
        let lost = Lost::new(2..2 + LOST);
        for from in [2, 3, 1 + LOST] {
            assert_eq!(header(&lost, from).next_offset(), 2 + LOST, "{from}");
        }
        assert_eq!(lost.batch(2, None, BATCH_HEADER_BYTES - 1), None);
    }

    // each give-up loses 2^30 offsets, and a delta of offsets has 32 bits
    #[test]
    fn several_empty_batches_take_a_reader_over_ranges_that_lie_behind_each_other() {
        for count in [2, 3, 7] {
            let lost = Lost::new(2..2 + count * LOST);
            let mut at = 2;
            while lost.first_from(at) != at {
                let next = header(&lost, at).next_offset();
                assert!(next > at && next <= 2 + count * LOST, "{at} {next}");
                at = next;
            }
            assert_eq!(at, 2 + count * LOST);
        }
    }

    #[test]
    fn nothing_is_skipped_elsewhere() {
        let lost = Lost::new(2..5);
        let from = [0, 1, 2, 4, 5, 9].map(|from| lost.first_from(from));
        assert_eq!(from, [0, 1, 5, 5, 5, 9]);
        let none = Lost::default();
        assert_eq!(none.first_from(0), 0);
        assert!(!none.is_behind(0) && lost.is_behind(1) && !lost.is_behind(5));
    }
}
