//! The quorum of the controllers: a term has one leader, and what was committed stays in every later leader's log.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use highwater_types::Uuid;

use super::{Anomaly, ByEpoch, Violation};

/// The known history of the quorum.
#[derive(Debug, Default)]
pub(crate) struct QuorumHistory {
    leaders: BTreeMap<i32, Leader>,
    /// The end of what was committed.
    committed: ByEpoch,
    /// The changes of the voters that were answered as made.
    pub(crate) changes: u64,
}

/// A controller with its data directory: a controller that has lost its directory is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) node: i32,
    /// Zero if it is not known.
    pub(crate) directory: Uuid,
}

impl Leader {
    fn may_be(self, other: Self) -> bool {
        let is_known = ![self.directory, other.directory].contains(&Uuid::ZERO);
        self.node == other.node && (!is_known || self.directory == other.directory)
    }
}

impl Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with directory.id={}", self.node, self.directory)
    }
}

/// What the active controller says of the quorum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldQuorum {
    pub(crate) term: i32,
    pub(crate) leader: Leader,
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
        if first.directory == Uuid::ZERO {
            self.leaders.insert(term, leader);
        }
        if !first.may_be(leader) {
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

    fn told(term: i32, node: i32, log_end: i64, committed: i64) -> ToldQuorum {
        let directory = Uuid([7; 16]);
        ToldQuorum {
            term,
            leader: Leader { node, directory },
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
        let with = |directory| {
            let mut told = told(2, 100, 12, 10);
            told.leader.directory = directory;
            found(told)
        };
        assert_eq!(
            with(Uuid([8; 16])),
            Some(Anomaly::WrongAnswer),
            "it lost its disk"
        );
        assert_eq!(with(Uuid::ZERO), None);
    }
}
