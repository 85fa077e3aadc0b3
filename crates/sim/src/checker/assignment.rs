//! What one consumer reads of a partition, from when it gets the partition until it gives it up.

use super::{Anomaly, Violation};

/// The place of a consumer in a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Assignment {
    next: i64,
}

impl Assignment {
    /// Begins at an offset.
    pub(crate) fn new(next: i64) -> Self {
        Self { next }
    }

    /// The next offset to read.
    pub(crate) fn next(self) -> i64 {
        self.next
    }

    /// Checks the offsets of an answer in its order: they grow, none is passed over, and none is at or above the high
    /// watermark. Only the first batch may begin before the next offset.
    pub(crate) fn polled(&mut self, offsets: &[i64], high_watermark: i64) -> Result<(), Violation> {
        for pair in offsets.windows(2) {
            if pair[1] <= pair[0] {
                return Anomaly::NonMonotonicPoll
                    .found(format!("offset {} is read after {}", pair[1], pair[0]));
            }
        }
        let asked = self.next;
        if let Some(last) = offsets.last().filter(|last| **last < asked) {
            return Anomaly::NonMonotonicPoll.found(format!(
                "offset {last} is the last that is read from {asked} on"
            ));
        }
        for offset in offsets.iter().filter(|offset| **offset >= asked) {
            if *offset != self.next {
                let before = self.next - 1;
                return Anomaly::SkippedPoll.found(format!("offset {offset} follows {before}"));
            }
            if *offset >= high_watermark {
                return Anomaly::DirtyRead.found(format!(
                    "offset {offset} is read, and the high watermark is {high_watermark}"
                ));
            }
            self.next += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(offsets: &[i64]) -> Option<Anomaly> {
        let polled = Assignment::new(5).polled(offsets, 9);
        polled.err().map(|violation| violation.anomaly)
    }

    #[test]
    fn an_assignment_reads_every_offset_once_and_in_order() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[3, 4, 5, 6]), None, "a batch that began before");
        assert_eq!(found(&[5, 6, 7, 8]), None);
        assert_eq!(found(&[5, 6, 6]), Some(Anomaly::NonMonotonicPoll), "twice");
        assert_eq!(found(&[5, 7, 6]), Some(Anomaly::NonMonotonicPoll), "back");
        assert_eq!(found(&[3, 4]), Some(Anomaly::NonMonotonicPoll), "old ones");
        assert_eq!(found(&[6]), Some(Anomaly::SkippedPoll));
        assert_eq!(found(&[5, 7]), Some(Anomaly::SkippedPoll));
        assert_eq!(found(&[5, 6, 7, 8, 9]), Some(Anomaly::DirtyRead));
        let mut assignment = Assignment::new(5);
        assignment.polled(&[5, 6], 9).expect("is sound");
        assert_eq!(assignment.next(), 7);
        assert!(assignment.polled(&[5, 6], 9).is_err(), "again");
    }
}
