//! The producers of one log, within the memory that those of all logs share (I11).

use std::sync::Arc;

use highwater_runtime::{ByteBudget, BytePermit};
use highwater_types::{StreamRange, Timestamp};

use crate::AppendError;
use crate::producer_state::{ProducerBatch, ProducerState};

/// What a producer takes, here, in the last checkpoint and in the deltas since, at most.
const PRODUCER_BYTES: u64 = 384;
/// What a log may know whatever the others do.
const PRODUCERS_MIN: u64 = 32;

/// The memory that the producers of all logs of a node share: each log holds a clone.
#[derive(Debug, Clone)]
pub struct ProducerMemory(Arc<ByteBudget>);

impl ProducerMemory {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(ByteBudget::new(bytes)))
    }

    /// Bytes held now; more than there are for a moment.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used()
    }

    /// Bytes there are.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit()
    }

    /// What each log may take when there is too little.
    fn even_share(&self) -> u64 {
        let logs = Arc::strong_count(&self.0).max(1) as u64;
        self.limit()
            .checked_div(logs)
            .unwrap_or(0)
            .max(PRODUCERS_MIN * PRODUCER_BYTES)
    }
}

/// What was forgotten, for the checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Every producer that appended last before this.
    pub(crate) before: Timestamp,
    /// What a checkpoint of the rest takes.
    pub(crate) left_bytes: usize,
}

/// The producers that one log knows.
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
    pub(crate) fn check(&self, batch: &ProducerBatch) -> Result<Option<i64>, AppendError> {
        self.state.check(batch)
    }

    /// Takes a batch that was appended; where memory is short, the producers that are idle for longest are forgotten.
    pub(crate) fn add(&mut self, batch: &ProducerBatch, range: &StreamRange) -> Option<Forgotten> {
        let known = self.state.len();
        self.state.add(batch, range);
        if self.state.len() == known || !self.is_too_much() {
            return None;
        }
        Some(self.forget(Timestamp::MIN))
    }

    /// Forgets producers that appended nothing since, and, while memory is short, those that are idle for longest.
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

    /// Counts what is known now; whether all logs have too much, and this one more than its share.
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
        let known = producers.check(&batch(producer));
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
