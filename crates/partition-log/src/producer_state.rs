//! Idempotence (I6): the last five batches of each producer, rebuilt exactly from a checkpoint and deltas (F1 to F4).

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_s3stream::{DeltaFold, Folded};
use highwater_types::StreamRange;
use highwater_types::limits::PRODUCER_BATCHES_KEPT;

use crate::AppendError;

/// What is known of every producer of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerState {
    producers: BTreeMap<i64, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Batch>,
    /// When it last appended, milliseconds since 1970.
    last_append: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base: i64,
    count: i32,
}

/// One batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer: i64,
    pub(crate) epoch: i16,
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) append_time: i64,
}

const DELTA_VERSION: u8 = 1;
const DELTA_BYTES: usize = 28;
const CHECKPOINT_VERSION: u8 = 1;

impl ProducerBatch {
    /// The delta (F1).
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(DELTA_BYTES);
        out.put_u8(DELTA_VERSION);
        // transactional, marker type: none yet
        out.put_u8(0);
        out.put_i64(self.producer);
        out.put_i16(self.epoch);
        out.put_i32(self.first_sequence);
        out.put_i32(self.last_sequence);
        out.put_i64(self.append_time);
        out.freeze()
    }

    fn decode(delta: &Bytes) -> Option<Self> {
        let mut delta = delta.clone();
        if delta.len() < DELTA_BYTES || delta.get_u8() != DELTA_VERSION {
            return None;
        }
        delta.advance(1);
        Some(Self {
            producer: delta.get_i64(),
            epoch: delta.get_i16(),
            first_sequence: delta.get_i32(),
            last_sequence: delta.get_i32(),
            append_time: delta.get_i64(),
        })
    }
}

fn after(sequence: i32) -> i32 {
    if sequence == i32::MAX {
        0
    } else {
        sequence + 1
    }
}

impl ProducerState {
    /// Whether a batch is next (`None`) or a repeat (its first offset and its count).
    pub(crate) fn check(
        &self,
        batch: &ProducerBatch,
        held_records: bool,
    ) -> Result<Option<i64>, AppendError> {
        let refuse = |expected| AppendError::OutOfOrderSequence {
            producer: batch.producer,
            sequence: batch.first_sequence,
            expected,
        };
        let Some(known) = self.producers.get(&batch.producer) else {
            // A4: where no state is known, a partition that never held a record takes sequence 0 only
            let sound = held_records || batch.first_sequence == 0;
            return if sound { Ok(None) } else { Err(refuse(0)) };
        };
        if batch.epoch < known.epoch {
            return Err(AppendError::OldProducerEpoch {
                producer: batch.producer,
                epoch: batch.epoch,
                held: known.epoch,
            });
        }
        if batch.epoch > known.epoch {
            return if batch.first_sequence == 0 {
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
        let expected = known
            .batches
            .back()
            .map_or(0, |last| after(last.last_sequence));
        if batch.first_sequence == expected {
            Ok(None)
        } else {
            Err(refuse(expected))
        }
    }

    /// Takes a batch that was appended.
    pub(crate) fn add(&mut self, batch: &ProducerBatch, range: &StreamRange) {
        let fresh = || Producer {
            epoch: batch.epoch,
            batches: VecDeque::new(),
            last_append: 0,
        };
        let producer = self.producers.entry(batch.producer).or_insert_with(fresh);
        if producer.epoch != batch.epoch {
            producer.batches.clear();
            producer.epoch = batch.epoch;
        }
        if producer.batches.len() == PRODUCER_BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            base: range.start,
            count: i32::try_from(range.end - range.start).unwrap_or(i32::MAX),
        });
        producer.last_append = producer.last_append.max(batch.append_time);
    }

    /// Forgets producers that appended nothing since.
    pub(crate) fn expire(&mut self, before: i64) {
        self.producers
            .retain(|_, producer| producer.last_append >= before);
    }

    /// The state of a checkpoint and the deltas after it.
    pub(crate) fn rebuild(
        checkpoint: Option<&Bytes>,
        deltas: &[(StreamRange, Bytes)],
    ) -> Option<Self> {
        let mut state = match checkpoint {
            Some(checkpoint) => Self::decode(checkpoint)?,
            None => Self::default(),
        };
        for (range, delta) in deltas {
            state.add(&ProducerBatch::decode(delta)?, range);
        }
        Some(state)
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(CHECKPOINT_VERSION);
        out.put_u32(u32::try_from(self.producers.len()).unwrap_or(u32::MAX));
        for (id, producer) in &self.producers {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i64(producer.last_append);
            // first offset of its open transaction, coordinator epoch: none yet
            out.put_i64(-1);
            out.put_i32(-1);
            out.put_u8(u8::try_from(producer.batches.len()).unwrap_or(u8::MAX));
            for batch in &producer.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base);
                out.put_i32(batch.count);
            }
        }
        out.freeze()
    }

    fn decode(checkpoint: &Bytes) -> Option<Self> {
        let mut r = checkpoint.clone();
        if r.try_get_u8().ok()? != CHECKPOINT_VERSION {
            return None;
        }
        let mut state = Self::default();
        for _ in 0..r.try_get_u32().ok()? {
            let id = r.try_get_i64().ok()?;
            let epoch = r.try_get_i16().ok()?;
            let last_append = r.try_get_i64().ok()?;
            r.try_get_i64().ok()?;
            r.try_get_i32().ok()?;
            let mut batches = VecDeque::new();
            for _ in 0..r.try_get_u8().ok()? {
                batches.push_back(Batch {
                    first_sequence: r.try_get_i32().ok()?,
                    last_sequence: r.try_get_i32().ok()?,
                    base: r.try_get_i64().ok()?,
                    count: r.try_get_i32().ok()?,
                });
            }
            state.producers.insert(
                id,
                Producer {
                    epoch,
                    batches,
                    last_append,
                },
            );
        }
        Some(state)
    }
}

/// What deltas mean to the streams below.
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaDeltaFold;

impl DeltaFold for KafkaDeltaFold {
    fn fold(&self, checkpoint: Option<&Bytes>, deltas: &[(StreamRange, Bytes)]) -> Folded {
        let state = ProducerState::rebuild(checkpoint, deltas)
            .expect("deltas and checkpoints of this process are of a version it knows");
        Folded {
            checkpoint: state.encode(),
            entries: Vec::new(),
            open_from: None,
        }
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

    // KAFKA-BEHAVIOUR 14, 15
    #[test]
    fn repeats_gaps_and_epochs_are_told_apart() {
        let mut state = ProducerState::default();
        assert!(
            state.check(&batch(1, 0, 3, 1), false).is_err(),
            "A4: never held a record"
        );
        assert_eq!(state.check(&batch(1, 0, 3, 1), true), Ok(None));
        let mut offset = 0;
        for i in 0..7 {
            let next = batch(1, 0, i * 10, 10);
            assert_eq!(state.check(&next, true), Ok(None));
            state.add(&next, &(offset..offset + 10));
            offset += 10;
        }
        assert_eq!(state.check(&batch(1, 0, 60, 10), true), Ok(Some(60)));
        assert_eq!(
            state.check(&batch(1, 0, 20, 10), true),
            Ok(Some(20)),
            "the fifth from the end"
        );
        assert!(
            state.check(&batch(1, 0, 10, 10), true).is_err(),
            "only five are remembered"
        );
        assert!(state.check(&batch(1, 0, 71, 10), true).is_err(), "a gap");
        assert!(
            state.check(&batch(1, 1, 70, 1), true).is_err(),
            "a new epoch begins at 0"
        );
        assert_eq!(state.check(&batch(1, 1, 0, 1), true), Ok(None));
        state.add(&batch(1, 1, 0, 1), &(70..71));
        let old = state.check(&batch(1, 0, 70, 1), true);
        assert!(matches!(old, Err(AppendError::OldProducerEpoch { .. })));
        state.add(&batch(2, 0, i32::MAX, 1), &(71..72));
        assert_eq!(
            state.check(&batch(2, 0, 0, 1), true),
            Ok(None),
            "after the last comes 0"
        );
    }

    // F1, F2, F4
    #[test]
    fn checkpoint_and_deltas_give_exactly_the_live_state_wherever_they_are_cut() {
        let mut live = ProducerState::default();
        let mut deltas = Vec::new();
        let mut states = vec![live.clone()];
        for i in 0..40i32 {
            let (producer, offset) = (i64::from(i * 7 % 3), i64::from(i));
            let appended = batch(producer, i16::try_from(i / 25).expect("small"), i, 1);
            live.add(&appended, &(offset..offset + 1));
            deltas.push((offset..offset + 1, appended.encode()));
            states.push(live.clone());
        }
        for cut in 0..=deltas.len() {
            let checkpoint = KafkaDeltaFold.fold(None, &deltas[..cut]).checkpoint;
            assert_eq!(
                ProducerState::decode(&checkpoint).as_ref(),
                Some(&states[cut])
            );
            let rebuilt = ProducerState::rebuild(Some(&checkpoint), &deltas[cut..]);
            assert_eq!(rebuilt.as_ref(), Some(&live), "cut at {cut}");
        }
        assert!(deltas.iter().all(|(_, delta)| delta.len() <= 64), "F1");
    }
}
