//! The state machine as the library drives it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use highwater_io::is_full;
use highwater_types::LogIndex;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::log_store::LogStore;
use super::snapshot_store::{SnapshotFile, SnapshotStore};
use super::types::{Applied, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::OpenError;
use crate::command::Outcome;
use crate::image::MetadataImage;

/// How long a snapshot that found the disk full waits before it is tried again.
pub(super) const FULL_REST: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct StateStore {
    image: MetadataImage,
    last: Option<LogId>,
    membership: StoredMembership,
    published: watch::Sender<Arc<MetadataImage>>,
    /// The index after the last entry that is applied.
    applied_end: watch::Sender<u64>,
    snapshots: SnapshotStore,
    log: LogStore,
    /// Why the snapshot that is due finds no room on the disk.
    lacking: watch::Sender<Option<String>>,
}

impl StateStore {
    pub(super) async fn open(snapshots: SnapshotStore, log: LogStore) -> Result<Self, OpenError> {
        let mut store = Self {
            image: MetadataImage::default(),
            last: None,
            membership: StoredMembership::default(),
            published: watch::Sender::new(Arc::default()),
            applied_end: watch::Sender::new(0),
            snapshots,
            log,
            lacking: watch::Sender::default(),
        };
        if let Some((_, newest)) = store.snapshots.newest().await? {
            let (meta, image) = newest.read().await?;
            image.check_version().map_err(OpenError::Raft)?;
            store.adopt(&meta, image);
        }
        Ok(store)
    }

    fn adopt(&mut self, meta: &SnapshotMeta, image: MetadataImage) {
        self.image = image;
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.published.send_replace(Arc::new(self.image.clone()));
        let end = meta.last_log_id.map_or(0, |last| last.index + 1);
        self.applied_end.send_replace(end);
    }

    /// Writes a snapshot. The library would end at an error, so that it waits here while the disk is full (D3).
    async fn save(&self, meta: &SnapshotMeta, image: &MetadataImage) -> io::Result<SnapshotFile> {
        loop {
            match self.snapshots.save(meta.clone(), image.clone()).await {
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "no room for a snapshot of the metadata; trying again later");
                    self.lacking.send_replace(Some(error.to_string()));
                    tokio::time::sleep(FULL_REST).await;
                }
                written => {
                    self.lacking.send_replace(None);
                    return written;
                }
            }
        }
    }

    /// The last entry that is applied.
    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.published.subscribe()
    }

    /// Observes the index after the last entry that is applied.
    pub(super) fn applied_end(&self) -> watch::Receiver<u64> {
        self.applied_end.subscribe()
    }

    /// Why the snapshot that is due finds no room on the disk; `None` while it does.
    pub(super) fn lacking(&self) -> watch::Receiver<Option<String>> {
        self.lacking.subscribe()
    }
}

impl RaftSnapshotBuilder<Types> for StateStore {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
        };
        // a start refuses a log that ends before its snapshot (D2)
        self.log.until_durable(self.last).await?;
        let snapshot = self.save(&meta, &self.image).await?;
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<Types> for StateStore {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let at = LogIndex(entry.log_id.index);
            self.last = Some(entry.log_id);
            let applied = match entry.payload {
                EntryPayload::Normal(proposal) => {
                    let applied = self.image.apply(at, proposal.0);
                    self.image.check_version().map_err(io::Error::other)?;
                    // the image is published before the commands are answered, so that callers find their commands in
                    // it
                    self.published.send_replace(Arc::new(self.image.clone()));
                    applied
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(self.last, membership);
                    Ok(Outcome::Done)
                }
                EntryPayload::Blank => Ok(Outcome::Done),
            };
            self.applied_end.send_replace(at.0 + 1);
            if let Some(responder) = responder {
                responder.send(Applied(applied));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let image = match snapshot.image() {
            Some(image) => MetadataImage::clone(image),
            None => snapshot.read().await.map_err(io::Error::other)?.1,
        };
        image.check_version().map_err(io::Error::other)?;
        self.save(meta, &image).await?;
        self.adopt(meta, image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let stored = self.snapshots.newest().await.map_err(io::Error::other)?;
        Ok(stored.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
