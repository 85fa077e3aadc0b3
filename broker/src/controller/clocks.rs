//! The time since which each thing that waits for a grace is known to wait: a condemned object (G1), or a closed epoch
//! (W12). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// The clocks of the things that wait for a grace.
#[derive(Debug)]
pub(super) struct Clocks<K>(BTreeMap<K, Instant>);

impl<K> Default for Clocks<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Clocks<K> {
    /// Takes the things that wait now: the clocks of new ones begin, and those that wait no longer are forgotten.
    pub(super) fn observe(&mut self, waiting: &BTreeSet<K>, now: Instant) {
        self.0.retain(|id, _| waiting.contains(id));
        for id in waiting {
            self.0.entry(*id).or_insert(now);
        }
    }

    /// The things whose grace is over, in the order of their waits, longest first.
    pub(super) fn due(&self, grace: Duration, now: Instant) -> Vec<K> {
        let is_over = |since: &Instant| now.duration_since(*since) >= grace;
        let due = self.0.iter().filter(|(_, since)| is_over(since));
        let mut due: Vec<(Instant, K)> = due.map(|(id, since)| (*since, *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Lets things that failed wait for another grace, so that they delay no other.
    pub(super) fn restart(&mut self, failed: &[K], now: Instant) {
        for id in failed {
            self.0.insert(*id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind};

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn object(number: u64) -> ObjectId {
        ObjectId {
            node: NodeId(1),
            epoch: NodeEpoch(1),
            kind: ObjectKind::Upload,
            number,
        }
    }

    fn objects(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<ObjectId> {
        numbers.into_iter().map(object).collect()
    }

    // G1
    #[test]
    fn an_object_is_due_a_grace_after_it_was_first_seen_condemned() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut clocks = Clocks::default();
        clocks.observe(&objects([2]), at(0));
        clocks.observe(&objects([1, 2]), at(30));
        assert!(clocks.due(GRACE, at(59)).is_empty());
        assert_eq!(clocks.due(GRACE, at(60)), [object(2)]);
        // The object that has waited longest goes first, whatever its number is.
        assert_eq!(clocks.due(GRACE, at(90)), [object(2), object(1)]);
        clocks.observe(&objects([1]), at(90));
        assert_eq!(clocks.due(GRACE, at(90)), [object(1)], "2 is recorded");
    }

    #[test]
    fn an_object_that_cannot_be_deleted_waits_for_another_grace() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut clocks = Clocks::default();
        clocks.observe(&objects(1..3), at(0));
        clocks.restart(&[object(1)], at(60));
        clocks.observe(&objects(1..3), at(61));
        assert_eq!(clocks.due(GRACE, at(119)), [object(2)]);
        assert_eq!(clocks.due(GRACE, at(120)), [object(2), object(1)]);
    }
}
