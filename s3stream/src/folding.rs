//! The state from which the next checkpoint of a stream is folded, and the decision when one is due (rules F2, F5).

use std::sync::Arc;

use bytes::Bytes;
use highwater_types::{StreamOffset, StreamRange, Timestamp};

use crate::{DeltaFold, Folded};

/// The weight of a claim after the checkpoint, in addition to its deltas: opening the stream reads a directory for it.
const CLAIM_WEIGHT: usize = 1 << 10;
/// The weight of a delta in addition to its bytes: its place in a directory and in memory.
const DELTA_WEIGHT: usize = 48;

/// Deltas, each with the offsets of its batch.
pub(crate) type Deltas = Vec<(StreamRange, Bytes)>;

/// The last checkpoint and the deltas after it, up to the last uploaded batch. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Folding {
    /// The last checkpoint; empty if there is no state.
    checkpoint: Bytes,
    deltas: Arc<Deltas>,
    /// The weight of the deltas, kept as a sum because every upload asks each stream whether its checkpoint is due.
    deltas_weight: usize,
    /// The number of claims after the checkpoint.
    claims: usize,
    /// The end of the oldest claim whose object is kept for its state alone once its records are trimmed.
    oldest: Option<StreamOffset>,
    /// State that was last touched before this time is left out of the next checkpoint.
    forget_before: Timestamp,
    /// About how many bytes remain without that state, if `forget` was called since the checkpoint was written.
    left_bytes: Option<usize>,
}

impl Default for Folding {
    fn default() -> Self {
        Self {
            checkpoint: Bytes::new(),
            deltas: Arc::default(),
            deltas_weight: 0,
            claims: 0,
            oldest: None,
            forget_before: Timestamp::MIN,
            left_bytes: None,
        }
    }
}

impl Folding {
    /// Records a checkpoint that was written at an offset, in an object with records of the stream or without any.
    pub(crate) fn checkpointed(&mut self, checkpoint: Bytes, at: StreamOffset, has_records: bool) {
        *self = Self {
            oldest: (has_records && !checkpoint.is_empty()).then_some(at),
            checkpoint,
            forget_before: self.forget_before,
            ..Self::default()
        };
    }

    /// Records a claim without a checkpoint.
    pub(crate) fn claimed(
        &mut self,
        deltas: impl IntoIterator<Item = (StreamRange, Bytes)>,
        end: StreamOffset,
    ) {
        self.claims += 1;
        self.oldest.get_or_insert(end);
        let known = self.deltas.len();
        Arc::make_mut(&mut self.deltas).extend(deltas);
        self.deltas_weight += weight(&self.deltas[known..]);
    }

    /// Lets the next checkpoint leave out state that was last touched before a time; it then has about so many bytes.
    pub(crate) fn forget(&mut self, before: Timestamp, left_bytes: usize) {
        self.forget_before = self.forget_before.max(before);
        self.left_bytes = Some(left_bytes);
    }

    /// Whether a checkpoint is due: one in the object of the next claim, which has these deltas, or with no claim one
    /// that stands alone. A checkpoint is due when the claims and deltas since the last one outweigh it, when half of
    /// it has expired, or when objects are kept for it alone.
    pub(crate) fn is_due(&self, start: StreamOffset, claim: Option<&Deltas>) -> bool {
        let claims = self.claims + usize::from(claim.is_some());
        let deltas = self.deltas_weight + claim.map_or(0, |deltas| weight(deltas));
        let bytes = self.checkpoint.len();
        let outweighs = claims > 0 && claims * CLAIM_WEIGHT + deltas >= bytes;
        let has_shrunk = self.left_bytes.is_some_and(|left| bytes / 2 > left);
        outweighs || has_shrunk || self.oldest.is_some_and(|end| end <= start)
    }

    /// Folds the deltas since the checkpoint and those of the next claim onto the checkpoint. The time that this takes
    /// grows with the deltas, so it is never called under a lock.
    pub(crate) fn fold(&self, fold: &dyn DeltaFold, now: Deltas) -> Option<Folded> {
        let mut deltas = Deltas::clone(&self.deltas);
        deltas.extend(now);
        fold.fold(&self.checkpoint, &deltas, self.forget_before)
    }
}

fn weight(deltas: &[(StreamRange, Bytes)]) -> usize {
    let weights = deltas.iter().map(|(_, delta)| delta.len() + DELTA_WEIGHT);
    weights.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deltas(count: usize) -> Deltas {
        let delta = Bytes::from_static(&[1; 28]);
        vec![(0..1, delta); count]
    }

    // F2
    #[test]
    fn a_checkpoint_is_due_when_what_came_since_outweighs_it() {
        let mut folding = Folding::default();
        assert!(!folding.is_due(0, None), "nothing was ever written");
        assert!(folding.is_due(0, Some(&deltas(0))), "empty or not");
        folding.checkpointed(Bytes::new(), 10, true);
        assert!(!folding.is_due(10, None), "an empty one keeps nothing");
        folding.checkpointed(Bytes::from(vec![1; 3000]), 10, true);
        assert!(!folding.is_due(0, Some(&deltas(0))));
        assert!(folding.is_due(0, Some(&deltas(30))), "by deltas");
        folding.claimed(deltas(1), 20);
        folding.claimed(deltas(1), 30);
        assert!(folding.is_due(0, Some(&deltas(0))), "by claims");
        assert!(!folding.is_due(0, None));
        folding.claimed(deltas(0), 40);
        assert!(folding.is_due(0, None), "though nothing more comes");
    }

    // F5
    #[test]
    fn a_checkpoint_is_due_when_objects_are_kept_for_it_alone_or_half_of_it_has_expired() {
        let large = || Bytes::from(vec![1; 1 << 20]);
        let mut folding = Folding::default();
        folding.checkpointed(large(), 10, true);
        folding.claimed(deltas(1), 20);
        assert!(!folding.is_due(9, None));
        assert!(folding.is_due(10, None), "its own object");
        folding.checkpointed(large(), 20, false);
        assert!(!folding.is_due(20, None), "it stands alone");
        folding.claimed(deltas(1), 30);
        assert!(folding.is_due(30, None), "that of its deltas");
        folding.checkpointed(large(), 30, false);
        folding.forget(5, 600 << 10);
        assert!(!folding.is_due(30, None));
        folding.forget(6, 400 << 10);
        assert!(folding.is_due(30, None));
        folding.checkpointed(large(), 30, false);
        assert!(!folding.is_due(30, None), "once");
    }
}
