//! An observer follows the metadata without a vote, as a broker does: it reads a snapshot once, then the committed
//! entries as they come, and applies them to an image of its own. Its proposals go to the active controller.
//!
//! An observer keeps nothing on a disk. It may lag behind, and goes on with the image it has while it reaches no voter;
//! when it reaches one again it continues, or begins with a new snapshot if the entries that it lacks are purged.

mod change;
pub(super) mod described;
pub(super) mod message;
mod outcome;
mod serve;
#[cfg(test)]
mod tests;
pub(super) mod voters;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_runtime::{SeededRng, TaskKind, Tasks, reasons};
use highwater_types::{ClusterId, LogIndex, NodeEpoch, NodeId, Term};
use openraft::EntryPayload;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::message::{Entries, Follow, Heartbeat, Propose};
use self::voters::{Failure, RemoteSnapshot, Voters};
use super::log_store::{self, LastEntry};
use super::message::{Call, Reply};
use super::record::LogIdRecord;
use super::snapshot_store;
use super::types::LogId;
use crate::MetadataStore;
use crate::command::{Command, Outcome};
use crate::error::{HeartbeatError, OpenError, ProposeError};
use crate::image::MetadataImage;
use crate::quorum_state::{QuorumState, VotersChange, VotersError, committed_end};
use crate::sessions::{Heard, Taken, Told};
use crate::transport::{COMMAND_BYTES_MAX, Calls};

/// The bytes of entries in one reply, unless a single entry has more.
const ENTRIES_BYTES: usize = 1 << 20;
/// The bytes of a snapshot in one reply.
const PIECE_BYTES: usize = 1 << 20;
/// The longest that a voter lets an observer wait for an entry.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
/// How long an observer asks a voter to wait for an entry.
const FOLLOW_WAIT: Duration = Duration::from_secs(10);
/// How long an observer waits for an answer, beside the time for which it asks the voter to wait.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long an observer waits before it asks for the addresses of the controllers again, and after a failure.
const LEARN_AGAIN: Duration = Duration::from_secs(60);
const LEARN_SOON: Duration = Duration::from_secs(5);
/// How long a heartbeat waits for its answer: less than a session, so that one that is lost costs no session.
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(1);
/// How long a proposal looks for the active controller and waits for its answer and for the own image: less than the
/// 30 s that Kafka's clients wait.
pub(super) const PROPOSAL_DEADLINE: Duration = Duration::from_secs(20);

/// Who observes, and what it may reach.
#[derive(Debug, Clone)]
pub struct Observer {
    /// The voters, in any order; at least one.
    pub voters: Vec<NodeId>,
    /// The way to them.
    pub calls: Arc<dyn Calls>,
    /// The cluster, if it is known. A voter of another cluster is refused.
    pub cluster: Option<ClusterId>,
    /// Randomness for the waits between attempts.
    pub rng: SeededRng,
}

/// The metadata of the cluster as an observer follows it.
#[derive(Debug)]
pub struct ObserverMetadata {
    followed: Arc<Followed>,
    /// The task that follows. It ends only with [`MetadataStore::shutdown`]: a node that stops still commits its last
    /// upload, and has to see that.
    tasks: Tasks,
}

#[derive(Debug)]
struct Followed {
    voters: Voters,
    image: watch::Sender<Arc<MetadataImage>>,
    /// The last entry that the image includes.
    last: watch::Sender<Option<LastEntry>>,
    /// Why the last attempt to follow failed; `None` while this node hears from a voter.
    cut_off: watch::Sender<Option<String>>,
    /// Why nothing can be learned any more.
    ended: watch::Sender<Option<String>>,
    /// Counts the changes of the membership that were followed.
    memberships: watch::Sender<u64>,
    /// An observer hears no heartbeats.
    heard: watch::Sender<Heard>,
}

impl ObserverMetadata {
    /// Follows the metadata. This returns once the image includes all that a voter knew to be committed when it was
    /// asked first, at the earliest once the cluster is formed. While no voter can be reached it tries again, and `say`
    /// is called with the reason each time.
    ///
    /// # Errors
    /// The voters are of another cluster, or send what this release does not understand.
    pub async fn open(
        observer: Observer,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<Self, OpenError> {
        let followed = Arc::new(Followed {
            voters: Voters::new(observer),
            image: watch::Sender::new(Arc::default()),
            last: watch::Sender::new(None),
            cut_off: watch::Sender::new(None),
            ended: watch::Sender::new(None),
            memberships: watch::Sender::default(),
            heard: watch::Sender::default(),
        });
        let mut target = None;
        loop {
            match followed.follow_once(Duration::ZERO).await {
                // the entries after a snapshot are asked for next
                Ok(None) => {}
                Ok(Some(committed_end)) => {
                    let end = *target.get_or_insert(committed_end);
                    let is_formed = !followed.image.borrow().cluster().is_zero();
                    if is_formed && followed.next() >= end {
                        break;
                    }
                    if followed.next() >= committed_end {
                        // the cluster is not formed yet
                        target = None;
                        followed.voters.rest().await;
                    }
                }
                Err(Failure::Final(reason)) => return Err(OpenError::Raft(reason)),
                Err(Failure::Unreachable(reason)) => {
                    say(&reason);
                    followed.voters.rest().await;
                }
            }
        }
        let tasks = Tasks::default();
        tasks.spawn(TaskKind::MetadataObserver, follow(Arc::clone(&followed)));
        tasks.spawn(TaskKind::MetadataObserver, learn(Arc::clone(&followed)));
        Ok(Self { followed, tasks })
    }

    /// Why this node hears from no voter; `None` while it does.
    #[must_use]
    pub fn cut_off(&self) -> Option<String> {
        self.followed.cut_off.borrow().clone()
    }
}

fn term(id: LogId) -> u64 {
    id.leader_id.term
}

/// Follows until the metadata ends.
async fn follow(followed: Arc<Followed>) {
    loop {
        match followed.follow_once(FOLLOW_WAIT).await {
            Ok(_) => followed.reached(),
            Err(Failure::Unreachable(reason)) => {
                followed.lost(reason);
                followed.voters.rest().await;
            }
            Err(Failure::Final(reason)) => {
                followed.ended.send_replace(Some(reason));
                // the node ends with the metadata
                return std::future::pending().await;
            }
        }
    }
}

/// Learns the addresses of the controllers from the active one: at once, when the membership changes, and from time to
/// time, because a founder of the quorum may have another address without that. It never returns.
async fn learn(followed: Arc<Followed>) {
    let mut changes = followed.memberships.subscribe();
    loop {
        let cluster = followed.voters.cluster_bytes(&followed.image.borrow());
        let asked = followed
            .voters
            .describe(cluster, Instant::now() + ANSWER_DEADLINE);
        let next = match asked.await {
            Ok(quorum) => {
                followed.voters.learn(&quorum);
                LEARN_AGAIN
            }
            // the controllers that are known go on being asked
            Err(_) => LEARN_SOON,
        };
        // when the time has passed, or the membership has changed; the sender lives as long as `followed`
        drop(tokio::time::timeout(next, changes.changed()).await);
    }
}

impl Followed {
    /// The index of the first entry that the image lacks.
    fn next(&self) -> u64 {
        self.last.borrow().map_or(0, |last| last.id.index + 1)
    }

    /// Asks a voter for what follows the own image, and applies it. Returns the index after the last entry that the
    /// voter knows to be committed; `None` after a snapshot. Cancellation safe: entries are applied all or not.
    async fn follow_once(&self, wait: Duration) -> Result<Option<u64>, Failure> {
        let last = *self.last.borrow();
        let follow = Follow {
            last: last.map(|last| LogIdRecord::from(&last.id)),
            checksum: last.and_then(|last| last.checksum),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            cluster: self.voters.cluster_bytes(&self.image.borrow()),
        };
        let reply = self
            .voters
            .ask_long(Call::Follow(follow), wait + ANSWER_DEADLINE)
            .await?;
        match reply {
            Reply::Entries(entries) => self.apply(entries).map(Some),
            Reply::SnapshotNeeded(_) => self.restore().await.map(|()| None),
            _ => Err(Failure::unexpected()),
        }
    }

    /// Applies entries, and publishes the image once.
    fn apply(&self, entries: Entries) -> Result<u64, Failure> {
        let mut next = self.next();
        let mut last = None;
        let mut image = MetadataImage::clone(&self.image.borrow());
        for record in entries.records {
            let entry = log_store::entry(&record).ok_or_else(Failure::unexpected)?;
            if entry.log_id.index != next {
                return Err(Failure::unexpected());
            }
            next += 1;
            last = Some(LastEntry::new(entry.log_id, &record));
            match entry.payload {
                // a refused command changes nothing here either
                EntryPayload::Normal(proposal) => {
                    drop(image.apply(LogIndex(entry.log_id.index), proposal.0));
                }
                EntryPayload::Membership(_) => self.memberships.send_modify(|count| *count += 1),
                EntryPayload::Blank => {}
            }
        }
        if let Some(last) = last {
            self.publish(image, last)?;
        }
        Ok(entries.committed_end.max(next))
    }

    /// Replaces the image by the newest snapshot.
    async fn restore(&self) -> Result<(), Failure> {
        let cluster = self.voters.cluster_bytes(&self.image.borrow());
        let snapshot = RemoteSnapshot::newest(&self.voters, cluster).await?;
        let (meta, image) = match snapshot_store::read(&snapshot).await {
            Ok(read) => read,
            Err(error) => return Err(Failure::Unreachable(reasons(&error))),
        };
        let own = self.last.borrow().map(|last| last.id);
        match meta.last_log_id {
            // terms never go back in one log
            Some(last)
                if own.is_some_and(|own| last.index > own.index && term(last) < term(own)) =>
            {
                Err(voters::diverged())
            }
            Some(last) if own.is_none_or(|own| last.index > own.index) => {
                let checksum = None;
                self.publish(image, LastEntry { id: last, checksum })
            }
            // a voter that lags behind has an older snapshot than this node's image
            _ => Err(Failure::Unreachable(
                "a controller's snapshot is older than this node's metadata".to_owned(),
            )),
        }
    }

    fn publish(&self, image: MetadataImage, last: LastEntry) -> Result<(), Failure> {
        image.check_version().map_err(Failure::Final)?;
        let before = self.image.borrow().cluster();
        self.voters.check(before, image.cluster())?;
        self.image.send_replace(Arc::new(image));
        self.last.send_replace(Some(last));
        Ok(())
    }

    fn lost(&self, reason: String) {
        if self.cut_off.borrow().is_none() {
            tracing::warn!(
                reason,
                "this node hears from no controller; it goes on with the metadata it has"
            );
        }
        self.cut_off.send_replace(Some(reason));
    }

    fn reached(&self) {
        self.voters.succeeded();
        if self.cut_off.send_replace(None).is_some() {
            tracing::info!("this node follows the metadata again");
        }
    }

    /// Waits until the own image includes an index.
    async fn includes(&self, at: LogIndex) {
        let mut last = self.last.subscribe();
        let includes = |last: &Option<LastEntry>| last.is_some_and(|last| last.id.index >= at.0);
        // the sender lives as long as this value
        drop(last.wait_for(includes).await);
    }

    /// Proposes a command to the active controller, wherever that is.
    async fn propose(
        &self,
        command: Command,
        until: Instant,
    ) -> Result<(LogIndex, Result<Outcome, crate::Rejection>), String> {
        let propose = Propose {
            command: Some(command),
            cluster: self.voters.cluster_bytes(&self.image.borrow()),
        };
        let (at, decided) = self.voters.propose(propose, until).await?;
        match timeout_at(until, self.includes(at)).await {
            Ok(()) => Ok((at, decided)),
            Err(_elapsed) => Err(format!(
                "the change is decided, and this node has not seen it yet log_index={}",
                at.0
            )),
        }
    }
}

#[async_trait]
impl MetadataStore for ObserverMetadata {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.followed.image.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.followed.image.subscribe()
    }

    fn leads(&self) -> Option<Term> {
        None
    }

    fn check(&self) -> Result<(), String> {
        match self.cut_off() {
            Some(reason) => Err(format!("no controller is reached: {reason}")),
            None => Ok(()),
        }
    }

    fn has_vote(&self) -> bool {
        false
    }

    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        let bytes = command.encoded_len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge(bytes));
        }
        let until = Instant::now() + PROPOSAL_DEADLINE;
        let decided = self.followed.propose(command, until).await;
        let (at, decided) = decided.map_err(ProposeError::Unavailable)?;
        let outcome = decided.map_err(ProposeError::Rejected)?;
        Ok((at, outcome))
    }

    async fn heartbeat(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        told: Told,
    ) -> Result<Taken, HeartbeatError> {
        let voters = &self.followed.voters;
        let cluster = voters.cluster_bytes(&self.followed.image.borrow());
        let mut heartbeat = Heartbeat::new(node, epoch, cluster, &told);
        heartbeat.log_end = Some(self.followed.next());
        let taken = voters.heartbeat(heartbeat).await;
        taken
            .map_err(HeartbeatError::Unavailable)?
            .ok_or(HeartbeatError::Fenced)
    }

    async fn quorum(&self) -> Result<QuorumState, String> {
        let voters = &self.followed.voters;
        let cluster = voters.cluster_bytes(&self.followed.image.borrow());
        voters
            .describe(cluster, Instant::now() + PROPOSAL_DEADLINE)
            .await
    }

    async fn caught_up(&self) -> Result<(), String> {
        let end = committed_end(self).await?;
        let mut last = self.followed.last.subscribe();
        let has_all = |last: &Option<LastEntry>| last.map_or(0, |last| last.id.index + 1) >= end;
        let caught_up = last.wait_for(has_all).await;
        caught_up.map(drop).map_err(|error| error.to_string())
    }

    async fn change_voters(&self, change: VotersChange) -> Result<(), VotersError> {
        let voters = &self.followed.voters;
        let cluster = voters.cluster_bytes(&self.followed.image.borrow());
        voters
            .change(&change, cluster, Instant::now() + PROPOSAL_DEADLINE)
            .await
    }

    fn heard(&self) -> watch::Receiver<Heard> {
        self.followed.heard.subscribe()
    }

    fn silent(&self) -> Vec<(NodeId, NodeEpoch)> {
        Vec::new()
    }

    fn cut_from_store(&self) -> Vec<(NodeId, NodeEpoch)> {
        Vec::new()
    }

    async fn ended(&self) -> String {
        let mut ended = self.followed.ended.subscribe();
        tokio::select! {
            // the sender lives as long as this value
            Ok(ended) = ended.wait_for(Option::is_some) => ended.clone().unwrap_or_default(),
            (kind, how) = self.tasks.failed() => format!("the task {kind:?} {how}"),
        }
    }

    async fn shutdown(&self) -> Result<(), OpenError> {
        self.tasks.stop().await;
        Ok(())
    }
}
