//! Sweeps the object WALs of closed epochs (rule W12).
//!
//! One grace after an epoch was closed, everything in its prefix is deleted but the seal (W10) and the objects that an
//! index covers, which the reaper deletes with the index. The grace is for puts that arrive late. Then the metadata
//! forgets the epoch. After a crash at any point the epoch is closed still, and the next active controller sweeps it
//! again, once its own grace is over.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use highwater_kraft_meta::command::EpochSwept;
use highwater_kraft_meta::{Action, MetadataImage, MetadataStore};
use highwater_object_storage::{ObjectKey, ObjectStorage, StorageError, layout};
use highwater_runtime::reasons;
use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind};

use super::rounds::Rounds;

/// The number of objects that one request deletes.
const TOGETHER_MAX: usize = 256;

/// An epoch, with its node.
type Epoch = (NodeId, NodeEpoch);

/// The task that sweeps closed epochs while this node is the active controller.
#[derive(Debug)]
pub(super) struct Sweeper {
    metadata: Arc<dyn MetadataStore>,
    storage: Arc<dyn ObjectStorage>,
    grace: Duration,
}

impl Sweeper {
    /// Makes a sweeper that sweeps an epoch one grace after it was closed.
    pub(super) fn new(
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

    /// Sweeps closed epochs. It never returns. Cancellation safe: an epoch whose sweep was not recorded is swept again.
    pub(super) async fn run(self) {
        let mut rounds = Rounds::new(Arc::clone(&self.metadata), self.grace);
        loop {
            let (term, due) = rounds.next(closed).await;
            for epoch in due {
                if self.metadata.leads() != Some(term) {
                    break;
                }
                if let Err(error) = self.sweep(epoch).await {
                    let (node_id, node_epoch) = epoch;
                    let error = reasons(&error);
                    tracing::warn!(%node_id, %node_epoch, error, "cannot sweep a closed log; trying again later");
                    rounds.restart(&[epoch]);
                }
            }
        }
    }

    async fn sweep(&self, (node, epoch): Epoch) -> Result<(), StorageError> {
        let Some(kept) = kept(&self.metadata.image(), (node, epoch)) else {
            return Ok(());
        };
        let prefix = layout::wal(node, epoch);
        let listed = self.storage.list(&prefix, None);
        let listed = listed.map_ok(|entry| entry.key);
        let swept = listed.try_filter(|key| std::future::ready(!kept.contains(key)));
        let mut swept = swept.chunks(TOGETHER_MAX);
        while let Some(keys) = swept.next().await {
            let keys: Vec<ObjectKey> = keys.into_iter().collect::<Result<_, _>>()?;
            self.storage.delete(&keys).await?;
        }
        let swept = Action::EpochSwept(EpochSwept {
            node: node.0,
            epoch: epoch.0,
        });
        if let Err(error) = self.metadata.propose(swept.into()).await {
            let error = reasons(&error);
            tracing::warn!(%node, error, "cannot record a swept log; sweeping it again later");
        }
        Ok(())
    }
}

/// The epochs whose object WAL is sealed and not swept.
fn closed(image: &MetadataImage) -> BTreeSet<Epoch> {
    let nodes = image.nodes_to_sweep();
    let closed = nodes.flat_map(|(id, node)| node.closed().map(move |(epoch, _)| (id, epoch)));
    closed.collect()
}

/// The keys of the objects of a closed epoch that a sweep leaves: its seal, and the objects that an index covers. `None` if
/// the image does not know the seal, because another controller has swept the epoch since (W10).
fn kept(image: &MetadataImage, (node, epoch): Epoch) -> Option<BTreeSet<ObjectKey>> {
    // also of a node that was unregistered: a process of it that was paused must find the seal (W10)
    let mut closed = image.remembered(node)?.closed();
    let (_, seal) = closed.find(|(of, _)| *of == epoch)?;
    let seal = ObjectId {
        node,
        epoch,
        kind: ObjectKind::Wal,
        number: seal.at,
    };
    let covered = image.covered();
    let covered = covered.filter(|(_, covers)| (covers.node, covers.epoch) == (node, epoch));
    let covered = covered.flat_map(|(_, covers)| covers.names());
    Some(
        std::iter::once(seal)
            .chain(covered)
            .map(layout::object)
            .collect(),
    )
}
