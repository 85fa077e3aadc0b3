//! What the clients know, and what therefore must hold. Nothing is believed that no client saw.

mod partition;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use partition::{Known, PartitionHistory};

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
    pub(crate) partitions: BTreeMap<i32, PartitionHistory>,
    pub(crate) topics: Existence,
    /// Of the committed offset: the last asked for, the last answered.
    pub(crate) commit_asked: i64,
    pub(crate) commit_answered: i64,
    pub(crate) producer_ids: BTreeSet<i64>,
    violation: Option<String>,
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
        index: i32,
        look: impl FnOnce(&mut PartitionHistory) -> T,
    ) -> T {
        look(self.lock().partitions.entry(index).or_default())
    }

    /// As [`Checker::partition`], noting what is wrong.
    pub(crate) fn check_partition(
        &self,
        index: i32,
        look: impl FnOnce(&mut PartitionHistory) -> Result<(), String>,
    ) {
        let found = self.partition(index, look);
        self.check(found.map_err(|what| format!("partition {index}: {what}")));
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
