//! What the clients know, and what therefore must hold. Nothing is believed that no client saw.

mod partition;
mod retention;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_types::Uuid;

pub(crate) use partition::{Known, PartitionHistory};
pub(crate) use retention::{Keeps, Sent};

/// One partition, as its clients name it; one of a topic that was deleted and created again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: &'static str,
    /// How many topics of that name were there before.
    pub(crate) former: u32,
    pub(crate) index: i32,
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

/// One record as its producer made it: who, and the how-manieth for its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) producer: u32,
    pub(crate) sequence: i32,
}

/// Shared by all clients of a run; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checker(Arc<Mutex<History>>);

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionHistory>,
    pub(crate) topics: Existence,
    /// Of each group and partition.
    pub(crate) committed: BTreeMap<(String, TopicPartition), Committed>,
    pub(crate) producer_ids: BTreeSet<i64>,
    pub(crate) topic_ids: BTreeSet<Uuid>,
    violation: Option<String>,
}

/// An offset that one client commits, always a larger one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The last that was asked for.
    pub(crate) asked: i64,
    /// The last that was answered, or seen.
    pub(crate) answered: i64,
}

impl Committed {
    /// What is told of it, when `known` was known as it was asked; -1 for nothing.
    pub(crate) fn told(&mut self, known: Self, offset: i64) -> Result<(), String> {
        let found = offset.max(0);
        if found < known.answered || found > self.asked {
            let (answered, asked) = (known.answered, self.asked);
            return Err(format!(
                "offset {offset} is committed, and {answered} was answered and {asked} asked for"
            ));
        }
        // what is seen once is there for ever too
        self.answered = self.answered.max(found);
        Ok(())
    }
}

/// Names that were answered as made or as removed; others may be either.
#[derive(Debug, Default)]
pub(crate) struct Existence {
    pub(crate) made: BTreeSet<String>,
    pub(crate) removed: BTreeSet<String>,
}

impl Checker {
    pub(crate) fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a check found; the first counts.
    pub(crate) fn check(&self, found: Result<(), String>) {
        if let Err(violation) = found {
            self.lock().violation.get_or_insert(violation);
        }
    }

    /// Looks at a partition's history.
    pub(crate) fn partition<T>(
        &self,
        at: TopicPartition,
        look: impl FnOnce(&mut PartitionHistory) -> T,
    ) -> T {
        look(self.lock().partitions.entry(at).or_default())
    }

    /// As [`Checker::partition`], noting what is wrong.
    pub(crate) fn check_partition(
        &self,
        at: TopicPartition,
        look: impl FnOnce(&mut PartitionHistory) -> Result<(), String>,
    ) {
        let found = self.partition(at, look);
        self.check(found.map_err(|what| format!("{at}: {what}")));
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// Records that are known to be in the log.
    pub(crate) fn records(&self) -> usize {
        let history = self.lock();
        history.partitions.values().map(PartitionHistory::len).sum()
    }
}

impl Existence {
    /// What a client that is told of all topics must see.
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
        committed.told(committed, -1).expect("there is none yet");
        committed.asked = 3;
        committed.told(committed, 2).expect("may be there already");
        assert!(committed.told(committed, 1).is_err(), "went back");
        assert!(committed.told(committed, -1).is_err(), "is gone");
        assert!(committed.told(committed, 4).is_err(), "was never asked for");
    }
}
