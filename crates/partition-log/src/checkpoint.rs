//! The stored form of producer state: the delta of each batch, and the checkpoint that deltas are folded into (F1 to
//! F5). Pure.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_s3stream::{DeltaFold, Folded};
use highwater_types::{StreamRange, Timestamp};

use crate::producer_state::{Batch, Producer, ProducerBatch, ProducerState};

const DELTA_VERSION: u8 = 1;
const DELTA_BYTES: usize = 28;
const CHECKPOINT_VERSION: u8 = 1;
/// A checkpoint's header: version and number of producers. Each producer follows, with a fixed part and then its
/// batches.
const HEADER_BYTES: usize = 5;
const PRODUCER_BYTES: usize = 31;
const BATCH_BYTES: usize = 20;

impl ProducerBatch {
    /// The delta of the batch (F1).
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(DELTA_BYTES);
        out.put_u8(DELTA_VERSION);
        // reserved for transactions: whether it is transactional, and the type of a marker
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

/// The size in a checkpoint of a producer with this number of batches.
fn producer_bytes(batches: usize) -> usize {
    PRODUCER_BYTES.saturating_add(batches.saturating_mul(BATCH_BYTES))
}

impl ProducerState {
    /// The size of a checkpoint of this state.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let bytes = |producer: &Producer| producer_bytes(producer.batches.len());
        let all: usize = self.producers.values().map(bytes).sum();
        if all == 0 {
            0
        } else {
            HEADER_BYTES.saturating_add(all)
        }
    }

    /// The state after a checkpoint and the deltas since; `None` where one of them has an unknown version or is cut
    /// short.
    pub(crate) fn rebuild(
        checkpoint: Option<&Bytes>,
        deltas: &[(StreamRange, Bytes)],
    ) -> Option<Self> {
        let mut state = Self::default();
        let mut known = Checkpointed::read(checkpoint.cloned().unwrap_or_default())?;
        while let Some((id, fields)) = known.next()? {
            state.producers.insert(id, Producer::decode(fields)?);
        }
        for (range, delta) in deltas {
            state.add(&ProducerBatch::decode(delta)?, range);
        }
        Some(state)
    }
}

impl Producer {
    fn encode(&self, id: i64, out: &mut BytesMut) {
        out.put_i64(id);
        out.put_i16(self.epoch);
        out.put_i64(self.last_append);
        // reserved for transactions: first offset of the open one, coordinator epoch
        out.put_i64(-1);
        out.put_i32(-1);
        out.put_u8(u8::try_from(self.batches.len()).unwrap_or(u8::MAX));
        for batch in &self.batches {
            out.put_i32(batch.first_sequence);
            out.put_i32(batch.last_sequence);
            out.put_i64(batch.base);
            out.put_i32(batch.count);
        }
    }

    /// Decodes a producer that [`Checkpointed::next`] returned.
    fn decode(mut fields: Bytes) -> Option<Self> {
        fields.try_get_i64().ok()?;
        let epoch = fields.try_get_i16().ok()?;
        let last_append = fields.try_get_i64().ok()?;
        fields.try_get_i64().ok()?;
        fields.try_get_i32().ok()?;
        let count = usize::from(fields.try_get_u8().ok()?);
        let mut batches = VecDeque::with_capacity(count);
        for _ in 0..count {
            batches.push_back(Batch {
                first_sequence: fields.try_get_i32().ok()?,
                last_sequence: fields.try_get_i32().ok()?,
                base: fields.try_get_i64().ok()?,
                count: fields.try_get_i32().ok()?,
            });
        }
        Some(Self {
            epoch,
            batches,
            last_append,
        })
    }
}

/// Iterates over the producers of a checkpoint, which are in the order of their ids.
struct Checkpointed {
    rest: Bytes,
    left: u32,
}

impl Checkpointed {
    fn read(mut checkpoint: Bytes) -> Option<Self> {
        let mut left = 0;
        if !checkpoint.is_empty() {
            if checkpoint.try_get_u8().ok()? != CHECKPOINT_VERSION {
                return None;
            }
            left = checkpoint.try_get_u32().ok()?;
        }
        let rest = checkpoint;
        Some(Self { rest, left })
    }

    /// The next producer's id and its encoded form, `Some(None)` at the end; `None` where the checkpoint is cut
    /// short.
    #[expect(
        clippy::option_option,
        reason = "no value at the end differs from a checkpoint that can't be read"
    )]
    fn next(&mut self) -> Option<Option<(i64, Bytes)>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Some(None);
        };
        self.left = left;
        let batches = usize::from(*self.rest.get(PRODUCER_BYTES - 1)?);
        let bytes = producer_bytes(batches);
        if bytes > self.rest.len() {
            return None;
        }
        let fields = self.rest.split_to(bytes);
        let id = fields.slice(..8).get_i64();
        Some(Some((id, fields)))
    }
}

/// The batches that a producer appended after the checkpoint.
type Since<'a> = Vec<(ProducerBatch, &'a StreamRange)>;

/// The time of an encoded producer's last append.
fn last_append(fields: &Bytes) -> Timestamp {
    fields.slice(10..18).get_i64()
}

/// Folds Kafka's deltas into checkpoints for the stream store, to which they are opaque.
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaDeltaFold;

impl KafkaDeltaFold {
    /// Merges the deltas into the checkpoint. A producer without a delta is copied as encoded, so a large checkpoint
    /// costs little.
    fn checkpoint(
        checkpoint: &Bytes,
        deltas: &[(StreamRange, Bytes)],
        before: Timestamp,
    ) -> Option<Bytes> {
        let mut since: BTreeMap<i64, Since<'_>> = BTreeMap::new();
        for (range, delta) in deltas {
            let batch = ProducerBatch::decode(delta)?;
            since
                .entry(batch.producer)
                .or_default()
                .push((batch, range));
        }
        let mut out = BytesMut::with_capacity(HEADER_BYTES.saturating_add(checkpoint.len()));
        out.put_u8(CHECKPOINT_VERSION);
        out.put_u32(0);
        let mut count: u32 = 0;
        let put = |id, mut producer: Producer, since: &Since<'_>, out: &mut BytesMut| {
            for (batch, range) in since {
                producer.add(batch, range);
            }
            let counts = producer.last_append >= before;
            if counts {
                producer.encode(id, out);
            }
            u32::from(counts)
        };
        let mut known = Checkpointed::read(checkpoint.clone())?;
        while let Some((id, fields)) = known.next()? {
            while let Some(fresh) = since.first_entry().filter(|fresh| *fresh.key() < id) {
                let (id, batches) = fresh.remove_entry();
                let is_there = put(id, Producer::default(), &batches, &mut out);
                count = count.saturating_add(is_there);
            }
            match since.remove(&id) {
                Some(batches) => {
                    let is_there = put(id, Producer::decode(fields)?, &batches, &mut out);
                    count = count.saturating_add(is_there);
                }
                None if last_append(&fields) >= before => {
                    out.put_slice(&fields);
                    count = count.saturating_add(1);
                }
                None => {}
            }
        }
        for (id, batches) in since {
            let is_there = put(id, Producer::default(), &batches, &mut out);
            count = count.saturating_add(is_there);
        }
        if count == 0 {
            return Some(Bytes::new());
        }
        out[1..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
        Some(out.freeze())
    }
}

impl DeltaFold for KafkaDeltaFold {
    fn fold(
        &self,
        checkpoint: &Bytes,
        deltas: &[(StreamRange, Bytes)],
        before: Timestamp,
    ) -> Option<Folded> {
        Some(Folded {
            checkpoint: Self::checkpoint(checkpoint, deltas, before)?,
            entries: Vec::new(),
            open_from: None,
        })
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

    fn fold(checkpoint: &Bytes, deltas: &[(StreamRange, Bytes)], before: Timestamp) -> Bytes {
        let folded = KafkaDeltaFold.fold(checkpoint, deltas, before);
        folded.expect("is readable").checkpoint
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
            let checkpoint = fold(&Bytes::new(), &deltas[..cut], 0);
            let state = ProducerState::rebuild(Some(&checkpoint), &[]);
            assert_eq!(state.as_ref(), Some(&states[cut]));
            assert_eq!(checkpoint.len(), states[cut].encoded_bytes());
            let onto = fold(&checkpoint, &deltas[cut..], 0);
            assert_eq!(onto, fold(&Bytes::new(), &deltas, 0), "merged at {cut}");
            let rebuilt = ProducerState::rebuild(Some(&checkpoint), &deltas[cut..]);
            assert_eq!(rebuilt.as_ref(), Some(&live), "cut at {cut}");
        }
        assert!(deltas.iter().all(|(_, delta)| delta.len() <= 64), "F1");
    }

    // F5
    #[test]
    fn a_checkpoint_is_without_producers_that_are_idle_for_too_long() {
        let at = |producer, append_time| ProducerBatch {
            append_time,
            ..batch(producer, 0, 0, 1)
        };
        let delta = |producer, time| (0..1, at(producer, time).encode());
        let all: Vec<_> = (0..8).map(|i| delta(i, i)).collect();
        let checkpoint = fold(&Bytes::new(), &all, 0);
        // producer 2 is idle in the checkpoint, and its delta makes it recent
        let since = [delta(2, 9), delta(8, 4)];
        let kept = fold(&checkpoint, &since, 5);
        let state = ProducerState::rebuild(Some(&kept), &[]).expect("is readable");
        let mut live = ProducerState::default();
        for (producer, time) in [(5, 5), (6, 6), (7, 7), (2, 2), (2, 9)] {
            live.add(&at(producer, time), &(0..1));
        }
        assert_eq!(state, live);
        assert!(fold(&checkpoint, &since, 10).is_empty(), "none is left");
        assert_eq!(live.oldest_quarter(), 7);
        live.forget(live.oldest_quarter());
        assert_eq!(live.len(), 2);
        live.forget(live.oldest_quarter());
        live.forget(live.oldest_quarter());
        assert_eq!(live.len(), 1, "the newest stays");
    }

    // Bytes that are read from storage must never cause a panic.
    #[test]
    fn checkpoints_and_deltas_that_are_cut_short_or_of_another_version_are_refused() {
        let delta = (0..1, batch(1, 0, 0, 1).encode());
        let checkpoint = fold(&Bytes::new(), std::slice::from_ref(&delta), 0);
        for cut in 1..checkpoint.len() {
            let cut = checkpoint.slice(..cut);
            assert_eq!(ProducerState::rebuild(Some(&cut), &[]), None);
            assert!(KafkaDeltaFold.fold(&cut, &[], 0).is_none());
        }
        let mut other = checkpoint.to_vec();
        other[0] += 1;
        assert!(KafkaDeltaFold.fold(&other.into(), &[], 0).is_none());
        let short = [(0..1, delta.1.slice(1..))];
        assert!(KafkaDeltaFold.fold(&checkpoint, &short, 0).is_none());
    }
}
