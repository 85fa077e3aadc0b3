//! Metadata with faults, for tests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use highwater_io::{RealDevice, RealThreads};
use highwater_kraft_meta::command::{Command, Outcome, RegisterNode, WalKind};
use highwater_kraft_meta::{
    Action, Heard, HeartbeatError, MetadataImage, MetadataStore, OpenError, ProposeError,
    QuorumState, RaftMetadata, Taken, Told, VotersChange, VotersError,
};
use highwater_types::{LogIndex, NodeEpoch, NodeId, Term, Uuid};
use tokio::sync::watch;

/// Metadata that decides.
#[derive(Debug)]
pub(crate) struct FaultyMetadata {
    pub(crate) inner: RaftMetadata,
    /// How many of the next answers get lost.
    pub(crate) answers_lost: AtomicU32,
    /// Whether the image is that of a cluster without nodes, until it is asked to catch up.
    pub(crate) is_behind: AtomicBool,
}

impl From<RaftMetadata> for FaultyMetadata {
    fn from(inner: RaftMetadata) -> Self {
        Self {
            inner,
            answers_lost: AtomicU32::default(),
            is_behind: AtomicBool::default(),
        }
    }
}

/// Opens the metadata of a lone controller.
pub(crate) async fn open(node: NodeId, dir: &Path) -> RaftMetadata {
    let config = highwater_kraft_meta::Config {
        dir: dir.to_owned(),
        node,
        cluster: Uuid([7; 16]),
        seed: 1,
        new_log_seed: [8; 16],
        new_directory_id: Uuid([8; 16]),
        snapshot_entries: 1_000_000,
        snapshot_bytes: 1000,
    };
    let opened = RaftMetadata::open(config, Arc::new(RealDevice), &RealThreads).await;
    opened.expect("opens")
}

/// A broker registers, of which the image does not know yet.
pub(crate) async fn registered_since(metadata: &FaultyMetadata, node: NodeId) {
    let register = RegisterNode {
        node: node.0,
        incarnation: vec![1; 16],
        wal: WalKind::Object.into(),
        ..RegisterNode::default()
    };
    let registered = metadata.propose(Action::RegisterNode(register).into());
    registered.await.expect("is taken");
    metadata.is_behind.store(true, Ordering::Relaxed);
}

#[async_trait]
impl MetadataStore for FaultyMetadata {
    fn image(&self) -> Arc<MetadataImage> {
        match self.is_behind.load(Ordering::Relaxed) {
            true => Arc::default(),
            false => self.inner.image(),
        }
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.inner.watch()
    }

    fn leads(&self) -> Option<Term> {
        self.inner.leads()
    }

    fn check(&self) -> Result<(), String> {
        self.inner.check()
    }

    fn has_vote(&self) -> bool {
        self.inner.has_vote()
    }

    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        let decided = self.inner.propose(command).await;
        let lost = self.answers_lost.load(Ordering::Relaxed);
        if lost > 0 {
            self.answers_lost.store(lost - 1, Ordering::Relaxed);
            return Err(ProposeError::Unavailable("the answer is lost".to_owned()));
        }
        decided
    }

    async fn heartbeat(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        told: Told,
    ) -> Result<Taken, HeartbeatError> {
        self.inner.heartbeat(node, epoch, told).await
    }

    async fn quorum(&self) -> Result<QuorumState, String> {
        self.inner.quorum().await
    }

    async fn caught_up(&self) -> Result<(), String> {
        self.is_behind.store(false, Ordering::Relaxed);
        self.inner.caught_up().await
    }

    async fn change_voters(&self, change: VotersChange) -> Result<(), VotersError> {
        self.inner.change_voters(change).await
    }

    fn heard(&self) -> watch::Receiver<Heard> {
        self.inner.heard()
    }

    fn silent(&self) -> Vec<(NodeId, NodeEpoch)> {
        self.inner.silent()
    }

    fn cut_from_store(&self) -> Vec<(NodeId, NodeEpoch)> {
        self.inner.cut_from_store()
    }

    async fn ended(&self) -> String {
        self.inner.ended().await
    }

    async fn shutdown(&self) -> Result<(), OpenError> {
        self.inner.shutdown().await
    }
}
