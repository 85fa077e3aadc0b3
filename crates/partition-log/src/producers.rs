//! The producers of one log, kept within the memory that all logs of a node share (I11).

use std::sync::Arc;

use highwater_runtime::{ByteBudget, BytePermit};
use highwater_types::{StreamRange, Timestamp};

use crate::AppendError;
use crate::lost::Lost;
use crate::producer_state::{ProducerBatch, ProducerState};

/// The memory of one producer at most: in this state, in the last checkpoint, and in the deltas since.
const PRODUCER_BYTES: u64 = 384;
/// The number of producers that a log may know however much the other logs hold.
const PRODUCERS_MIN: u64 = 32;

/// The memory for producers that all logs of a node share; each log holds a clone.
#[derive(Debug, Clone)]
pub struct ProducerMemory(Arc<ByteBudget>);

impl ProducerMemory {
    /// Memory of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(ByteBudget::new(bytes)))
    }

    /// The bytes held now; for a moment they may exceed the limit.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used()
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit()
    }

    /// The bytes that each log may hold while the limit is exceeded.
    fn even_share(&self) -> u64 {
        let logs = Arc::strong_count(&self.0).max(1) as u64;
        self.limit()
            .checked_div(logs)
            .unwrap_or(0)
            .max(PRODUCERS_MIN * PRODUCER_BYTES)
    }
}

/// What was forgotten, so that checkpoints forget it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Producers whose last append was before this time are forgotten.
    pub(crate) before: Timestamp,
    /// The size of a checkpoint of the producers that are left.
    pub(crate) left_bytes: usize,
}

/// The known producers of one log, and the memory they hold.
#[derive(Debug)]
pub(crate) struct Producers {
    state: ProducerState,
    memory: ProducerMemory,
    held: BytePermit,
}

impl Producers {
    pub(crate) fn new(state: ProducerState, memory: ProducerMemory) -> Self {
        Self {
            state,
            memory,
            held: BytePermit::empty(),
        }
    }

    /// See [`ProducerState::check`].
    pub(crate) fn check(
        &self,
        batch: &ProducerBatch,
        lost: &Lost,
    ) -> Result<Option<i64>, AppendError> {
        self.state.check(batch, lost)
    }

    /// Records a batch that was appended. If memory is short, forgets the producers that have been idle for longest.
    pub(crate) fn add(&mut self, batch: &ProducerBatch, range: &StreamRange) -> Option<Forgotten> {
        let known = self.state.len();
        self.state.add(batch, range);
        if self.state.len() == known || !self.is_too_much() {
            return None;
        }
        Some(self.forget(Timestamp::MIN))
    }

    /// Forgets the producers whose last append was before a time, and while memory is short those that have been idle
    /// for longest.
    pub(crate) fn forget(&mut self, before: Timestamp) -> Forgotten {
        let mut before = before;
        self.state.forget(before);
        while self.is_too_much() {
            let known = self.state.len();
            before = before.max(self.state.oldest_quarter());
            self.state.forget(before);
            if self.state.len() == known {
                break;
            }
        }
        Forgotten {
            before,
            left_bytes: self.state.encoded_bytes(),
        }
    }

    /// Updates the memory held; whether all logs together exceed the limit and this log exceeds its share.
    fn is_too_much(&mut self) -> bool {
        let (held, wanted) = (
            self.held.bytes(),
            (self.state.len() as u64).saturating_mul(PRODUCER_BYTES),
        );
        if wanted > held {
            self.held
                .merge(self.memory.0.force(wanted.saturating_sub(held)));
        } else {
            drop(self.held.split(held.saturating_sub(wanted)));
        }
        self.memory.used() > self.memory.limit() && wanted > self.memory.even_share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer: i64) -> ProducerBatch {
        ProducerBatch {
            producer,
            epoch: 0,
            first_sequence: 0,
            last_sequence: 0,
            append_time: producer,
        }
    }

    fn knows(producers: &Producers, producer: i64) -> bool {
        let known = producers.check(&batch(producer), &Lost::default());
        known.expect("is no gap").is_some()
    }

    // I11
    #[test]
    fn the_log_that_has_most_forgets_who_is_idle_for_longest() {
        let memory = ProducerMemory::new(400 * PRODUCER_BYTES);
        let producers = || Producers::new(ProducerState::default(), memory.clone());
        let (mut large, mut small) = (producers(), producers());
        for i in 0..100 {
            assert_eq!(small.add(&batch(i), &(i..i + 1)), None);
        }
        let mut forgotten = None;
        for i in 0..10_000 {
            forgotten = large.add(&batch(i), &(i..i + 1)).or(forgotten);
            assert!(memory.used() <= memory.limit());
        }
        let forgotten = forgotten.expect("there is too much");
        assert!(!knows(&large, forgotten.before - 1) && knows(&large, forgotten.before));
        assert!(knows(&large, 9_999));
        assert!((0..100).all(|i| knows(&small, i)), "which has its share");
        let expired = large.forget(9_999);
        assert_eq!((expired.before, expired.left_bytes), (9_999, 56));
        assert_eq!(memory.used(), 101 * PRODUCER_BYTES);
        drop((large, small));
        assert_eq!(memory.used(), 0);
    }
}
