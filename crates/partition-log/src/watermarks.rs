//! The watermarks of a log: which offsets a client may read, and which it may delete. Pure.

use bytes::Bytes;
use highwater_s3stream::StreamBounds;
use highwater_types::StreamOffset;

use crate::ReadError;

/// Which records a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kafka's isolation levels")]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// The result of a read.
#[derive(Debug, Clone, Default)]
pub struct ReadOutcome {
    /// Whole batches.
    pub batches: Vec<Bytes>,
    /// The high watermark.
    pub high_watermark: StreamOffset,
    /// The last stable offset.
    pub last_stable_offset: StreamOffset,
    /// The log start offset.
    pub log_start_offset: StreamOffset,
    /// Aborted transactions in the range read, for a reader of committed records.
    pub aborted: Option<Vec<(i64, StreamOffset)>>,
    /// Whether the byte limit alone kept back a next batch that is in memory.
    pub is_cut: bool,
}

impl ReadOutcome {
    /// A read's result, with the watermarks taken from `bounds`. The last stable offset is the high watermark, since
    /// transactions are not supported yet.
    #[must_use]
    pub fn new(bounds: StreamBounds, batches: Vec<Bytes>, isolation: Isolation) -> Self {
        Self {
            batches,
            high_watermark: bounds.confirmed,
            last_stable_offset: bounds.confirmed,
            log_start_offset: bounds.start,
            aborted: (isolation == Isolation::ReadCommitted).then(Vec::new),
            is_cut: false,
        }
    }
}

/// Whether a read may begin at an offset: from the log start to the log end. The end counts even where it is not
/// durable yet (KAFKA-BEHAVIOUR 17).
pub(crate) fn check_range(bounds: StreamBounds, from: StreamOffset) -> Result<(), ReadError> {
    match (bounds.start..=bounds.next).contains(&from) {
        true => Ok(()),
        false => Err(ReadError::OutOfRange { offset: from }),
    }
}

/// Returns where the log starts after DeleteRecords up to `before`, where -1 stands for the high watermark; `None` if
/// those records are deleted already (KAFKA-BEHAVIOUR 9).
pub(crate) fn start_after_deletion(
    bounds: StreamBounds,
    before: StreamOffset,
) -> Result<Option<StreamOffset>, ReadError> {
    let before = match before {
        -1 => bounds.confirmed,
        offset => offset,
    };
    if before < 0 || before > bounds.confirmed {
        return Err(ReadError::OutOfRange { offset: before });
    }
    Ok((before > bounds.start).then_some(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets 10 to 19 are readable, and 20 to 24 are not durable yet.
    const BOUNDS: StreamBounds = StreamBounds {
        start: 10,
        confirmed: 20,
        next: 25,
    };

    // KAFKA-BEHAVIOUR 17
    #[test]
    fn a_read_begins_between_the_log_start_and_the_log_end() {
        for (from, is_in_range) in [(9, false), (10, true), (20, true), (25, true), (26, false)] {
            assert_eq!(check_range(BOUNDS, from).is_ok(), is_in_range, "{from}");
        }
    }

    // KAFKA-BEHAVIOUR 9
    #[test]
    fn records_are_deleted_up_to_the_high_watermark_and_once() {
        let start = |before| start_after_deletion(BOUNDS, before).ok();
        assert_eq!(start(-1), Some(Some(20)), "all that is durable");
        assert_eq!(start(15), Some(Some(15)));
        assert_eq!(start(20), Some(Some(20)));
        assert_eq!(start(10), Some(None), "they are deleted already");
        assert_eq!(start(0), Some(None));
        assert_eq!(start(21), None, "not durable yet");
        assert_eq!(start(-2), None);
    }

    #[test]
    fn a_reader_of_committed_records_gets_a_list_of_aborted_transactions() {
        let committed = ReadOutcome::new(BOUNDS, Vec::new(), Isolation::ReadCommitted);
        assert_eq!(committed.aborted, Some(Vec::new()));
        let uncommitted = ReadOutcome::new(BOUNDS, Vec::new(), Isolation::ReadUncommitted);
        assert_eq!(uncommitted.aborted, None);
        assert_eq!(
            (uncommitted.log_start_offset, uncommitted.high_watermark),
            (10, 20)
        );
    }
}
