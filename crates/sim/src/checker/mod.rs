//! The clients' knowledge, and the invariants that follow from it. The checker uses nothing that no client saw.

mod anomaly;
mod assignment;
mod by_epoch;
mod epoch_ends;
mod partition;
mod quorum;
mod retention;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_types::Uuid;

pub(crate) use anomaly::{Anomaly, Violation};
pub(crate) use assignment::Assignment;
pub(crate) use by_epoch::ByEpoch;
pub(crate) use partition::{Known, PartitionHistory};
pub(crate) use quorum::{Leader, QuorumHistory, ToldQuorum};
pub(crate) use retention::{Keeps, Sent};

/// One partition, as its clients name it. A topic that was deleted and created again has other partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: &'static str,
    /// The number of earlier topics of that name.
    pub(crate) former: u32,
    pub(crate) index: i32,
}

impl TopicPartition {
    pub(crate) fn of_topic(&self) -> (&'static str, u32) {
        (self.topic, self.former)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)?;
        match self.former {
            0 => Ok(()),
            former => write!(f, " (after {former} of that name)"),
        }
    }
}

/// A record's identity: its producer, and its number among that producer's records for the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) producer: u32,
    pub(crate) sequence: i32,
}

/// The checker that all clients of a run share. It is cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checker(Arc<Mutex<History>>);

/// Everything that the clients know.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionHistory>,
    pub(crate) topics: Existence,
    /// The committed offsets by group and partition.
    pub(crate) committed: BTreeMap<(String, TopicPartition), Committed>,
    pub(crate) producer_ids: BTreeSet<i64>,
    /// The ids of topics that were created again, by their name and the number of earlier topics of that name.
    pub(crate) topic_ids: BTreeMap<(&'static str, u32), Uuid>,
    pub(crate) quorum: QuorumHistory,
    violation: Option<Violation>,
}

/// An offset that one client commits, and increases with each commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committed {
    /// The last offset that the client asked to commit.
    pub(crate) asked: i64,
    /// The last offset whose commit was answered, or that a client read, by the leader epoch of the coordinator.
    pub(crate) answered: ByEpoch,
}

impl Committed {
    /// Checks a committed offset that a client read from the coordinator of an epoch; the request was sent when `known`
    /// was the last answered offset, and -1 stands for no offset.
    pub(crate) fn told(&mut self, epoch: i32, known: i64, offset: i64) -> Result<(), Violation> {
        let found = offset.max(0);
        if found < known {
            return Anomaly::OffsetWentBack.found(format!(
                "offset {offset} is committed, and {known} was answered"
            ));
        }
        if found > self.asked {
            return Anomaly::DirtyRead.found(format!(
                "offset {offset} is committed, and {} was asked for last",
                self.asked
            ));
        }
        // An offset that was read once stays committed too.
        self.answered.note(epoch, found);
        Ok(())
    }
}

/// The topics whose creation or deletion was answered. Other topics may or may not exist.
#[derive(Debug, Default)]
pub(crate) struct Existence {
    pub(crate) made: BTreeSet<String>,
    pub(crate) removed: BTreeSet<String>,
}

impl Checker {
    pub(crate) fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the result of a check; the first violation counts.
    pub(crate) fn check(&self, found: Result<(), impl Into<Violation>>) {
        if let Err(violation) = found {
            self.lock().violation.get_or_insert(violation.into());
        }
    }

    /// Calls a function with a partition's history.
    pub(crate) fn partition<T>(
        &self,
        at: TopicPartition,
        look: impl FnOnce(&mut PartitionHistory) -> T,
    ) -> T {
        look(self.lock().partitions.entry(at).or_default())
    }

    /// Does the same as [`Checker::partition`], and notes a violation.
    pub(crate) fn check_partition(
        &self,
        at: TopicPartition,
        look: impl FnOnce(&mut PartitionHistory) -> Result<(), Violation>,
    ) {
        let found = self.partition(at, look);
        self.check(found.map_err(|violation| violation.of(at)));
    }

    pub(crate) fn violation(&self) -> Option<String> {
        let history = self.lock();
        history.violation.as_ref().map(ToString::to_string)
    }

    /// Returns the number of records that are known to be in the log.
    pub(crate) fn records(&self) -> usize {
        let history = self.lock();
        history.partitions.values().map(PartitionHistory::len).sum()
    }
}

impl Existence {
    /// Checks the list of all topics that a client received.
    pub(crate) fn check(&self, told: &BTreeSet<String>) -> Result<(), String> {
        if let Some(name) = self.made.iter().find(|name| !told.contains(*name)) {
            return Err(format!("topic {name} was created, and is not there"));
        }
        if let Some(name) = self.removed.iter().find(|name| told.contains(*name)) {
            return Err(format!("topic {name} was deleted, and is there"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_is_older_than_its_answer_or_was_never_asked_for_is_found() {
        let mut committed = Committed::default();
        committed.told(0, 0, -1).expect("there is none yet");
        committed.asked = 3;
        committed.told(0, 0, 2).expect("may be there already");
        let known = committed.answered.until(0);
        let mut told = |offset| {
            let found = committed.told(0, known, offset);
            found.err().map(|violation| violation.anomaly)
        };
        assert_eq!(told(1), Some(Anomaly::OffsetWentBack));
        assert_eq!(told(-1), Some(Anomaly::OffsetWentBack), "is gone");
        assert_eq!(told(4), Some(Anomaly::DirtyRead), "was never asked for");
        assert_eq!(told(3), None);
    }
}
