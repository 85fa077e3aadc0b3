//! Where the leader epochs of a partition end, by the records that were read and by OffsetForLeaderEpoch (E5).

use std::collections::BTreeMap;

use super::{Anomaly, Violation};

/// The first and the last offset that was read of each leader epoch.
#[derive(Debug, Default)]
pub(super) struct EpochEnds(BTreeMap<i32, (i64, i64)>);

impl EpochEnds {
    /// Notes a record with the epoch of its batch: along the log the epoch never falls.
    pub(super) fn read(&mut self, offset: i64, epoch: i32) -> Result<(), Violation> {
        let seen = self.0.entry(epoch).or_insert((offset, offset));
        let is_new = *seen == (offset, offset) || offset < seen.0 || offset > seen.1;
        *seen = (seen.0.min(offset), seen.1.max(offset));
        if !is_new {
            return Ok(());
        }
        let before = self.0.range(..epoch).next_back();
        let after = self.0.range(epoch + 1..).next();
        let before = before.filter(|(_, (_, last))| *last >= offset);
        let after = after.filter(|(_, (first, _))| *first <= offset);
        match before.or(after) {
            None => Ok(()),
            Some((other, seen)) => Anomaly::InconsistentOffsets.found(format!(
                "offset {offset} is of leader epoch {epoch}, and epoch {other} has {seen:?} (E5)"
            )),
        }
    }

    /// An epoch that has records and is none after the leader's; `at` chooses among them.
    pub(super) fn one_until(&self, leader: i32, at: u64) -> Option<i32> {
        let known = self.0.range(..=leader);
        let count = u64::try_from(known.clone().count()).unwrap_or(0);
        let at = at.checked_rem(count)?;
        let mut known = known.map(|(epoch, _)| *epoch);
        known.nth(usize::try_from(at).unwrap_or(0))
    }

    /// The end that the epoch has at least.
    pub(super) fn least_end(&self, epoch: i32) -> i64 {
        let ends = self.0.range(..=epoch).map(|(_, (_, last))| last + 1);
        ends.max().unwrap_or(0)
    }

    /// Checks an answer of the leader of an epoch: the end that it tells for `asked`. The request was sent when `least` was
    /// the least end. An epoch whose records are deleted may end where the log starts, which is at `start_max` at most.
    pub(super) fn told(
        &self,
        (leader, start_max): (i32, i64),
        (asked, least): (i32, i64),
        (epoch, end): (i32, i64),
    ) -> Result<(), Violation> {
        let told = format!("leader epoch {asked} ends at {end} in epoch {epoch}");
        if !(0..=asked).contains(&epoch) {
            return Anomaly::WrongAnswer.found(format!("{told}, and it has records (E5)"));
        }
        if end < least {
            return Anomaly::OffsetWentBack.found(format!("{told}, and {least} was its end (E5)"));
        }
        // the leader's own epoch ends where its log does
        let mut later = self.0.range(asked + 1..).filter(|_| asked < leader);
        match later.next() {
            Some((other, (first, _))) if end > start_max.max(*first) => {
                Anomaly::InconsistentOffsets.found(format!(
                    "{told}, and offset {first} is of epoch {other} (E5)"
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> EpochEnds {
        let mut seen = EpochEnds::default();
        for (offset, epoch) in [(0, 1), (1, 1), (4, 1), (5, 3), (6, 3), (1, 1)] {
            seen.read(offset, epoch).expect("is sound");
        }
        seen
    }

    #[test]
    fn an_epoch_that_falls_along_the_log_is_found() {
        assert!(seen().read(7, 1).is_err(), "1 after 3");
        assert!(seen().read(7, 2).is_err(), "2 after 3");
        assert!(seen().read(3, 3).is_err(), "3 before 1");
        seen().read(5, 2).expect_err("two epochs at one offset");
        seen().read(7, 4).expect("is sound");
    }

    #[test]
    fn an_end_that_its_records_contradict_is_found() {
        let seen = seen();
        assert_eq!((seen.least_end(1), seen.least_end(2)), (5, 5));
        let told = |asked, answer| {
            let found = seen.told((4, 0), (asked, seen.least_end(asked)), answer);
            found.err().map(|violation| violation.anomaly)
        };
        assert_eq!(told(1, (1, 5)), None);
        assert_eq!(told(3, (3, 9)), None, "more than was read");
        assert_eq!(told(1, (1, 3)), Some(Anomaly::OffsetWentBack));
        assert_eq!(told(1, (1, 6)), Some(Anomaly::InconsistentOffsets));
        assert_eq!(told(1, (-1, -1)), Some(Anomaly::WrongAnswer), "unknown");
        assert_eq!(told(1, (3, 5)), Some(Anomaly::WrongAnswer), "a later one");
        let zombie = seen.told((1, 0), (1, 5), (1, 6));
        zombie.expect("the leader of 1 does not know of 3");
        let trimmed = seen.told((4, 6), (1, 5), (1, 6));
        trimmed.expect("the log starts there");
        assert_eq!(seen.one_until(2, 7), Some(1));
        assert_eq!(seen.one_until(0, 7), None);
    }
}
