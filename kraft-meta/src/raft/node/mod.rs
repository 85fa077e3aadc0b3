//! A voter, which opens the metadata and proposes commands.

mod admission;
mod anywhere;
mod quorum;
#[cfg(test)]
mod tests;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use highwater_io::{Device, Threads};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{ClusterId, LogIndex, NodeEpoch, NodeId, Term, Uuid};
use openraft::{Raft, SnapshotPolicy};
use tokio::sync::{Semaphore, watch};

use self::quorum::Part;
pub use self::quorum::Quorum;
pub(super) use self::waiting::Waiting;
use super::format;
use super::log_store::LogStore;
use super::members;
use super::network::Network;
use super::observer::voters::Voters;
use super::snapshot_store::SnapshotStore;
use super::state_store::StateStore;
use super::types::{LogId, Metrics, Runtime};
use super::voter::Voter;
use crate::MetadataStore;
use crate::command::{Command, Outcome};
use crate::error::{HeartbeatError, OpenError, ProposeError};
use crate::image::MetadataImage;
use crate::quorum_state::{QuorumState, VotersChange, VotersError, committed_end};
use crate::sessions::{Heard, Sessions, Taken, Told};

/// The configuration of a voter.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of the log and the snapshot.
    pub dir: PathBuf,
    /// The node.
    pub node: NodeId,
    /// The id that the cluster gets if it is formatted now.
    pub cluster: ClusterId,
    /// The seed of the random delays in the library's timers, another one at each start. Nodes tell the starts of this
    /// voter apart by it.
    pub seed: u64,
    /// Random bytes for a log that is created now (D1).
    pub new_log_seed: [u8; 16],
    /// The id of the data directory, if it is new: random bytes, as in Kafka's `directory.id`. A node with another
    /// directory is another replica.
    pub new_directory_id: Uuid,
    /// Entries after which a snapshot is taken and the log before it purged.
    pub snapshot_entries: u64,
    /// Bytes of entries after which a snapshot is taken whatever their number: entries stay in memory until then. A
    /// proposal waits for a snapshot once the log has four times as many bytes.
    pub snapshot_bytes: u64,
}

/// The metadata of the cluster, as one voter holds it.
pub struct RaftMetadata {
    voter: Voter,
    /// The way of this process to the active controller.
    controllers: Arc<Voters>,
    /// The task that follows the membership.
    tasks: Tasks,
}

impl std::fmt::Debug for RaftMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RaftMetadata")
    }
}

/// How many times [`Config::snapshot_bytes`] the log may take while a snapshot is being written.
pub(super) const LOG_BYTES_FACTOR: u64 = 4;
/// The interval of a leader's heartbeats to the other voters.
const HEARTBEAT_MS: u64 = 500;
/// The interval of the library's ticks in a voter that has no other: it is long, so that an idle node can sleep.
const LONE_TICK_MS: u64 = 1000;

impl RaftMetadata {
    /// Opens the metadata of a quorum of one voter, this node, and returns when it leads and its image is up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: Config,
        device: Arc<dyn Device>,
        threads: &dyn Threads,
    ) -> Result<Self, OpenError> {
        let quorum = Quorum::alone(config.node);
        Self::open_in(quorum, config, device, threads).await
    }

    /// Opens the metadata as a controller.
    ///
    /// A node that is configured with the voters of a quorum forms it with them if all start for the first time, joins it
    /// if others have formed it, and takes part in it again after a restart. One whose data directory is new takes part
    /// only once every other voter has said that it does not know the node by another directory, because a voter that
    /// lost its votes could vote twice. If it is known by another one, or is none of the voters that the others have, it
    /// follows the log without a vote until it is added to the voters; so does a node that is configured with addresses
    /// of controllers alone, unless its own is the only one. Which voters there are says the log, once it has any.
    ///
    /// This returns when a voter leads and this node has applied all entries that the leader has announced as committed;
    /// the image of a follower may lag behind the leader's. Until then it waits, however long, and the log says for what.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_in(
        quorum: Quorum,
        config: Config,
        device: Arc<dyn Device>,
        threads: &dyn Threads,
    ) -> Result<Self, OpenError> {
        loop {
            let metadata = Self::start(&quorum, &config, Arc::clone(&device), threads).await?;
            match metadata.take_part(&quorum, &config).await {
                Ok(Part::Taken) => {
                    metadata.tell_tools(&*device, &config).await?;
                    return Ok(metadata);
                }
                // the log names the replica that the next turn starts
                Ok(Part::AsAnother) => metadata.shutdown().await?,
                Err(error) => {
                    let cause = metadata.cause(error).await;
                    // the transport has the voter, which would go on; the first error says more than that of the end
                    drop(metadata.shutdown().await);
                    return Err(cause);
                }
            }
        }
    }

    /// Writes down for Kafka's tools which replica this is.
    async fn tell_tools(&self, device: &dyn Device, config: &Config) -> Result<(), OpenError> {
        let Some(directory) = self.directory() else {
            return Ok(());
        };
        let cluster = self.voter.image.borrow().cluster();
        format::tell(device, &config.dir, (cluster, config.node, directory)).await
    }

    /// Opens the log and the snapshot and starts Raft on them, as the replica that the log names.
    async fn start(
        quorum: &Quorum,
        config: &Config,
        device: Arc<dyn Device>,
        threads: &dyn Threads,
    ) -> Result<Self, OpenError> {
        format::check(&*device, &config.dir).await?;
        let log = LogStore::open(
            Arc::clone(&device),
            threads,
            &config.dir.join("log"),
            config.new_log_seed,
        )
        .await?;
        let id = quorum.replica(config, &log).await?;
        let snapshots = SnapshotStore::start(device, &config.dir, threads);
        let state = StateStore::open(snapshots.clone(), log.clone()).await?;
        let waiting = Arc::new(Waiting::new(state.lacking()));
        log.finish_install(state.last()).await.map_err(failed)?;
        nothing_is_lost(&config.dir, &log, state.last())?;
        let (image, applied_end) = (state.watch(), state.applied_end());
        let raft_config = raft_config(config.snapshot_entries, quorum.heartbeat_ms(config.node));
        let raft_config = raft_config.map_err(failed)?;
        let lease = Duration::from_millis(raft_config.election_timeout_max);
        let network = Network {
            transport: Arc::clone(&quorum.transport),
            own: id,
            log: log.clone(),
            image: image.clone(),
        };
        let starting = Raft::new(id, raft_config, network.clone(), log.clone(), state);
        let raft = Runtime::scope(config.seed, starting)
            .await
            .map_err(failed)?;
        let voter = Voter {
            raft,
            log,
            snapshots,
            snapshot_bytes: config.snapshot_bytes,
            node: config.node,
            id,
            founders: Arc::new(quorum.voter_ids()?),
            endpoints: Arc::new(quorum.endpoints.clone()),
            changing: Arc::new(Semaphore::new(1)),
            led: Arc::default(),
            lease,
            image,
            applied_end,
            waiting,
            sessions: Arc::new(Mutex::new(Sessions::new(quorum.session))),
            process: config.seed,
            heard: watch::Sender::default(),
            observers: Arc::default(),
            asked_first: Arc::default(),
            unable_since: Arc::default(),
            admits: Arc::default(),
            network,
        };
        let configured = quorum.configured();
        let way = anywhere::way(&voter, &quorum.transport, configured.clone(), config.seed);
        let metadata = Self {
            controllers: Arc::new(way),
            voter,
            tasks: Tasks::default(),
        };
        let controllers = (Arc::clone(&metadata.controllers), configured);
        let transport = Arc::clone(&quorum.transport);
        let follow = members::follow(metadata.voter.clone(), transport, controllers);
        metadata.tasks.spawn(TaskKind::MetadataObserver, follow);
        let rejoin = members::rejoin(metadata.voter.clone(), Arc::clone(&metadata.controllers));
        metadata.tasks.spawn(TaskKind::MetadataObserver, rejoin);
        quorum.transport.serve(metadata.voter.clone());
        Ok(metadata)
    }

    /// The id of the data directory, as the quorum knows it.
    #[must_use]
    pub fn directory(&self) -> Option<Uuid> {
        self.voter.log.own_directory(self.voter.id)
    }

    /// Serves observers from now on. Until then their calls are refused, so that no broker starts before its controller
    /// has: the controller claims the object store.
    pub fn admit_observers(&self) {
        self.voter.admits.store(true, Ordering::Release);
    }

    /// The cause of a failed start: if nothing can be decided any more, the error that ended the metadata (D3).
    async fn cause(&self, error: OpenError) -> OpenError {
        match self.voter.log.has_ended() || !self.voter.is_running() {
            true => OpenError::Raft(self.ended().await),
            false => error,
        }
    }
}

/// Converts an error of the library to an error of the start.
fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Raft(error.to_string())
}

fn raft_config(
    snapshot_entries: u64,
    heartbeat_interval: u64,
) -> Result<Arc<openraft::Config>, openraft::ConfigError> {
    let config = openraft::Config {
        cluster_name: "highwater".to_owned(),
        heartbeat_interval,
        election_timeout_min: heartbeat_interval * 3,
        election_timeout_max: heartbeat_interval * 4,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_entries),
        max_in_snapshot_log_to_keep: 0,
        // A voter that was cut off must not disturb a leader that the other voters hear from.
        enable_pre_vote: Some(true),
        // The other voters may have committed entries that a leader had not written itself when its power failed. In the
        // same term it would give their indexes to other entries.
        enable_leader_restore: Some(false),
        ..Default::default()
    };
    config.validate().map(Arc::new)
}

/// Checks that the log reaches to the last applied entry, and that the snapshot covers every purged entry (D2).
fn nothing_is_lost(dir: &Path, log: &LogStore, applied: Option<LogId>) -> Result<(), OpenError> {
    let (purged, last) = log.ends();
    let (name, reason) = match () {
        () if applied > last => ("log", "it ends before the snapshot does"),
        () if purged > applied => ("snapshot", "the log begins after it"),
        () => return Ok(()),
    };
    Err(OpenError::Lost {
        path: dir.join(name).display().to_string(),
        reason,
    })
}

#[async_trait]
impl MetadataStore for RaftMetadata {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.voter.image.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.voter.image.clone()
    }

    fn leads(&self) -> Option<Term> {
        self.voter.leads()
    }

    fn check(&self) -> Result<(), String> {
        self.voter.check()
    }

    fn has_vote(&self) -> bool {
        self.voter.has_vote()
    }

    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        match self.propose_anywhere(command).await {
            Ok((at, decided)) => match decided {
                Ok(outcome) => Ok((at, outcome)),
                Err(rejection) => Err(ProposeError::Rejected(rejection)),
            },
            Err(undecided) => Err(undecided.into()),
        }
    }

    async fn heartbeat(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        told: Told,
    ) -> Result<Taken, HeartbeatError> {
        let taken = self.heartbeat_anywhere(node, epoch, told).await;
        taken
            .map_err(HeartbeatError::Unavailable)?
            .ok_or(HeartbeatError::Fenced)
    }

    async fn quorum(&self) -> Result<QuorumState, String> {
        self.quorum_anywhere().await
    }

    async fn caught_up(&self) -> Result<(), String> {
        let end = committed_end(self).await?;
        let has_all = |metrics: &Metrics| {
            let applied = metrics.last_applied;
            applied.map_or(0, |last| last.index + 1) >= end
        };
        let wait = self.voter.raft.wait(None);
        let caught_up = wait.metrics(has_all, "has all that was committed").await;
        caught_up.map(drop).map_err(|error| error.to_string())
    }

    async fn change_voters(&self, change: VotersChange) -> Result<(), VotersError> {
        self.change_anywhere(change).await
    }

    fn heard(&self) -> watch::Receiver<Heard> {
        self.voter.heard.subscribe()
    }

    fn silent(&self) -> Vec<(NodeId, NodeEpoch)> {
        self.voter.silent()
    }

    fn cut_from_store(&self) -> Vec<(NodeId, NodeEpoch)> {
        self.voter.cut_from_store()
    }

    async fn ended(&self) -> String {
        self.voter.ended().await
    }

    async fn shutdown(&self) -> Result<(), OpenError> {
        self.voter.hand_over("it ends").await;
        self.tasks.stop().await;
        let ended = self.voter.raft.shutdown().await;
        self.voter.snapshots.shutdown().await;
        self.voter.log.shutdown().await?;
        ended.map_err(failed)
    }
}
