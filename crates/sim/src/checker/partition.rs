//! One partition: the place of each record (I1, I5, I6), and bounds that never go back (I2).

use std::collections::{BTreeMap, BTreeSet};

use super::retention::Retention;
use super::{ByEpoch, Identity, Keeps, Sent};

/// The known history of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionHistory {
    sent: BTreeSet<Identity>,
    at: BTreeMap<i64, Identity>,
    of: BTreeMap<Identity, i64>,
    high_watermark: ByEpoch,
    log_start: ByEpoch,
    trim_asked: i64,
    /// The rolls and the retention, if the topic does not keep everything.
    retention: Option<Retention>,
}

/// The bounds that were known when a request was sent to the leader of an epoch. Its answer must be at least as new.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) epoch: i32,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

impl PartitionHistory {
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    pub(crate) fn known(&self, epoch: i32) -> Known {
        Known {
            epoch,
            high_watermark: self.high_watermark.until(epoch),
            log_start: self.log_start.until(epoch),
        }
    }

    pub(crate) fn sends(&mut self, identity: Identity) {
        self.sent.insert(identity);
    }

    /// Notes that the topic has this retention from now on.
    pub(crate) fn keeps(&mut self, keeps: Keeps) {
        self.retention = Some(Retention::new(keeps));
    }

    /// Notes that the only producer has sent its next batch.
    pub(crate) fn sends_batch(&mut self, batch: Sent) {
        if let Some(retention) = &mut self.retention {
            retention.sends(batch);
        }
    }

    /// Notes that the oldest batch that was sent and not answered is appended.
    pub(crate) fn batch_appended(&mut self, now_ms: i64) {
        if let Some(retention) = &mut self.retention {
            retention.appended(now_ms);
        }
    }

    /// Permits, as a request to delete records would, everything that retention may have removed by now.
    pub(crate) fn ages(&mut self, now_ms: i64) {
        if let Some(retention) = &self.retention {
            self.trim_asked = self.trim_asked.max(retention.latest_start(now_ms));
        }
    }

    /// Checks that everything is removed that retention had to remove by `then_ms`.
    pub(crate) fn is_removed(&self, then_ms: i64) -> Result<(), String> {
        let start = self
            .retention
            .as_ref()
            .map_or(0, |r| r.earliest_start(then_ms));
        let log_start = self.log_start.last();
        match log_start < start {
            true => Err(format!(
                "log start {log_start}, and retention removes all below {start} (F6)"
            )),
            false => Ok(()),
        }
    }

    /// Notes that the leader of an epoch acknowledged a batch: its records stay at these offsets for ever, in this order.
    pub(crate) fn acknowledged(
        &mut self,
        epoch: i32,
        base: i64,
        records: &[Identity],
    ) -> Result<(), String> {
        let mut offset = base;
        for identity in records {
            self.place(offset, *identity)?;
            offset += 1;
        }
        self.high_watermark.note(epoch, offset);
        Ok(())
    }

    /// Checks that a record is the only one at its offset, is at no other offset, and is in its producer's order.
    pub(crate) fn place(&mut self, offset: i64, identity: Identity) -> Result<(), String> {
        if !self.sent.contains(&identity) {
            return Err(format!("{identity:?} at {offset} was never sent"));
        }
        if let Some(other) = self.at.insert(offset, identity)
            && other != identity
        {
            return Err(format!(
                "offset {offset} holds {identity:?} (I5) and held {other:?}"
            ));
        }
        if let Some(other) = self.of.insert(identity, offset)
            && other != offset
        {
            return Err(format!(
                "{identity:?} is at {offset} and at {other}: appended twice (I6)"
            ));
        }
        let first = Identity {
            sequence: 0,
            ..identity
        };
        let before = self.of.range(first..identity).next_back();
        if let Some((before, at)) = before
            && *at >= offset
        {
            return Err(format!(
                "{identity:?} at {offset} is not after {before:?} at {at}"
            ));
        }
        Ok(())
    }

    /// Checks the bounds in the answer to a request that was sent when `known` was known.
    pub(crate) fn bounds(
        &mut self,
        known: Known,
        log_start: i64,
        high_watermark: i64,
    ) -> Result<(), String> {
        if high_watermark < known.high_watermark {
            return Err(format!(
                "high watermark {high_watermark}, and {} is acknowledged or was visible (I1, I2)",
                known.high_watermark
            ));
        }
        if log_start < known.log_start {
            return Err(format!(
                "log start {log_start} went back from {}",
                known.log_start
            ));
        }
        if log_start > self.trim_asked {
            return Err(format!(
                "log start {log_start}, and nothing may delete records from {} on",
                self.trim_asked
            ));
        }
        self.high_watermark.note(known.epoch, high_watermark);
        self.log_start.note(known.epoch, log_start);
        if let Some(retention) = &mut self.retention {
            retention.starts_at(self.log_start.last());
        }
        Ok(())
    }

    pub(crate) fn asks_trim(&mut self, before: i64) {
        self.trim_asked = self.trim_asked.max(before);
    }

    pub(crate) fn trimmed(&mut self, epoch: i32, asked: i64, log_start: i64) -> Result<(), String> {
        if log_start < asked || log_start > self.trim_asked {
            return Err(format!(
                "records below {asked} are deleted, and the log start is {log_start}"
            ));
        }
        self.log_start.note(epoch, log_start);
        Ok(())
    }

    /// Returns whether a read from this offset may be refused as out of range.
    pub(crate) fn may_be_trimmed(&self, offset: i64) -> bool {
        offset < self.trim_asked
    }

    /// Checks at the end that every record that was sent is in the log.
    pub(crate) fn is_complete(&self) -> Result<(), String> {
        match self.sent.iter().find(|sent| !self.of.contains_key(sent)) {
            Some(lost) => Err(format!("{lost:?} was sent, and is nowhere in the end")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(sequence: i32) -> Identity {
        Identity {
            producer: 1,
            sequence,
        }
    }

    #[test]
    fn what_may_never_happen_is_found() {
        let mut history = PartitionHistory::default();
        assert!(history.place(0, identity(0)).is_err(), "never sent");
        for sequence in 0..5 {
            history.sends(identity(sequence));
        }
        let batch = [identity(0), identity(1)];
        history.acknowledged(0, 0, &batch).expect("is sound");
        history.acknowledged(0, 0, &batch).expect("a repeat");
        let known = history.known(0);
        assert!(history.bounds(known, 0, 1).is_err(), "acknowledged, gone");
        history.bounds(known, 0, 3).expect("one more is there");
        assert!(history.bounds(history.known(0), 0, 2).is_err(), "went back");
        assert!(history.bounds(history.known(0), 1, 3).is_err(), "not asked");
        history.asks_trim(2);
        history.trimmed(0, 2, 2).expect("is asked for");
        assert!(history.bounds(history.known(0), 1, 3).is_err(), "went back");
        assert!(history.is_complete().is_err(), "two are missing");
        assert!(history.place(2, identity(1)).is_err(), "appended twice");
    }

    #[test]
    fn an_answer_is_as_new_as_its_own_epoch_and_all_earlier_ones() {
        let mut history = PartitionHistory::default();
        history.bounds(history.known(1), 0, 3).expect("is sound");
        history.bounds(history.known(2), 0, 5).expect("is sound");
        history.bounds(history.known(1), 0, 4).expect("a zombie");
        assert!(history.bounds(history.known(1), 0, 3).is_err(), "went back");
        assert!(history.bounds(history.known(3), 0, 4).is_err(), "went back");
    }

    #[test]
    fn two_values_at_one_offset_and_a_wrong_order_are_found() {
        let mut history = PartitionHistory::default();
        for sequence in 0..5 {
            history.sends(identity(sequence));
        }
        history.place(3, identity(3)).expect("is sound");
        assert!(history.place(2, identity(4)).is_err(), "4 before 3");
        assert!(history.place(3, identity(2)).is_err(), "two at one offset");
    }
}
