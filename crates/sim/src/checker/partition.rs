//! One partition: the place of each record (I1, I5, I6), and bounds that never go back (I2).

use std::collections::{BTreeMap, BTreeSet};

use super::epoch_ends::EpochEnds;
use super::retention::Retention;
use super::{Anomaly, ByEpoch, Identity, Keeps, Sent, Violation};

/// The known history of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionHistory {
    sent: BTreeSet<Identity>,
    at: BTreeMap<i64, Identity>,
    of: BTreeMap<Identity, i64>,
    epochs: EpochEnds,
    /// The newest leader epoch that a client was told.
    told: i32,
    /// Whether nothing fails any more, so that all brokers know the last epoch.
    is_over: bool,
    /// The end of what was acknowledged.
    acknowledged: ByEpoch,
    /// The end of what was acknowledged in an epoch that the client didn't know.
    acknowledged_in_unknown: i64,
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
    pub(crate) acknowledged: i64,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

impl PartitionHistory {
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    pub(crate) fn known(&self, epoch: i32) -> Known {
        let acknowledged = self.acknowledged.until(epoch);
        Known {
            epoch,
            acknowledged: match self.is_over {
                true => acknowledged.max(self.acknowledged_in_unknown),
                false => acknowledged,
            },
            high_watermark: self.high_watermark.until(epoch),
            log_start: self.log_start.until(epoch),
        }
    }

    /// Notes that a client was told the leader epoch.
    pub(crate) fn told(&mut self, epoch: i32) {
        self.told = self.told.max(epoch);
    }

    /// Whether this is the newest epoch that was told. Otherwise the broker that a client reached in this epoch may have
    /// lost the partition since and got it back, without an answer that said so.
    pub(crate) fn is_newest(&self, epoch: i32) -> bool {
        epoch >= self.told
    }

    /// Notes that nothing fails any more: every answer is as new as everything.
    pub(crate) fn note_end(&mut self) {
        self.is_over = true;
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
    pub(crate) fn is_removed(&self, then_ms: i64) -> Result<(), Violation> {
        let start = self
            .retention
            .as_ref()
            .map_or(0, |r| r.earliest_start(then_ms));
        let log_start = self.log_start.last();
        match log_start < start {
            true => Anomaly::WrongAnswer.found(format!(
                "log start {log_start}, and retention removes all below {start} (F6)"
            )),
            false => Ok(()),
        }
    }

    /// Notes that the leader of an epoch acknowledged a batch: its records stay at these offsets for ever, in this order.
    /// If a later epoch was told since, the leader may have been that of a later one, which the client doesn't know.
    pub(crate) fn acknowledged(
        &mut self,
        epoch: i32,
        base: i64,
        records: &[Identity],
    ) -> Result<(), Violation> {
        let mut offset = base;
        for identity in records {
            self.place(offset, *identity)?;
            offset += 1;
        }
        if self.is_newest(epoch) {
            self.acknowledged.note(epoch, offset);
            self.high_watermark.note(epoch, offset);
        } else {
            self.acknowledged_in_unknown = self.acknowledged_in_unknown.max(offset);
        }
        Ok(())
    }

    /// Notes a record that was read, with the leader epoch of its batch.
    pub(crate) fn read(
        &mut self,
        offset: i64,
        epoch: i32,
        identity: Identity,
    ) -> Result<(), Violation> {
        self.place(offset, identity)?;
        self.epochs.read(offset, epoch)
    }

    /// An epoch that has records and is none after the leader's, and the end that it has at least; `at` chooses among
    /// them.
    pub(crate) fn one_epoch(&self, leader: i32, at: u64) -> Option<(i32, i64)> {
        let epoch = self.epochs.one_until(leader, at)?;
        Some((epoch, self.epochs.least_end(epoch)))
    }

    /// Checks the leader's answer to OffsetForLeaderEpoch for what [`Self::one_epoch`] gave before the request.
    pub(crate) fn epoch_ends(
        &self,
        leader: i32,
        asked: (i32, i64),
        told: (i32, i64),
    ) -> Result<(), Violation> {
        self.epochs.told((leader, self.trim_asked), asked, told)
    }

    /// Checks that a record is the only one at its offset, is at no other offset, and is in its producer's order.
    pub(crate) fn place(&mut self, offset: i64, identity: Identity) -> Result<(), Violation> {
        if !self.sent.contains(&identity) {
            return Anomaly::DirtyRead.found(format!("{identity:?} at {offset} was never sent"));
        }
        if let Some(other) = self.at.insert(offset, identity)
            && other != identity
        {
            return Anomaly::InconsistentOffsets.found(format!(
                "offset {offset} holds {identity:?} (I5) and held {other:?}"
            ));
        }
        if let Some(other) = self.of.insert(identity, offset)
            && other != offset
        {
            return Anomaly::Duplicate.found(format!(
                "{identity:?} is at {offset} and at {other}: appended twice (I6)"
            ));
        }
        let first = Identity {
            sequence: 0,
            ..identity
        };
        let after = Identity {
            sequence: identity.sequence.saturating_add(1),
            ..identity
        };
        let last = Identity {
            sequence: i32::MAX,
            ..identity
        };
        let before = self.of.range(first..identity).next_back();
        let after = self.of.range(after..=last).next();
        let before = before.filter(|(_, at)| **at >= offset);
        let after = after.filter(|(_, at)| **at <= offset);
        match before.or(after) {
            None => Ok(()),
            Some((other, at)) => Anomaly::NonMonotonicSend.found(format!(
                "{identity:?} is at {offset}, and {other:?} is at {at}"
            )),
        }
    }

    /// Checks the bounds in the answer to a request that was sent when `known` was known.
    pub(crate) fn bounds(
        &mut self,
        known: Known,
        log_start: i64,
        high_watermark: i64,
    ) -> Result<(), Violation> {
        if high_watermark < known.acknowledged {
            return Anomaly::LostWrite.found(format!(
                "high watermark {high_watermark}, and all below {} is acknowledged (I1)",
                known.acknowledged
            ));
        }
        if high_watermark < known.high_watermark {
            return Anomaly::OffsetWentBack.found(format!(
                "high watermark {high_watermark}, and all below {} was visible (I2)",
                known.high_watermark
            ));
        }
        if log_start < known.log_start {
            return Anomaly::OffsetWentBack.found(format!(
                "log start {log_start} went back from {}",
                known.log_start
            ));
        }
        if log_start > self.trim_asked {
            return Anomaly::LostWrite.found(format!(
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

    pub(crate) fn trimmed(
        &mut self,
        epoch: i32,
        asked: i64,
        log_start: i64,
    ) -> Result<(), Violation> {
        let told = format!("records below {asked} are deleted, and the log start is {log_start}");
        if log_start < asked {
            return Anomaly::OffsetWentBack.found(told);
        }
        if log_start > self.trim_asked {
            return Anomaly::LostWrite.found(told);
        }
        self.log_start.note(epoch, log_start);
        Ok(())
    }

    /// Returns whether a read from this offset may be refused as out of range.
    pub(crate) fn may_be_trimmed(&self, offset: i64) -> bool {
        offset < self.trim_asked
    }

    /// Checks at the end that every record that was sent is in the log.
    pub(crate) fn is_complete(&self) -> Result<(), Violation> {
        match self.sent.iter().find(|sent| !self.of.contains_key(sent)) {
            Some(lost) => {
                Anomaly::LostWrite.found(format!("{lost:?} was sent, and is nowhere in the end"))
            }
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

    /// A history in which five records were sent, and the first two acknowledged by the leader of epoch 0.
    fn history() -> PartitionHistory {
        let mut history = PartitionHistory::default();
        for sequence in 0..5 {
            history.sends(identity(sequence));
        }
        let batch = [identity(0), identity(1)];
        history.acknowledged(0, 0, &batch).expect("is sound");
        history.acknowledged(0, 0, &batch).expect("a repeat");
        history
    }

    /// What a step of a history is found to be.
    fn found(step: impl FnOnce(&mut PartitionHistory) -> Result<(), Violation>) -> Option<Anomaly> {
        let violation = step(&mut history()).err()?;
        assert!(
            violation
                .to_string()
                .starts_with(&violation.anomaly.to_string())
        );
        Some(violation.anomaly)
    }

    #[test]
    fn a_sound_history_has_no_anomaly() {
        let mut history = history();
        let known = history.known(0);
        history.bounds(known, 0, 3).expect("one more is there");
        history.read(2, 0, identity(2)).expect("in its order");
        history.read(3, 1, identity(3)).expect("in its order");
        history.read(4, 1, identity(4)).expect("in its order");
        history.asks_trim(2);
        history.trimmed(0, 2, 2).expect("is asked for");
        history.bounds(history.known(1), 2, 5).expect("is sound");
        history.is_complete().expect("all are there");
    }

    // a partition that goes from one broker to another and back, where a producer has waited meanwhile
    #[test]
    fn what_was_acknowledged_in_an_unknown_epoch_counts_for_the_end_alone() {
        let mut history = history();
        history.told(1);
        let appended = history.acknowledged(0, 3, &[identity(3)]);
        appended.expect("is sound");
        let zombie = history.bounds(history.known(1), 0, 3);
        zombie.expect("the broker of epoch 1 may not know of it");
        history.note_end();
        let lost = history.bounds(history.known(2), 0, 3).err();
        let anomaly = lost.map(|violation| violation.anomaly);
        assert_eq!(anomaly, Some(Anomaly::LostWrite));
    }

    #[test]
    fn a_lost_write_is_found() {
        let lost = Some(Anomaly::LostWrite);
        assert_eq!(
            found(|it| it.bounds(it.known(0), 0, 1)),
            lost,
            "acknowledged"
        );
        assert_eq!(found(|it| it.bounds(it.known(0), 1, 3)), lost, "not asked");
        let trims = |it: &mut PartitionHistory| {
            it.asks_trim(1);
            it.trimmed(0, 1, 2)
        };
        assert_eq!(found(trims), lost, "more than was asked for");
        assert_eq!(found(|it| it.is_complete()), lost, "two are missing");
    }

    #[test]
    fn a_duplicate_is_found() {
        assert_eq!(
            found(|it| it.place(2, identity(1))),
            Some(Anomaly::Duplicate)
        );
        let answered = |it: &mut PartitionHistory| it.acknowledged(1, 5, &[identity(0)]);
        assert_eq!(found(answered), Some(Anomaly::Duplicate), "by its answer");
    }

    #[test]
    fn inconsistent_offsets_are_found() {
        let inconsistent = Some(Anomaly::InconsistentOffsets);
        assert_eq!(found(|it| it.place(1, identity(2))), inconsistent);
        let answered = |it: &mut PartitionHistory| it.acknowledged(1, 1, &[identity(3)]);
        assert_eq!(found(answered), inconsistent, "by its answer");
        let of_two_epochs = |it: &mut PartitionHistory| {
            it.read(0, 0, identity(0))?;
            it.read(0, 1, identity(0))
        };
        assert_eq!(found(of_two_epochs), inconsistent, "of two epochs");
    }

    #[test]
    fn a_non_monotonic_send_is_found() {
        let before = |it: &mut PartitionHistory| {
            it.place(4, identity(4))?;
            it.place(3, identity(2))?;
            it.place(5, identity(3))
        };
        assert_eq!(found(before), Some(Anomaly::NonMonotonicSend), "3 after 4");
        let after = |it: &mut PartitionHistory| {
            it.place(4, identity(3))?;
            it.place(3, identity(4))
        };
        assert_eq!(found(after), Some(Anomaly::NonMonotonicSend), "4 before 3");
    }

    #[test]
    fn an_offset_that_goes_back_is_found() {
        let back = Some(Anomaly::OffsetWentBack);
        let high_watermark = |it: &mut PartitionHistory| {
            it.bounds(it.known(0), 0, 3)?;
            it.bounds(it.known(0), 0, 2)
        };
        assert_eq!(found(high_watermark), back);
        let log_start = |it: &mut PartitionHistory| {
            it.asks_trim(2);
            it.trimmed(0, 2, 2)?;
            it.bounds(it.known(0), 1, 3)
        };
        assert_eq!(found(log_start), back);
        let trim = |it: &mut PartitionHistory| {
            it.asks_trim(2);
            it.trimmed(0, 2, 1)
        };
        assert_eq!(found(trim), back, "less than was asked for");
    }

    #[test]
    fn a_record_that_was_never_sent_is_found() {
        assert_eq!(
            found(|it| it.place(2, identity(9))),
            Some(Anomaly::DirtyRead)
        );
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
}
