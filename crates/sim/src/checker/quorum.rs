//! The quorum of the controllers: a term has one leader, and what was committed stays in every later leader's log.

use std::collections::BTreeMap;

use super::{Anomaly, ByEpoch, Violation};

/// The known history of the quorum.
#[derive(Debug, Default)]
pub(crate) struct QuorumHistory {
    leaders: BTreeMap<i32, i32>,
    /// The end of what was committed.
    committed: ByEpoch,
    /// The changes of the voters that were answered as made.
    pub(crate) changes: u64,
}

/// What the active controller says of the quorum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldQuorum {
    pub(crate) term: i32,
    pub(crate) leader: i32,
    /// The end of the leader's log.
    pub(crate) log_end: i64,
    /// The end of what the leader knows to be committed. It may know less than its predecessor did, for a while.
    pub(crate) committed: i64,
}

impl QuorumHistory {
    /// The end of what is known to be committed.
    pub(crate) fn known(&self) -> ByEpoch {
        self.committed.clone()
    }

    /// Checks an answer to a request that was sent when `known` was known. A leader that was deposed and doesn't know
    /// it yet need not have what its successors have committed.
    pub(crate) fn told(&mut self, known: &ByEpoch, told: ToldQuorum) -> Result<(), Violation> {
        let ToldQuorum { term, leader, .. } = told;
        let first = *self.leaders.entry(term).or_insert(leader);
        if first != leader {
            return Anomaly::WrongAnswer.found(format!(
                "controllers {first} and {leader} both lead in term {term}: one has voted twice (D2)"
            ));
        }
        let committed = known.until(term);
        if told.log_end < committed {
            return Anomaly::LostWrite.found(format!(
                "the metadata of controller {leader} in term {term} ends at {}, and all below {committed} is committed",
                told.log_end
            ));
        }
        self.committed.note(term, told.committed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(term: i32, leader: i32, log_end: i64, committed: i64) -> ToldQuorum {
        ToldQuorum {
            term,
            leader,
            log_end,
            committed,
        }
    }

    /// What a further answer is found to be, after the leader of term 2 has committed everything below 10.
    fn found(next: ToldQuorum) -> Option<Anomaly> {
        let mut history = QuorumHistory::default();
        let first = history.told(&history.known(), told(2, 100, 12, 10));
        first.expect("is sound");
        let found = history.told(&history.known(), next);
        found.err().map(|violation| violation.anomaly)
    }

    #[test]
    fn a_later_leader_has_all_that_was_committed_and_may_not_know_it_yet() {
        assert_eq!(found(told(3, 101, 11, 8)), None);
        assert_eq!(found(told(1, 102, 5, 5)), None, "it was deposed");
    }

    #[test]
    fn committed_metadata_that_goes_away_is_found() {
        assert_eq!(found(told(3, 101, 9, 9)), Some(Anomaly::LostWrite));
        assert_eq!(found(told(2, 100, 9, 9)), Some(Anomaly::LostWrite));
    }

    #[test]
    fn two_leaders_of_one_term_are_found() {
        assert_eq!(found(told(2, 101, 12, 10)), Some(Anomaly::WrongAnswer));
    }
}
