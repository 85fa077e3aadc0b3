//! A voter.

#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_io::{Device, Threads};
use highwater_types::{ClusterId, LogIndex, NodeId, Term};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use openraft::{BasicNode, Raft, ServerState, SnapshotPolicy};
use prost::Message;
use tokio::sync::watch;

use self::waiting::Waiting;
use super::format;
use super::log_store::LogStore;
use super::network::NoNetwork;
use super::snapshot_store::SnapshotStore;
use super::state_store::StateStore;
use super::types::{LogId, Proposal, Runtime, Types};
use crate::MetadataStore;
use crate::command::{Action, Command, Format, Outcome};
use crate::error::{OpenError, ProposeError};
use crate::image::MetadataImage;

/// Where a voter keeps its log, and which node it is.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of log and snapshot.
    pub dir: PathBuf,
    /// The node.
    pub node: NodeId,
    /// The id of the cluster, if it is formatted now.
    pub cluster: ClusterId,
    /// Of the randomness in the library's timers.
    pub seed: u64,
    /// Random bytes for a log that is made now (D1).
    pub new_log_seed: [u8; 16],
    /// Entries after which a snapshot is taken and the log before it let go.
    pub snapshot_entries: u64,
    /// Bytes of entries, which stay in memory until then, after which a snapshot is taken whatever their number. Past
    /// four times as many a proposal waits for a snapshot.
    pub snapshot_bytes: u64,
}

/// The metadata of a lone voter.
pub struct RaftMetadata {
    raft: Raft<Types, StateStore>,
    image: watch::Receiver<Arc<MetadataImage>>,
    log: LogStore,
    snapshot_bytes: u64,
    waiting: Waiting,
}

impl std::fmt::Debug for RaftMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RaftMetadata")
    }
}

/// Ticks are rare, so that an idle node sleeps; a lone voter has nobody to send heartbeats to.
const HEARTBEAT_MS: u64 = 1000;
const LEADER_DEADLINE: Duration = Duration::from_secs(30);
/// How long opening waits for a snapshot that has what the last process left in the log.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(60);

impl RaftMetadata {
    /// Opens the log, campaigns at once, and returns when it leads and its image is up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: Config,
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
        let snapshots = SnapshotStore::start(device, &config.dir, threads);
        let state = StateStore::open(snapshots).await?;
        let waiting = Waiting::new(state.lacking());
        nothing_is_lost(&config.dir, &log, state.last())?;
        let image = state.watch();
        let id = u64::try_from(config.node.0).map_err(|_cause| {
            OpenError::Raft(format!("node.id must not be negative: {}", config.node))
        })?;
        let failed = |error: &dyn std::fmt::Display| OpenError::Raft(error.to_string());
        let raft_config = raft_config(config.snapshot_entries).map_err(|error| failed(&error))?;
        let starting = Raft::new(id, raft_config, NoNetwork, log.clone(), state);
        let raft = Runtime::scope(config.seed, starting)
            .await
            .map_err(|error| failed(&error))?;
        let metadata = Self {
            raft,
            image,
            log,
            snapshot_bytes: config.snapshot_bytes,
            waiting,
        };
        match metadata.lead(&config, id).await {
            Ok(()) => Ok(metadata),
            Err(error) => Err(metadata.cause(error).await),
        }
    }

    /// Leads, with an image that is up to date and a log that takes commands.
    async fn lead(&self, config: &Config, id: u64) -> Result<(), OpenError> {
        let failed = |error: &dyn std::fmt::Display| OpenError::Raft(error.to_string());
        let raft = &self.raft;
        if raft
            .is_initialized()
            .await
            .map_err(|error| failed(&error))?
        {
            let voters = raft
                .with_raft_state(|state| {
                    Vec::from_iter(state.membership_state.effective().voter_ids())
                })
                .await
                .map_err(|error| failed(&error))?;
            belongs_to(config, &voters)?;
            raft.trigger()
                .elect(false)
                .await
                .map_err(|error| failed(&error))?;
        } else {
            let members = BTreeMap::from([(id, BasicNode::default())]);
            raft.initialize(members)
                .await
                .map_err(|error| failed(&error))?;
        }
        let led = raft
            .wait(Some(LEADER_DEADLINE))
            .current_leader(id, "lone voter leads")
            .await;
        led.map_err(|error| failed(&error))?;
        // the first command of a term is answered when everything before it is applied
        let format = Action::Format(Format {
            cluster_id: config.cluster.0.to_vec(),
        });
        self.decide(format.into())
            .await
            .map_err(|error| failed(&error))?;
        self.for_room(SNAPSHOT_DEADLINE)
            .await
            .map_err(OpenError::Raft)
    }

    /// What a start failed by: where nothing can be decided any more, that which ended it (D3).
    async fn cause(&self, error: OpenError) -> OpenError {
        match self.log.has_ended() || !self.is_running() {
            true => OpenError::Raft(self.ended().await),
            false => error,
        }
    }

    fn is_running(&self) -> bool {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().running_state.is_ok()
    }
}

fn raft_config(snapshot_entries: u64) -> Result<Arc<openraft::Config>, openraft::ConfigError> {
    let config = openraft::Config {
        cluster_name: "highwater".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: HEARTBEAT_MS * 3,
        election_timeout_max: HEARTBEAT_MS * 6,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_entries),
        max_in_snapshot_log_to_keep: 0,
        ..Default::default()
    };
    config.validate().map(Arc::new)
}

/// A node that is no voter would wait for one for ever.
fn belongs_to(config: &Config, voters: &[u64]) -> Result<(), OpenError> {
    let voters: Vec<String> = voters.iter().map(u64::to_string).collect();
    if voters.contains(&config.node.to_string()) {
        return Ok(());
    }
    Err(OpenError::OtherNode {
        path: config.dir.display().to_string(),
        node: config.node,
        voters: voters.join(","),
    })
}

/// What was applied was durable in the log before, and what the log let go of stands in a snapshot (D2).
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
        Arc::clone(&self.image.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    fn leads(&self) -> Option<Term> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.running_state.is_ok() && metrics.state == ServerState::Leader;
        leads.then_some(Term(metrics.current_term))
    }

    fn check(&self) -> Result<(), String> {
        if self.log.has_ended() || !self.is_running() {
            return Err("it has ended".to_owned());
        }
        match self.lacks() {
            _ if self.log.is_full_for(0) => Err("the disk is full".to_owned()),
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        self.turn(command.encoded_len()).await?;
        self.decide(command).await
    }

    async fn ended(&self) -> String {
        let wait = self.raft.wait(None);
        let stopped = wait.metrics(|metrics| metrics.running_state.is_err(), "it has ended");
        tokio::select! {
            // the log first: what fails in it ends the library too, which knows less of it
            biased;
            error = self.log.ended() => match error {
                Some(error) => error.to_string(),
                None => "it was closed".to_owned(),
            },
            stopped = stopped => match stopped.map(|metrics| metrics.running_state) {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) | Err(_) => "its task has ended".to_owned(),
            },
        }
    }

    async fn shutdown(&self) -> Result<(), OpenError> {
        self.raft
            .shutdown()
            .await
            .map_err(|error| OpenError::Raft(error.to_string()))?;
        self.log.shutdown().await
    }
}

impl RaftMetadata {
    /// Has a command decided, however large the log is.
    async fn decide(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        if self.log.is_full_for(command.encoded_len()) {
            return Err(ProposeError::Unavailable("the disk is full".to_owned()));
        }
        let written = tokio::select! {
            biased;
            written = self.raft.client_write(Proposal(command)) => written,
            _ = self.log.ended() => {
                return Err(ProposeError::Unavailable(self.ended().await));
            }
        };
        let response = match written {
            Ok(response) => response,
            // the library says of each command that it has ended, and of the end itself why
            Err(RaftError::Fatal(_)) => {
                return Err(ProposeError::Unavailable(self.ended().await));
            }
            Err(error) => return Err(ProposeError::Unavailable(error.to_string())),
        };
        if self.log.has_outgrown(self.snapshot_bytes)
            && let Err(error) = self.raft.trigger().snapshot().await
        {
            tracing::warn!(%error, "cannot ask for a snapshot of the metadata");
        }
        let at = LogIndex(response.log_id.index);
        response
            .data
            .0
            .map(|outcome| (at, outcome))
            .map_err(ProposeError::Rejected)
    }
}
