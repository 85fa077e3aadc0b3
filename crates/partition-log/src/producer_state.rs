//! Idempotence (I6): the last five batches of each producer. Pure.

use std::collections::{BTreeMap, VecDeque};

use highwater_types::limits::PRODUCER_BATCHES_KEPT;
use highwater_types::{StreamRange, Timestamp};

use crate::AppendError;
use crate::lost::Lost;

/// The known producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) producers: BTreeMap<i64, Producer>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    pub(crate) batches: VecDeque<Batch>,
    /// The time of its last append, in milliseconds since 1970.
    pub(crate) last_append: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base: i64,
    pub(crate) count: i32,
}

/// The producer fields of one batch, as it is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer: i64,
    pub(crate) epoch: i16,
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) append_time: i64,
}

fn after(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// Whether a sequence comes later than the expected one. They begin again at 0, so that the nearer way counts.
fn is_ahead(sequence: i32, expected: i32) -> bool {
    sequence.wrapping_sub(expected) & i32::MAX < 1 << 30
}

impl ProducerState {
    /// Whether a batch is the producer's next one (`None`) or repeats a known one, and then the base offset of that.
    /// Batches of the producer may have been lost behind those that are known (A4); then a later batch is the next one.
    pub(crate) fn check(
        &self,
        batch: &ProducerBatch,
        lost: &Lost,
    ) -> Result<Option<i64>, AppendError> {
        let refuse = |expected| AppendError::OutOfOrderSequence {
            producer: batch.producer,
            sequence: batch.first_sequence,
            expected,
        };
        let Some(known) = self.producers.get(&batch.producer) else {
            // A4: a producer without known state may begin with any sequence
            return Ok(None);
        };
        if batch.epoch < known.epoch {
            return Err(AppendError::OldProducerEpoch {
                producer: batch.producer,
                epoch: batch.epoch,
                held: known.epoch,
            });
        }
        let last = known.batches.back();
        let may_have_lost = last.is_some_and(|last| lost.is_behind(last.base));
        if batch.epoch > known.epoch {
            return if batch.first_sequence == 0 || may_have_lost {
                Ok(None)
            } else {
                Err(refuse(0))
            };
        }
        let repeat = known.batches.iter().find(|old| {
            old.first_sequence == batch.first_sequence && old.last_sequence == batch.last_sequence
        });
        if let Some(old) = repeat {
            return Ok(Some(old.base));
        }
        let expected = last.map_or(0, |last| after(last.last_sequence));
        let is_next = batch.first_sequence == expected;
        if is_next || may_have_lost && is_ahead(batch.first_sequence, expected) {
            Ok(None)
        } else {
            Err(refuse(expected))
        }
    }

    /// Records a batch that was appended.
    pub(crate) fn add(&mut self, batch: &ProducerBatch, range: &StreamRange) {
        let producer = self.producers.entry(batch.producer);
        producer.or_default().add(batch, range);
    }

    /// The number of known producers.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// Forgets the producers whose last append was before a time.
    pub(crate) fn forget(&mut self, before: Timestamp) {
        self.producers
            .retain(|_, producer| producer.last_append >= before);
    }

    /// A time before which about a quarter of the producers had their last append; at most the newest producer's.
    pub(crate) fn oldest_quarter(&self) -> Timestamp {
        let times = self.producers.values().map(|producer| producer.last_append);
        let mut times: Vec<Timestamp> = times.collect();
        let newest = times.iter().max().copied().unwrap_or(Timestamp::MIN);
        if times.is_empty() {
            return newest;
        }
        let quarter = times.len() / 4;
        let (_, time, _) = times.select_nth_unstable(quarter);
        time.saturating_add(1).min(newest)
    }
}

impl Producer {
    pub(crate) fn add(&mut self, batch: &ProducerBatch, range: &StreamRange) {
        if self.epoch != batch.epoch {
            self.batches.clear();
            self.epoch = batch.epoch;
        }
        if self.batches.len() == PRODUCER_BATCHES_KEPT {
            self.batches.pop_front();
        }
        // most producers have only one batch known
        self.batches.reserve_exact(1);
        self.batches.push_back(Batch {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            base: range.start,
            count: i32::try_from(range.end.saturating_sub(range.start)).unwrap_or(i32::MAX),
        });
        self.last_append = self.last_append.max(batch.append_time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer: i64, epoch: i16, first: i32, count: i32) -> ProducerBatch {
        let last = i64::from(first) + i64::from(count) - 1;
        let last_sequence = i32::try_from(last % (1 << 31)).expect("wraps");
        ProducerBatch {
            producer,
            epoch,
            first_sequence: first,
            last_sequence,
            append_time: 9,
        }
    }

    fn check(state: &ProducerState, batch: &ProducerBatch) -> Result<Option<i64>, AppendError> {
        state.check(batch, &Lost::default())
    }

    // KAFKA-BEHAVIOUR 14, 15
    #[test]
    fn repeats_gaps_and_epochs_are_told_apart() {
        let mut state = ProducerState::default();
        assert_eq!(check(&state, &batch(1, 0, 3, 1)), Ok(None), "A4");
        let mut offset = 0;
        for i in 0..7 {
            let next = batch(1, 0, i * 10, 10);
            assert_eq!(check(&state, &next), Ok(None));
            state.add(&next, &(offset..offset + 10));
            offset += 10;
        }
        assert_eq!(check(&state, &batch(1, 0, 60, 10)), Ok(Some(60)));
        assert_eq!(
            check(&state, &batch(1, 0, 20, 10)),
            Ok(Some(20)),
            "the fifth from the end"
        );
        assert!(
            check(&state, &batch(1, 0, 10, 10)).is_err(),
            "only five are remembered"
        );
        assert!(check(&state, &batch(1, 0, 71, 10)).is_err(), "a gap");
        assert!(
            check(&state, &batch(1, 1, 70, 1)).is_err(),
            "a new epoch begins at 0"
        );
        assert_eq!(check(&state, &batch(1, 1, 0, 1)), Ok(None));
        state.add(&batch(1, 1, 0, 1), &(70..71));
        let old = check(&state, &batch(1, 0, 70, 1));
        assert!(matches!(old, Err(AppendError::OldProducerEpoch { .. })));
        state.add(&batch(2, 0, i32::MAX, 1), &(71..72));
        assert_eq!(
            check(&state, &batch(2, 0, 0, 1)),
            Ok(None),
            "after the last comes 0"
        );
    }

    // A4: the later batches of both producers were lost, up to offset 100
    #[test]
    fn a_producer_goes_on_after_its_later_batches_were_lost() {
        let lost = Lost::new(20..100);
        let mut state = ProducerState::default();
        state.add(&batch(1, 0, 0, 10), &(0..10));
        state.add(&batch(2, 0, i32::MAX - 9, 10), &(10..20));
        let check = |state: &ProducerState, batch: &ProducerBatch| state.check(batch, &lost);
        assert_eq!(check(&state, &batch(1, 0, 10, 5)), Ok(None), "nothing was");
        assert_eq!(check(&state, &batch(1, 0, 70, 5)), Ok(None));
        assert_eq!(
            check(&state, &batch(2, 0, 60, 5)),
            Ok(None),
            "after the last"
        );
        assert_eq!(check(&state, &batch(1, 1, 70, 5)), Ok(None), "a lost epoch");
        assert_eq!(check(&state, &batch(1, 0, 0, 10)), Ok(Some(0)), "I6");
        assert!(
            check(&state, &batch(1, 0, 5, 5)).is_err(),
            "part of it is known"
        );
        let before = batch(2, 0, i32::MAX - 99, 10);
        assert!(check(&state, &before).is_err(), "only five are remembered");
        state.add(&batch(1, 0, 70, 5), &(100..105));
        assert_eq!(check(&state, &batch(1, 0, 75, 5)), Ok(None));
        assert!(check(&state, &batch(1, 0, 80, 5)).is_err(), "once");
        assert_eq!(check(&state, &batch(1, 0, 0, 10)), Ok(Some(0)), "I6");
    }
}
