//! The registry of partitions that are open on this node, and of those that are to be opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use highwater_kraft_meta::{MetadataImage, MetadataStore, TopicImage};
use highwater_partition_log::PartitionLog;
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId, TopicId};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::closing::{Closed, ClosedMark, closing};

/// How long a request waits for the next leader of a partition that is being handed over. Later requests of its
/// connection wait too (A3).
const HAND_OVER_WAIT: Duration = Duration::from_secs(1);

/// One open partition.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Its topic, as it was when the partition was opened.
    pub topic: Arc<TopicImage>,
    /// Its index.
    pub index: i32,
    /// The leader epoch under which it was opened.
    pub leader_epoch: LeaderEpoch,
    /// Its log.
    pub log: Arc<PartitionLog>,
    closed: ClosedMark,
}

impl Partition {
    /// Makes a partition from its open log.
    #[must_use]
    pub(crate) fn new(
        topic: Arc<TopicImage>,
        index: i32,
        leader_epoch: LeaderEpoch,
        log: Arc<PartitionLog>,
    ) -> Self {
        Self {
            topic,
            index,
            leader_epoch,
            log,
            closed: ClosedMark::default(),
        }
    }

    /// Its stream.
    #[must_use]
    pub(crate) fn stream(&self) -> Option<StreamId> {
        let index = usize::try_from(self.index).ok()?;
        Some(self.topic.partitions.get(index)?.stream)
    }

    /// Whether the partition is closed, and why. The watchers of its log are woken after that. A handler that
    /// acknowledges a batch asks this when the batch is durable, because the batches of a deleted topic are never
    /// uploaded, and because another broker may lead the partition by then.
    #[must_use]
    pub(crate) fn closed(&self) -> &ClosedMark {
        &self.closed
    }

    /// Why a batch that became durable here is not acknowledged; `None` if it is. A partition that was closed by handing
    /// it over acknowledges: its next leader has every batch that was ever appended here (C2).
    #[must_use]
    pub(crate) fn refuses(&self) -> Option<Closed> {
        let closed = self.closed.get()?;
        let is_handed_over = closed != Closed::Deleted && self.log.is_handing_over();
        (!is_handed_over).then_some(closed)
    }
}

/// The key of a partition: its topic's id and its index.
pub(super) type Key = (TopicId, i32);

/// The partitions that are to be open and are not.
#[derive(Debug, Default)]
struct Unopened {
    /// Opening was not tried yet.
    opening: BTreeSet<Key>,
    /// Opening was tried and failed.
    failed: BTreeSet<Key>,
}

impl Unopened {
    fn remove(&mut self, key: &Key) {
        self.opening.remove(key);
        self.failed.remove(key);
    }
}

/// The progress of opening the partitions that a node leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The number of open partitions.
    pub open: usize,
    /// The number of partitions that are being opened for the first time.
    pub opening: usize,
    /// The number of partitions that could not be opened; the node tries again after a wait.
    pub failed: usize,
}

/// The partitions of a node.
#[derive(Debug)]
pub(crate) struct Partitions {
    pub(super) metadata: Arc<dyn MetadataStore>,
    /// This node and its epoch, which lead the partitions that are open here.
    pub(super) own: (NodeId, NodeEpoch),
    open: RwLock<BTreeMap<Key, Arc<Partition>>>,
    unopened: RwLock<Unopened>,
    changes: watch::Sender<u64>,
}

impl Partitions {
    /// Starts without open partitions.
    #[must_use]
    pub(crate) fn new(metadata: Arc<dyn MetadataStore>, own: (NodeId, NodeEpoch)) -> Self {
        Self {
            metadata,
            own,
            open: RwLock::default(),
            unopened: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<Partition>> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned()
    }

    /// The partition, if it is open here.
    #[must_use]
    pub(crate) fn find(&self, topic: &TopicImage, index: i32) -> Option<Arc<Partition>> {
        self.get((topic.id, index))
    }

    pub(super) fn has_failed(&self, key: Key) -> bool {
        let unopened = self.unopened.read().unwrap_or_else(PoisonError::into_inner);
        unopened.failed.contains(&key)
    }

    /// The progress of opening. The cost does not depend on the number of partitions.
    #[must_use]
    pub(crate) fn progress(&self) -> Progress {
        let unopened = self.unopened.read().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        Progress {
            open: open.len(),
            opening: unopened.opening.len(),
            failed: unopened.failed.len(),
        }
    }

    /// Waits until each partition that is to be open was tried once, as long as another one was tried within this time.
    pub(crate) async fn wait_tried(&self, patience: Duration) {
        let mut changes = self.changes.subscribe();
        while self.progress().opening > 0 {
            if tokio::time::timeout(patience, changes.changed())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    fn unopened(&self) -> RwLockWriteGuard<'_, Unopened> {
        let unopened = self.unopened.write();
        unopened.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the partitions that are to be opened.
    pub(super) fn want(&self, keys: impl Iterator<Item = Key>) {
        let mut unopened = self.unopened();
        let Unopened { opening, failed } = &mut *unopened;
        opening.extend(keys.filter(|key| !failed.contains(key)));
    }

    /// Notes that a partition could not be opened, and wakes the requests that wait for it.
    pub(super) fn set_failed(&self, key: Key) {
        let mut unopened = self.unopened();
        unopened.opening.remove(&key);
        unopened.failed.insert(key);
        drop(unopened);
        self.tell();
    }

    /// Notes that a partition is not to be open here any more.
    pub(super) fn forget(&self, key: Key) {
        self.unopened().remove(&key);
        self.tell();
    }

    /// Every open partition, in the order of topic id and index.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// A watch that changes when partitions are opened or closed.
    #[must_use]
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn insert(&self, partitions: Vec<Partition>) {
        let mut unopened = self.unopened();
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            let key = (partition.topic.id, partition.index);
            unopened.remove(&key);
            open.insert(key, Arc::new(partition));
        }
        drop((unopened, open));
        self.tell();
    }

    /// Wakes the requests that wait for partitions, and the tasks that follow them.
    pub(super) fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits while a partition is being handed over: until it is closed, or stays here after all, or its appends have been
    /// stopped for a second, because the controllers may be away. Cancellation safe.
    pub(crate) async fn wait_handed_over(&self, partition: &Partition) {
        let mut changes = self.subscribe();
        while let Some(since) = partition.log.handing_over_since() {
            if partition.closed.get().is_some() {
                return;
            }
            let changed = timeout_at(since + HAND_OVER_WAIT, changes.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Closes the partitions that the image, which follows `before`, no longer gives to this node; returns them with
    /// the reason. The caller forgets their streams after that.
    pub(super) fn close(
        &self,
        before: &MetadataImage,
        image: &MetadataImage,
    ) -> Vec<(Arc<Partition>, Closed)> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let open_in = |topic: TopicId| {
            let of_topic = open.range((topic, i32::MIN)..=(topic, i32::MAX));
            of_topic.map(|((_, index), partition)| (*index, partition.leader_epoch))
        };
        let closing = closing((before, image), self.own, open_in);
        let closed = closing.into_iter().filter_map(|(topic, index, why)| {
            let partition = open.remove(&(topic, index))?;
            partition.closed.set(why);
            Some((partition, why))
        });
        closed.collect()
    }
}
