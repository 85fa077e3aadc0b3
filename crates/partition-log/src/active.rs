//! The active roll, which corresponds to Kafka's active segment. Kafka keeps deleted records of the active segment
//! until it rolls, and counts them for retention and for lookups of the largest timestamp; so does this module (F6,
//! KAFKA-BEHAVIOUR 21). Pure.

use std::collections::VecDeque;

use highwater_s3stream::{Roll, StreamBounds};
use highwater_types::StreamOffset;

use crate::retention::start_after_retention;
use crate::rolls::rolls_before;
use crate::{FoundOffset, LogConfig};

/// The roll that appends go to. While there is none, the next batch begins one.
#[derive(Debug, Default)]
pub(crate) struct Active {
    roll: Option<Roll>,
    /// The records appended to the roll since the log was opened whose timestamp was larger than any before, in
    /// order. Of the durable ones only the last is kept.
    largest: VecDeque<FoundOffset>,
}

impl Active {
    pub(crate) fn opened(rolls: &[Roll]) -> Self {
        Self {
            roll: rolls.last().copied(),
            largest: VecDeque::new(),
        }
    }

    /// Adds a batch, given as the roll that it alone would make, and returns whether the log rolls before it.
    pub(crate) fn appended(
        &mut self,
        next: Roll,
        largest: FoundOffset,
        bounds: StreamBounds,
        config: &LogConfig,
        seed: u64,
    ) -> bool {
        let begins = rolls_before(self.roll.as_ref(), &next, config, seed);
        match &mut self.roll {
            Some(active) if !begins => active.bytes = active.bytes.saturating_add(next.bytes),
            roll => {
                *roll = Some(next);
                self.largest.clear();
            }
        }
        let is_durable = |found: &FoundOffset| found.offset < bounds.confirmed;
        while self.largest.get(1).is_some_and(is_durable) {
            self.largest.pop_front();
        }
        let known = self.largest.back();
        if known.is_none_or(|known| known.timestamp < largest.timestamp) {
            self.largest.push_back(largest);
        }
        begins
    }

    /// The first record of the largest timestamp, if that record is deleted; no record that is left has a larger
    /// timestamp then.
    pub(crate) fn deleted_largest(&self, bounds: StreamBounds) -> Option<FoundOffset> {
        let mut newest_first = self.largest.iter().rev();
        let durable = newest_first.find(|found| found.offset < bounds.confirmed);
        durable.filter(|found| found.offset < bounds.start).copied()
    }

    /// Removes the rolls that no longer count: those whose records are all deleted, unless the roll is the active
    /// one.
    pub(crate) fn counted(&self, mut rolls: Vec<Roll>, start: StreamOffset) -> Vec<Roll> {
        let below = self.roll.map_or(start, |active| start.min(active.base));
        rolls.retain(|roll| roll.end > below);
        rolls
    }

    /// Returns where the log starts after retention. The last durable roll stays while a later batch of it is not durable,
    /// as Kafka keeps a segment that ends above the high watermark. When retention gives up the whole active roll, the log
    /// rolls before the next batch, even if that batch comes before the trim.
    pub(crate) fn retain(
        &mut self,
        rolls: Vec<Roll>,
        bounds: StreamBounds,
        config: &LogConfig,
        now: i64,
    ) -> Option<StreamOffset> {
        let rolls = self.counted(rolls, bounds.start);
        let mut start = start_after_retention(&rolls, config, now)?;
        let begins_next = |active: Roll| active.base == bounds.confirmed;
        let is_whole = bounds.confirmed == bounds.next || self.roll.is_some_and(begins_next);
        if let Some(last) = rolls.last().filter(|_| !is_whole) {
            start = start.min(last.base);
        }
        if start >= bounds.next {
            *self = Self::default();
        }
        Some(start.min(bounds.confirmed))
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{LeaderEpoch, Timestamp};

    use super::*;

    const DAY: i64 = 86_400_000;

    /// Appends one record. Offsets below `confirmed` are durable by then. Returns whether the log rolled.
    fn append(
        active: &mut Active,
        base: StreamOffset,
        timestamp: Timestamp,
        confirmed: StreamOffset,
    ) -> bool {
        let bounds = StreamBounds {
            start: 0,
            confirmed,
            next: base,
        };
        let found = FoundOffset {
            offset: base,
            timestamp,
            leader_epoch: Some(LeaderEpoch(1)),
        };
        active.appended(roll(base, timestamp), found, bounds, &config(), 1)
    }

    fn roll(base: StreamOffset, timestamp: Timestamp) -> Roll {
        Roll {
            base,
            end: base + 1,
            bytes: 400,
            max_timestamp: timestamp,
            first_timestamp: timestamp,
            first_append: timestamp,
            last_append: timestamp,
        }
    }

    fn config() -> LogConfig {
        LogConfig {
            segment_bytes: 1000,
            segment_ms: DAY,
            retention_ms: 1000,
            ..LogConfig::default()
        }
    }

    /// Bounds of a log in which every record is durable.
    fn bounds(start: StreamOffset, end: StreamOffset) -> StreamBounds {
        StreamBounds {
            start,
            confirmed: end,
            next: end,
        }
    }

    fn deleted(active: &Active, bounds: StreamBounds) -> Option<(StreamOffset, Timestamp)> {
        let found = active.deleted_largest(bounds);
        found.map(|found| (found.offset, found.timestamp))
    }

    /// An active roll of two deleted records, and the same roll as the stream reports it.
    fn all_deleted() -> (Active, Vec<Roll>) {
        let mut active = Active::default();
        assert!(append(&mut active, 0, 5000, 0), "the first of all");
        assert!(!append(&mut active, 1, 3000, 1));
        let whole = Roll {
            end: 2,
            bytes: 800,
            ..roll(0, 5000)
        };
        (active, vec![whole])
    }

    #[test]
    fn what_is_deleted_is_told_until_retention_gives_up_the_roll() {
        let (mut active, rolls) = all_deleted();
        assert_eq!(deleted(&active, bounds(0, 2)), None, "it is there");
        assert_eq!(deleted(&active, bounds(2, 2)), Some((0, 5000)));
        let mut retain = |now| active.retain(rolls.clone(), bounds(2, 2), &config(), now);
        assert_eq!(retain(6000), None);
        assert_eq!(retain(6001), Some(2));
        assert_eq!(deleted(&active, bounds(2, 2)), None);
        assert_eq!(active.counted(rolls, 2), [], "it counts no more");
        assert!(append(&mut active, 2, 100, 2), "another roll begins");
        assert_eq!(deleted(&active, bounds(2, 3)), None);
        assert_eq!(deleted(&active, bounds(3, 3)), Some((2, 100)));
    }

    #[test]
    fn a_later_record_of_an_older_time_stays_with_what_is_deleted_before_it() {
        let (mut active, mut rolls) = all_deleted();
        rolls[0].end = 3;
        assert!(append(&mut active, 2, 100, 2), "1200 bytes are too many");
        let (mut active, _) = all_deleted();
        active.roll.as_mut().expect("is there").bytes = 500;
        assert!(!append(&mut active, 2, 100, 2));
        assert_eq!(deleted(&active, bounds(2, 3)), Some((0, 5000)));
        let mut retain = |now| active.retain(rolls.clone(), bounds(2, 3), &config(), now);
        assert_eq!((retain(6000), retain(6001)), (None, Some(3)));
        assert_eq!(deleted(&active, bounds(2, 3)), None);
    }

    #[test]
    fn a_roll_of_which_not_all_is_durable_stays() {
        let mut active = Active::default();
        append(&mut active, 0, 3000, 0);
        append(&mut active, 1, 9000, 0);
        let mut retain = |confirmed, next| {
            let bounds = StreamBounds {
                next,
                ..bounds(0, confirmed)
            };
            active.retain(vec![roll(0, 3000)], bounds, &config(), 4001)
        };
        // the batch at 1 has not expired, but it may still be lost
        assert_eq!(retain(1, 2), Some(0));
        assert_eq!(retain(1, 1), Some(1));
    }

    // Only the part that is durable is known as a roll.
    #[test]
    fn a_roll_goes_once_the_next_one_begins_where_its_durable_part_ends() {
        let mut active = Active::default();
        for (base, bytes) in [(0, 0), (1, 900), (2, 900)] {
            append(&mut active, base, 3000, 0);
            active.roll.as_mut().expect("is there").bytes = bytes;
        }
        assert_eq!(active.roll.map(|roll| roll.base), Some(2), "it has rolled");
        let mut retain = |confirmed| {
            let bounds = StreamBounds {
                next: 3,
                ..bounds(0, confirmed)
            };
            let durable = Roll {
                end: confirmed,
                ..roll(0, 3000)
            };
            active.retain(vec![durable], bounds, &config(), 9000)
        };
        assert_eq!(retain(1), Some(0));
        assert_eq!(retain(2), Some(2));
    }

    #[test]
    fn what_is_not_durable_yet_hides_nothing() {
        let mut active = Active::default();
        for (at, timestamp) in [(0, 10), (1, 30), (2, 20), (3, 40), (4, 40), (5, 50)] {
            append(&mut active, at, timestamp, at.min(1));
            active.roll.as_mut().expect("is there").bytes = 0;
        }
        for (confirmed, expected) in [(1, 0), (2, 1), (3, 1), (4, 3), (5, 3), (6, 5)] {
            let told = deleted(&active, bounds(confirmed, confirmed));
            assert_eq!(told.map(|told| told.0), Some(expected), "{confirmed}");
        }
        append(&mut active, 6, 45, 6);
        assert_eq!(active.largest.len(), 1, "of durable ones the last is kept");
    }

    #[test]
    fn a_roll_that_begins_does_not_count_what_is_deleted_before_it() {
        let (mut active, mut rolls) = all_deleted();
        assert!(append(&mut active, 2, 100, 2));
        assert_eq!(active.counted(rolls.clone(), 2), []);
        assert_eq!(active.counted(rolls.clone(), 1).len(), 1);
        rolls.push(roll(2, 100));
        assert_eq!(active.counted(rolls, 3), [roll(2, 100)]);
    }
}
