//! Deletes the objects that the metadata condemned, once their grace is over (rule G1).
//!
//! It owns the clock of each condemned object, which begins when this node, as the active controller, first sees the
//! object condemned. The clocks are kept in memory: they begin again after a restart and after a change of leader. The
//! reaper does not decide which objects are condemned: commands do, when they are applied.
//!
//! A condemned index object stands for the WAL objects that it covers, which are deleted before it (G3). So after a
//! crash at any point the index is condemned still, and the next active controller deletes all of them again.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::ObjectsDeleted;
use highwater_kraft_meta::{Action, MetadataImage, MetadataStore, WalObjects};
use highwater_object_storage::{ObjectStorage, StorageError, layout};
use highwater_runtime::reasons;
use highwater_types::{ObjectId, Term};

use super::rounds::Rounds;

/// The number of objects that one request deletes and one command records.
const TOGETHER_MAX: usize = 256;
/// The number of deletions that may fail in a row before the others wait for the next round, because the store is away.
const FAILURES_MAX: usize = 4;

/// The task that deletes condemned objects while this node is the active controller.
#[derive(Debug)]
pub(crate) struct Reaper {
    metadata: Arc<dyn MetadataStore>,
    storage: Arc<dyn ObjectStorage>,
    grace: Duration,
}

/// The result of deleting objects.
#[derive(Debug, Default)]
struct Deleted {
    gone: Vec<ObjectId>,
    failed: Vec<ObjectId>,
    /// Whether so many deletions failed in a row that the others were not tried.
    gave_up: bool,
}

impl Reaper {
    /// Makes a reaper that deletes an object one grace after it was condemned.
    pub(crate) fn new(
        metadata: Arc<dyn MetadataStore>,
        storage: Arc<dyn ObjectStorage>,
        grace: Duration,
    ) -> Self {
        Self {
            metadata,
            storage,
            grace,
        }
    }

    /// The time within which a condemned object has been deleted, if the store deletes it at once: the grace and two
    /// rounds, one until the reaper sees the object condemned and one until it sees that the grace is over.
    pub(crate) fn deletes_within(grace: Duration) -> Duration {
        grace.saturating_mul(2)
    }

    /// Deletes condemned objects, again and again until the deletion is recorded (G1). It never returns. Cancellation
    /// safe: an object whose deletion was not recorded is deleted again.
    pub(crate) async fn run(self) {
        let mut rounds = Rounds::new(Arc::clone(&self.metadata), self.grace);
        loop {
            let (term, due) = rounds.next(condemned).await;
            let failed = self.delete(term, &due).await;
            rounds.restart(&failed);
        }
    }

    /// Deletes objects and records that; returns those that can't be deleted. Many go with one request; if that fails,
    /// each goes with its own. It stops when this node no longer leads in the term.
    async fn delete(&self, term: Term, due: &[ObjectId]) -> Vec<ObjectId> {
        let mut failed = Vec::new();
        for objects in due.chunks(TOGETHER_MAX) {
            if self.metadata.leads() != Some(term) {
                break;
            }
            let deleted = self.delete_together(term, objects).await;
            self.record(&deleted.gone).await;
            failed.extend(deleted.failed);
            if deleted.gave_up {
                break;
            }
        }
        failed
    }

    /// Deletes objects, and the WAL objects that an index covers before it (G3).
    async fn delete_together(&self, term: Term, objects: &[ObjectId]) -> Deleted {
        let covered = self.delete_covered(term, objects).await;
        if covered.gave_up {
            return covered;
        }
        let is_free = |id: &ObjectId| !covered.failed.contains(id);
        let free: Vec<ObjectId> = objects.iter().copied().filter(is_free).collect();
        let mut deleted = match self.delete_from_store(&free).await {
            Ok(()) => Deleted {
                gone: free,
                ..Deleted::default()
            },
            Err(_) => self.delete_each(&free).await,
        };
        deleted.failed.extend(covered.failed);
        deleted
    }

    /// Deletes the WAL objects that the indexes among some objects cover. An index whose objects are not all gone has
    /// failed, and stays.
    async fn delete_covered(&self, term: Term, objects: &[ObjectId]) -> Deleted {
        let image = self.metadata.image();
        let mut deleted = Deleted::default();
        for index in objects {
            let Some(covers) = image.covered_by(*index) else {
                continue;
            };
            match self.delete_range(term, covers).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let error = reasons(&error);
                    tracing::warn!(object_id = %index, error, "cannot delete the objects of an index; trying again later");
                }
            }
            deleted.failed.push(*index);
            if deleted.failed.len() == FAILURES_MAX {
                deleted.gave_up = true;
                break;
            }
        }
        deleted
    }

    /// Deletes consecutive WAL objects; returns whether all of them are gone, which fails when this node no longer
    /// leads in the term.
    async fn delete_range(&self, term: Term, covers: WalObjects) -> Result<bool, StorageError> {
        let mut names = covers.names();
        loop {
            let some: Vec<ObjectId> = names.by_ref().take(TOGETHER_MAX).collect();
            if some.is_empty() {
                return Ok(true);
            }
            if self.metadata.leads() != Some(term) {
                return Ok(false);
            }
            self.delete_from_store(&some).await?;
        }
    }

    async fn delete_each(&self, objects: &[ObjectId]) -> Deleted {
        let mut deleted = Deleted::default();
        let mut failures = 0;
        for id in objects {
            match self.delete_from_store(std::slice::from_ref(id)).await {
                Ok(()) => {
                    deleted.gone.push(*id);
                    failures = 0;
                }
                Err(error) => {
                    let error = reasons(&error);
                    tracing::warn!(object_id = %id, error, "cannot delete an object; trying again later");
                    deleted.failed.push(*id);
                    failures += 1;
                }
            }
            if failures == FAILURES_MAX {
                deleted.gave_up = true;
                break;
            }
        }
        deleted
    }

    async fn delete_from_store(&self, objects: &[ObjectId]) -> Result<(), StorageError> {
        let keys: Vec<_> = objects.iter().map(|id| layout::object(*id)).collect();
        self.storage.delete(&keys).await
    }

    async fn record(&self, gone: &[ObjectId]) {
        if gone.is_empty() {
            return;
        }
        let objects = gone.iter().map(|id| (*id).into()).collect();
        let command = Action::ObjectsDeleted(ObjectsDeleted { objects });
        if let Err(error) = self.metadata.propose(command.into()).await {
            let error = reasons(&error);
            tracing::warn!(
                error,
                "cannot record deleted objects; deleting them again later"
            );
        }
    }
}

/// The objects that are condemned.
fn condemned(image: &MetadataImage) -> BTreeSet<ObjectId> {
    image.condemned().map(|(id, _)| id).collect()
}
