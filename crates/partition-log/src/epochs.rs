//! Which leader epoch wrote which offsets. Pure.

use highwater_types::{LeaderEpoch, StreamOffset};

/// The leader epochs of a log, each with its first offset, and the epoch that is in effect.
#[derive(Debug)]
pub(crate) struct LeaderEpochs {
    current: LeaderEpoch,
    /// In ascending order.
    starts: Vec<(LeaderEpoch, StreamOffset)>,
}

impl LeaderEpochs {
    pub(crate) fn new(current: LeaderEpoch, starts: Vec<(LeaderEpoch, StreamOffset)>) -> Self {
        Self { current, starts }
    }

    pub(crate) fn current(&self) -> LeaderEpoch {
        self.current
    }

    /// The epoch that wrote an offset, unless the offset lies below every known epoch.
    pub(crate) fn at(&self, offset: StreamOffset) -> Option<LeaderEpoch> {
        let mut newest_first = self.starts.iter().rev();
        let wrote = newest_first.find(|(_, first)| *first <= offset);
        wrote.map(|(epoch, _)| *epoch)
    }

    /// Returns the largest known epoch that is not above the requested one, and the offset where it ended: the first
    /// offset of the next epoch, or the high watermark for the current epoch. For an epoch above the current one it
    /// returns no epoch and -1 (KAFKA-BEHAVIOUR 22).
    pub(crate) fn end_offset(
        &self,
        requested: LeaderEpoch,
        high_watermark: StreamOffset,
    ) -> (Option<LeaderEpoch>, StreamOffset) {
        if requested == self.current {
            return (Some(requested), high_watermark);
        }
        let mut oldest_first = self.starts.iter();
        let Some((_, end)) = oldest_first.find(|(epoch, _)| *epoch > requested) else {
            return (None, -1);
        };
        let mut newest_first = self.starts.iter().rev();
        let found = newest_first.find(|(epoch, _)| *epoch <= requested);
        (Some(found.map_or(requested, |(epoch, _)| *epoch)), *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> LeaderEpochs {
        let starts = [(2, 0), (3, 10), (6, 10), (7, 25)];
        let starts = starts.map(|(epoch, first)| (LeaderEpoch(epoch), first));
        LeaderEpochs::new(LeaderEpoch(7), starts.into())
    }

    #[test]
    fn an_offset_belongs_to_the_last_epoch_that_began_at_or_below_it() {
        let at = |offset| epochs().at(offset).map(|epoch| epoch.0);
        let expected = [
            (-1, None),
            (0, Some(2)),
            (9, Some(2)),
            (10, Some(6)),
            (24, Some(6)),
            (25, Some(7)),
            (99, Some(7)),
        ];
        for (offset, epoch) in expected {
            assert_eq!(at(offset), epoch, "{offset}");
        }
        let none = LeaderEpochs::new(LeaderEpoch(0), Vec::new());
        assert_eq!(none.at(5), None);
    }

    // KAFKA-BEHAVIOUR 22
    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins() {
        let end = |epoch| {
            let (found, end) = epochs().end_offset(LeaderEpoch(epoch), 40);
            (found.map(|found| found.0), end)
        };
        assert_eq!(end(1), (Some(1), 0), "below every known epoch");
        assert_eq!(end(2), (Some(2), 10));
        assert_eq!(end(4), (Some(3), 10), "the largest below that is known");
        assert_eq!(end(6), (Some(6), 25));
        assert_eq!(end(7), (Some(7), 40), "the current one: the high watermark");
        assert_eq!(end(8), (None, -1), "not known yet");
    }
}
