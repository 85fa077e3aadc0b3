//! A voter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_io::{Device, Threads};
use highwater_types::{ClusterId, LogIndex, NodeId};
use openraft::async_runtime::WatchReceiver;
use openraft::{BasicNode, Raft, SnapshotPolicy};
use prost::Message;
use tokio::sync::watch;

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

/// Where a voter keeps its log, and who it is.
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
    /// Bytes of entries, which stay in memory until then, after which a snapshot is taken whatever their number. Where
    /// no snapshot can be written, nothing is decided past four times as many.
    pub snapshot_bytes: u64,
}

/// The metadata of a lone voter.
pub struct RaftMetadata {
    raft: Raft<Types, StateStore>,
    image: watch::Receiver<Arc<MetadataImage>>,
    log: LogStore,
    snapshot_bytes: u64,
}

impl std::fmt::Debug for RaftMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RaftMetadata")
    }
}

/// Ticks are rare, so that an idle node sleeps; a lone voter has nobody to send heartbeats to.
const HEARTBEAT_MS: u64 = 1000;
/// How many times [`Config::snapshot_bytes`] the log may take while a snapshot is being written.
const LOG_BYTES_FACTOR: u64 = 4;
const LEADER_DEADLINE: Duration = Duration::from_secs(30);
/// How long a start waits for a snapshot where its log takes nothing without one.
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
            belongs_to(&config, &voters)?;
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
        let metadata = Self {
            raft,
            image,
            log,
            snapshot_bytes: config.snapshot_bytes,
        };
        // the first command of a term is answered when everything before it is applied
        let format = Action::Format(Format {
            cluster_id: config.cluster.0.to_vec(),
        });
        metadata
            .decide(format.into())
            .await
            .map_err(|error| failed(&error))?;
        metadata.wait_for_snapshot().await?;
        Ok(metadata)
    }

    /// A log that no snapshot could replace for long takes nothing more: a start waits for one, so that what it proposes is
    /// taken.
    async fn wait_for_snapshot(&self) -> Result<(), OpenError> {
        let wait = self.raft.wait(Some(SNAPSHOT_DEADLINE));
        let taken = wait.metrics(|_| !self.is_too_long(), "a snapshot replaces the log");
        let reason = "its log waits for a snapshot, which cannot be written";
        taken
            .await
            .map(drop)
            .map_err(|_cause| OpenError::Raft(reason.to_owned()))
    }

    fn is_too_long(&self) -> bool {
        self.log.bytes() >= self.snapshot_bytes.saturating_mul(LOG_BYTES_FACTOR)
    }

    /// Resolves, with the file and the reason, when nothing can be decided any more: a sync of the log failed, or a
    /// snapshot could not be written (D3). Cancellation safe.
    pub async fn ended(&self) -> String {
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

    fn is_running(&self) -> bool {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().running_state.is_ok()
    }

    /// Ends the voter; what was proposed and not answered may or may not be in the log.
    ///
    /// # Errors
    /// When the log can't be closed.
    pub async fn shutdown(&self) -> Result<(), OpenError> {
        self.raft
            .shutdown()
            .await
            .map_err(|error| OpenError::Raft(error.to_string()))?;
        self.log.shutdown().await
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

    fn check(&self) -> Result<(), String> {
        if self.log.has_ended() || !self.is_running() {
            return Err("it has ended".to_owned());
        }
        match self.log.is_full_for(0) {
            true => Err("the disk is full".to_owned()),
            false => Ok(()),
        }
    }

    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        if self.is_too_long() {
            let reason = "its log waits for a snapshot".to_owned();
            return Err(ProposeError::Unavailable(reason));
        }
        self.decide(command).await
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
                return Err(ProposeError::Unavailable("the metadata's log has ended".to_owned()));
            }
        };
        let response = written.map_err(|error| ProposeError::Unavailable(error.to_string()))?;
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

#[cfg(test)]
mod tests {
    use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
    use highwater_runtime::reasons;
    use highwater_types::Uuid;

    use super::*;
    use crate::command::{CreateTopic, Replicas};

    async fn open(dir: &Path) -> RaftMetadata {
        try_open(dir).await.expect("opens")
    }

    async fn try_open(dir: &Path) -> Result<RaftMetadata, OpenError> {
        open_on(dir, Arc::new(RealDevice)).await
    }

    const SNAPSHOT_BYTES: u64 = 4 << 20;

    async fn open_on(dir: &Path, device: Arc<dyn Device>) -> Result<RaftMetadata, OpenError> {
        let config = Config {
            dir: dir.to_owned(),
            node: NodeId(1),
            cluster: Uuid([7; 16]),
            seed: 1,
            new_log_seed: [9; 16],
            snapshot_entries: 5000,
            snapshot_bytes: SNAPSHOT_BYTES,
        };
        RaftMetadata::open(config, device, &RealThreads).await
    }

    /// Why it does not open while the content of a file, or the file or directory, is another.
    async fn refusal(dir: &Path, name: &str, content: Option<&[u8]>) -> String {
        let (path, kept) = (dir.join(name), dir.with_extension("kept"));
        std::fs::rename(&path, &kept).expect("is there");
        if let Some(content) = content {
            std::fs::write(&path, content).expect("writes");
        }
        let refused = try_open(dir).await.expect_err("is refused");
        match path.is_dir() {
            true => std::fs::remove_dir_all(&path).expect("removes"),
            false => drop(std::fs::remove_file(&path)),
        }
        std::fs::rename(&kept, &path).expect("returns");
        reasons(&refused)
    }

    const LARGE_BYTES: usize = 1 << 20;

    fn large_topic(id: u8) -> Command {
        Command::from(Action::CreateTopic(CreateTopic {
            name: format!("topic-{id}"),
            id: vec![id; 16],
            configs: [("large".to_owned(), "x".repeat(LARGE_BYTES))].into(),
            ..CreateTopic::default()
        }))
    }

    async fn until_purged(metadata: &RaftMetadata) {
        let purged = metadata.raft.wait(Some(LEADER_DEADLINE));
        purged
            .metrics(|metrics| metrics.purged.is_some(), "log is let go of")
            .await
            .expect("is let go of");
    }

    // commands are of any size: the log stays in memory until a snapshot has it
    #[tokio::test]
    async fn a_log_of_few_large_entries_is_replaced_by_a_snapshot_too() {
        let temporary = tempfile::tempdir().expect("a directory");
        let metadata = open(temporary.path()).await;
        for id in 1..=9 {
            metadata.propose(large_topic(id)).await.expect("creates");
        }
        until_purged(&metadata).await;
        metadata.shutdown().await.expect("stops");
        let metadata = open(temporary.path()).await;
        assert_eq!(metadata.image().topics().count(), 9);
        metadata.shutdown().await.expect("stops");
    }

    // the disk is full for the snapshot alone: the log's files are there
    #[tokio::test]
    async fn a_log_that_no_snapshot_replaces_is_bounded_and_goes_on_when_one_does() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path();
        let faults = Arc::new(Faults::default());
        faults.fill_below(Some(dir.join("snapshot.new")));
        let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults));
        let metadata = open_on(dir, Arc::new(device)).await.expect("opens");
        let most = SNAPSHOT_BYTES * LOG_BYTES_FACTOR;
        let mut created = 0;
        let refused = loop {
            match metadata.propose(large_topic(created + 1)).await {
                Ok(_) => created += 1,
                Err(error) => break error,
            }
            assert!(metadata.log.bytes() < most + 2 * LARGE_BYTES as u64);
        };
        let waits = "its log waits for a snapshot".to_owned();
        assert_eq!(refused, ProposeError::Unavailable(waits));
        assert!(u64::from(created) * LARGE_BYTES as u64 > SNAPSHOT_BYTES);
        metadata.shutdown().await.expect("stops");

        // what came before it is read back and goes into a snapshot first: what a start proposes is taken
        let metadata = open(dir).await;
        metadata
            .propose(large_topic(created + 1))
            .await
            .expect("creates");
        assert_eq!(metadata.image().topics().count(), usize::from(created) + 1);
        until_purged(&metadata).await;
        assert!(metadata.log.bytes() < 2 * LARGE_BYTES as u64);
        metadata.shutdown().await.expect("stops");
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_a_restart_and_after_a_snapshot() {
        let dir = std::env::temp_dir().join(format!("highwater-raft-{}", std::process::id()));
        let create = |name: &str, id: u8| {
            Command::from(Action::CreateTopic(CreateTopic {
                name: name.to_owned(),
                id: vec![id; 16],
                partitions: vec![Replicas { nodes: vec![1] }],
                ..CreateTopic::default()
            }))
        };
        let metadata = open(&dir).await;
        metadata.propose(create("first", 1)).await.expect("creates");
        assert!(
            metadata.image().topic("first").is_some(),
            "the answer waits for the image"
        );
        metadata.shutdown().await.expect("stops");
        drop(metadata);

        let metadata = open(&dir).await;
        let image = metadata.image();
        assert_eq!(image.cluster(), Uuid([7; 16]));
        assert!(image.topic("first").is_some());
        let refused = metadata.propose(create("first", 2)).await;
        let exists = ProposeError::Rejected(crate::Rejection::TopicExists);
        assert_eq!(refused, Err(exists));
        metadata.raft.trigger().snapshot().await.expect("asks");
        let last = metadata.image().at();
        let taken = metadata.raft.wait(Some(LEADER_DEADLINE));
        taken
            .metrics(
                |metrics| metrics.snapshot.is_some_and(|id| id.index >= last.0),
                "snapshot is taken",
            )
            .await
            .expect("is taken");
        metadata
            .raft
            .trigger()
            .purge_log(last.0)
            .await
            .expect("asks");
        metadata
            .propose(create("second", 3))
            .await
            .expect("creates");
        metadata.shutdown().await.expect("stops");
        drop(metadata);

        // D2: a part of it that is gone or cut is no metadata that begins anew, or that knows less
        let (log, snapshot) = (dir.join("log"), dir.join("snapshot"));
        let whole = std::fs::read(&snapshot).expect("is there");
        let half = &whole[..whole.len() / 2];
        for (name, content, path, reason) in [
            ("log", None, &log, "ends before the snapshot"),
            ("snapshot", None, &snapshot, "begins after it"),
            ("snapshot", Some(half), &snapshot, "cannot be read"),
            ("snapshot", Some(&[][..]), &snapshot, "beginning is missing"),
        ] {
            let why = refusal(&dir, name, content).await;
            let named = why.contains(&path.display().to_string());
            assert!(named && why.contains(reason), "{name}: {why}");
        }
        let first = log.join("0000000000000000.log");
        let only = std::fs::read_dir(&log).expect("is there").count() == 2;
        assert!(!only && first.exists(), "a file is made ahead");
        let why = refusal(&dir, "log/0000000000000000.log", None).await;
        assert!(why.contains(&log.display().to_string()), "{why}");

        let metadata = open(&dir).await;
        let image = metadata.image();
        assert!(image.topic("first").is_some() && image.topic("second").is_some());
        metadata.shutdown().await.expect("stops");
        std::fs::remove_dir_all(&dir).expect("removes");
    }

    // D3
    #[tokio::test]
    async fn a_snapshot_that_cannot_be_written_ends_the_metadata_with_the_file() {
        let dir = std::env::temp_dir().join(format!("highwater-ended-{}", std::process::id()));
        let metadata = open(&dir).await;
        std::fs::create_dir(dir.join("snapshot.new")).expect("is in the way");
        metadata.raft.trigger().snapshot().await.expect("asks");
        let why = tokio::time::timeout(LEADER_DEADLINE, metadata.ended()).await;
        let why = why.expect("ends");
        let file = dir.join("snapshot").display().to_string();
        assert!(why.contains(&file), "{why}");
        std::fs::remove_dir_all(&dir).expect("removes");
    }
}
