//! Deletes what the metadata condemned (rule G1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_object_storage::{StorageError, layout};
use highwater_runtime::reasons;
use highwater_types::ObjectId;
use tokio::time::Instant;

use crate::store::Shared;

/// Objects that one request deletes, and one command records.
const TOGETHER_MAX: usize = 256;
/// Deletions that may fail one after the other before the rest waits for the next round: the store is away.
const FAILURES_MAX: usize = 4;

/// Deletes condemned objects after their grace, again and again until it is recorded (G1).
pub(crate) async fn reap(shared: Arc<Shared>) {
    let mut condemned = Condemned::default();
    loop {
        tokio::time::sleep(shared.config.grace / 2).await;
        match shared.metadata.condemned().await {
            Ok(now) => condemned.are(now.into_iter().collect(), Instant::now()),
            Err(error) => {
                tracing::warn!(%error, "cannot see condemned objects");
                continue;
            }
        }
        let failed = delete(&shared, condemned.due(shared.config.grace, Instant::now())).await;
        condemned.keep(&failed, Instant::now());
    }
}

/// Condemned objects, each with when it was first seen, or failed to be deleted. Pure.
#[derive(Debug, Default)]
struct Condemned(BTreeMap<ObjectId, Instant>);

impl Condemned {
    /// Those that are condemned now; what is not any more is recorded as gone.
    fn are(&mut self, condemned: BTreeSet<ObjectId>, now: Instant) {
        self.0.retain(|id, _| condemned.contains(id));
        for id in condemned {
            self.0.entry(id).or_insert(now);
        }
    }

    /// Those whose grace is over, the longest ones first.
    fn due(&self, grace: Duration, now: Instant) -> Vec<ObjectId> {
        let is_over = |since: &Instant| now.duration_since(*since) >= grace;
        let due = self.0.iter().filter(|(_, since)| is_over(since));
        let mut due: Vec<(Instant, ObjectId)> = due.map(|(id, since)| (*since, *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// What can't be deleted waits for another grace, so that it holds up no other.
    fn keep(&mut self, failed: &[ObjectId], now: Instant) {
        for id in failed {
            self.0.insert(*id, now);
        }
    }
}

/// Deletes objects and records it; answers which can't be deleted. Many together, each request with a deadline of its own;
/// where some can't be deleted together, each alone.
async fn delete(shared: &Shared, due: Vec<ObjectId>) -> Vec<ObjectId> {
    let mut failed = Vec::new();
    for together in due.chunks(TOGETHER_MAX) {
        let mut gone = together.to_vec();
        if delete_from_store(shared, together).await.is_err() {
            gone.clear();
            let mut in_a_row = 0;
            for id in together {
                match delete_from_store(shared, std::slice::from_ref(id)).await {
                    Ok(()) => {
                        gone.push(*id);
                        in_a_row = 0;
                    }
                    Err(error) => {
                        let error = reasons(&error);
                        tracing::warn!(object_id = %id, error, "cannot delete an object, it is tried again");
                        failed.push(*id);
                        in_a_row += 1;
                    }
                }
                if in_a_row == FAILURES_MAX {
                    break;
                }
            }
            if in_a_row == FAILURES_MAX {
                record(shared, &gone).await;
                break;
            }
        }
        record(shared, &gone).await;
    }
    failed
}

async fn delete_from_store(shared: &Shared, objects: &[ObjectId]) -> Result<(), StorageError> {
    let keys: Vec<_> = objects.iter().map(|id| layout::object(*id)).collect();
    shared.parts.storage.delete(&keys).await
}

async fn record(shared: &Shared, gone: &[ObjectId]) {
    if gone.is_empty() {
        return;
    }
    // what is not recorded is deleted again
    if let Err(error) = shared.metadata.deleted(gone).await {
        let error = reasons(&error);
        tracing::warn!(error, "cannot record what is deleted, it is tried again");
    }
}
