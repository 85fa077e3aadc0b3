//! A voter: what other nodes call, and how commands are decided.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use highwater_types::{LogIndex, NodeEpoch, NodeId, Term};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::{Raft, ServerState};
use prost::Message;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::log_store::LogStore;
use super::message::{
    Answer, Append, Call, Introduce, Introduced, Nothing, Reply, Request, decode, encode, malformed,
};
use super::network::Network;
use super::node::{LOG_BYTES_FACTOR, Waiting};
use super::record::DirectoryRecord;
use super::replica;
use super::snapshot_store::SnapshotStore;
use super::state_store::StateStore;
use super::types::{Proposal, Types};
use crate::MetadataVersion;
use crate::command::{Action, Command, Endpoint, Outcome, RegisterNode, Rejection};
use crate::error::ProposeError;
use crate::image::MetadataImage;
use crate::sessions::{Heard, Sessions, Taken, Told};
use crate::transport::{COMMAND_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

/// How long a proposal waits until a quorum has taken it: less than the 30 s that Kafka's clients wait.
const DECISION_DEADLINE: Duration = Duration::from_secs(20);
/// How long a controller has to say which versions of the metadata its program knows.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// Answers the calls of other nodes; cheap to clone. The calls come by [`Transport`](crate::Transport).
#[derive(Clone)]
pub struct Voter {
    pub(super) raft: Raft<Types, StateStore>,
    pub(super) log: LogStore,
    pub(super) snapshots: SnapshotStore,
    pub(super) snapshot_bytes: u64,
    /// The node.
    pub(super) node: NodeId,
    /// The id of this replica in Raft.
    pub(super) id: u64,
    /// The voters with which this one is configured, itself among them; none if it joins a quorum.
    pub(super) founders: Arc<BTreeSet<u64>>,
    /// The configured addresses of controllers, its own among them.
    pub(super) endpoints: Arc<BTreeMap<NodeId, Vec<Endpoint>>>,
    /// Its one permit is held by the change of the membership that is under way.
    pub(super) changing: Arc<Semaphore>,
    /// When this replica last took something of a leader.
    pub(super) led: Arc<Mutex<Option<Instant>>>,
    /// How long no other voter can lead after a quorum has acknowledged a leader.
    pub(super) lease: Duration,
    pub(super) image: watch::Receiver<Arc<MetadataImage>>,
    /// The index after the last entry that is applied, and so committed.
    pub(super) applied_end: watch::Receiver<u64>,
    pub(super) waiting: Arc<Waiting>,
    /// When this voter heard from brokers, while it leads.
    pub(super) sessions: Arc<Mutex<Sessions>>,
    /// A number that tells the starts of this voter apart.
    pub(super) process: u64,
    /// What brokers said of themselves, while it leads.
    pub(super) heard: watch::Sender<Heard>,
    /// How far observers said that they have the metadata, and when, while this voter leads.
    pub(super) observers: Arc<Mutex<BTreeMap<NodeId, (u64, Instant)>>>,
    /// The last term in which this voter was asked for the state of the quorum while it led, and when it first was.
    pub(super) asked_first: Arc<Mutex<Option<(Term, Instant)>>>,
    /// Since when this voter, while it leads, has had no room to decide anything.
    pub(super) unable_since: Arc<Mutex<Option<Instant>>>,
    /// Whether observers are served.
    pub(super) admits: Arc<AtomicBool>,
    /// The way to the other controllers.
    pub(super) network: Network,
}

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undecided {
    /// This voter is not the active controller; the node that is, if it is known. Nothing was proposed.
    NotLeader(Option<u64>),
    /// The command is larger than [`COMMAND_BYTES_MAX`]: its bytes. Nothing was proposed.
    TooLarge(usize),
    /// The command may be decided or not; the reason.
    Unavailable(String),
}

impl From<Undecided> for ProposeError {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::TooLarge(bytes) => Self::TooLarge(bytes),
            undecided => Self::Unavailable(undecided.to_string()),
        }
    }
}

impl Display for Undecided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLeader(Some(leader)) => write!(
                f,
                "this node is not the active controller, node {leader} is"
            ),
            Self::NotLeader(None) => f.write_str("there is no active controller"),
            Self::TooLarge(bytes) => write!(f, "the command has {bytes} bytes"),
            Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

impl Debug for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Voter")
    }
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Voter {
    /// Answers a request that another node sent. An answered append is durable here.
    ///
    /// # Errors
    /// The request is malformed, too large or meant for another voter, this voter has ended, or it can't take more
    /// entries for now. The data directory of either voter is not the one by which the other knows it, or this voter does not take part yet.
    pub async fn answer(&self, request: &[u8]) -> io::Result<Bytes> {
        let Request {
            call,
            from,
            to,
            process,
            replica,
            cluster,
        } = decode::<Request>(request)?;
        let call = call.ok_or_else(|| malformed("it is empty"))?;
        // a call for entries waits for half a minute, and so would the memory that it holds; a load is kept
        let is_small = matches!(call, Call::Follow(_) | Call::Heartbeat(_));
        if is_small && request.len() > SMALL_MESSAGE_BYTES_MAX {
            let why = "it asks for entries or is a heartbeat, and is too large for that";
            return Err(malformed(why));
        }
        call.check_reached(self.raft.metrics().borrow_watched().current_term)?;
        if to.is_some_and(|to| NodeId(to) != self.node) {
            let why = format!(
                "the node at this address is node {}: check controller.quorum.voters",
                self.node
            );
            return Err(io::Error::new(io::ErrorKind::NotConnected, why));
        }
        if replica.is_some_and(|replica| replica != self.id) {
            let why = "the node at this address has another data directory than the controller that is called";
            return Err(io::Error::new(io::ErrorKind::NotConnected, why));
        }
        if process.is_some_and(|process| process != self.process) {
            let why = "the controller has started again";
            return Err(io::Error::new(io::ErrorKind::NotConnected, why));
        }
        let own = match call {
            Call::Join(_) => None,
            // an observer has no data directory that would have to be known
            Call::Follow(_)
            | Call::ReadSnapshot(_)
            | Call::Propose(_)
            | Call::Heartbeat(_)
            | Call::Describe(_)
            | Call::ChangeVoters(_)
            | Call::Introduce(_)
                if from.is_none_or(|from| self.is_own(from)) =>
            {
                None
            }
            _ => Some(self.meet(from, &cluster).await?),
        };
        let mut reply = self.reply(call, from).await?;
        if let Reply::NotLeader(not) = &mut reply {
            let leader = self.raft.metrics().borrow_watched().current_leader;
            let stored = self.stored();
            let endpoints = leader.map(|leader| self.endpoints_of(leader, stored.membership()));
            not.endpoints = endpoints.unwrap_or_default();
        }
        encode(&Answer {
            reply: Some(reply),
            from: own,
            process: self.process,
            leads: self.leads().map(|term| term.0),
        })
    }

    /// Whether a request comes from the process of this voter.
    fn is_own(&self, from: DirectoryRecord) -> bool {
        from.node == self.id && self.log.own_directory(self.id) == Some(from.id())
    }

    /// Remembers the sender's directory, and returns this voter's own. The sender is a controller that this one knows, or
    /// of the same cluster: a voter that was away takes part with others that were added meanwhile. A replica without a
    /// log takes one from any leader.
    async fn meet(
        &self,
        from: Option<DirectoryRecord>,
        cluster: &[u8],
    ) -> io::Result<DirectoryRecord> {
        let own = self.log.own_directory(self.id).ok_or_else(|| {
            let why = "its data directory is new, and it has not yet asked every voter whether it had another one";
            io::Error::new(io::ErrorKind::NotConnected, why)
        })?;
        let known = self.image.borrow().cluster();
        let is_of_cluster = match known.is_zero() {
            true => !replica::is_founder(self.id),
            false => cluster == known.0,
        };
        let is_other = |from: &DirectoryRecord| {
            from.node != self.id && (is_of_cluster || self.knows(from.node))
        };
        let from = from.filter(is_other);
        let from = from.ok_or_else(|| malformed("its sender is no other voter"))?;
        self.log.remember(from).await?;
        Ok(DirectoryRecord::new(self.id, own))
    }

    fn introduced(&self, Introduce { node }: Introduce) -> Introduced {
        let known = self.log.known_directory(node);
        let stored = self.stored();
        Introduced {
            known: known.map(|id| DirectoryRecord::new(node, id)),
            voters: self.voters_in(stored.membership()).into_iter().collect(),
            is_formed: stored.membership().voter_ids().next().is_some(),
            metadata_version: MetadataVersion::NEWEST.record(),
        }
    }

    async fn reply(&self, call: Call, from: Option<DirectoryRecord>) -> io::Result<Reply> {
        Ok(match call {
            Call::Append(append) => self.append(append).await?,
            Call::Vote(campaign) => {
                let voted = self.raft.vote(campaign.request()?).await;
                voted.map_err(failed)?.into()
            }
            Call::PreVote(campaign) => {
                let voted = self.raft.pre_vote(campaign.request()?).await;
                voted.map_err(failed)?.into()
            }
            Call::TransferLeader(transfer) => {
                let asked = self.raft.handle_transfer_leader(transfer.request()?).await;
                asked.map_err(failed)?.map_err(failed)?;
                Reply::Done(Nothing {})
            }
            Call::Install(install) => self.install(install).await?,
            Call::Introduce(introduce) => Reply::Introduced(self.introduced(introduce)),
            Call::Follow(_) | Call::ReadSnapshot(_) | Call::Propose(_) | Call::Heartbeat(_)
                if !self.admits.load(Ordering::Acquire) =>
            {
                let why = "the controller is still starting";
                return Err(io::Error::new(io::ErrorKind::NotConnected, why));
            }
            Call::Follow(follow) => self.follow(follow).await?,
            Call::ReadSnapshot(read) => self.read_snapshot(read).await?,
            Call::Propose(propose) => self.propose_for(propose, from).await?,
            Call::Heartbeat(heartbeat) => self.heartbeat_of(&heartbeat),
            Call::Describe(describe) => self.describe_to(&describe),
            Call::ChangeVoters(change) => self.change_for(change).await?,
            Call::Join(join) => self.join(from, join).await?,
        })
    }

    /// Appends a leader's entries. A follower takes entries by the same rules as a leader takes commands: none on a
    /// full disk, and no more than four times the bytes after which a snapshot is due (D3). It always answers a
    /// heartbeat.
    async fn append(&self, append: Append) -> io::Result<Reply> {
        let bytes = append.entries_bytes();
        if bytes > 0 && self.log.is_full_for(bytes) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk is full",
            ));
        }
        if bytes > 0 && self.is_too_long() {
            self.ask_for_snapshot().await;
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "its log waits for a snapshot",
            ));
        }
        let appended = self.raft.append_entries(append.request()?).await;
        let appended = appended.map_err(failed)?;
        if !matches!(appended, AppendEntriesResponse::HigherVote(_)) {
            let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
            *led = Some(Instant::now());
        }
        if self.log.has_outgrown(self.snapshot_bytes) {
            self.ask_for_snapshot().await;
        }
        Ok(appended.into())
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.log.bytes() >= self.snapshot_bytes.saturating_mul(LOG_BYTES_FACTOR)
    }

    pub(super) async fn ask_for_snapshot(&self) {
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::warn!(%error, "cannot ask for a snapshot of the metadata");
        }
    }

    pub(super) fn is_running(&self) -> bool {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().running_state.is_ok()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term in which this voter leads. It leads only while a quorum has acknowledged it within its lease: a leader
    /// that is cut off from the other voters does not know whether another one leads.
    pub(super) fn leads(&self) -> Option<Term> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let is_leader = metrics.running_state.is_ok() && metrics.state == ServerState::Leader;
        (is_leader && self.is_acknowledged(&metrics)).then_some(Term(metrics.current_term))
    }

    /// The refusal of a voter that does not lead; it names the voter that does, if that is another one.
    pub(super) fn not_leader(&self) -> Undecided {
        let metrics = self.raft.metrics();
        let leader = metrics.borrow_watched().current_leader;
        Undecided::NotLeader(leader.filter(|leader| *leader != self.id))
    }

    /// Takes a heartbeat; `None` if the epoch is not open. An epoch that is not open according to an image that has
    /// its registration was fenced for good.
    pub(super) fn heartbeat(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        told: Told,
    ) -> Result<Option<Taken>, Undecided> {
        let Some(term) = self.leads() else {
            return Err(self.not_leader());
        };
        let image = Arc::clone(&self.image.borrow());
        if image.at().0 < epoch.0 {
            let why = "the controller has not seen yet that the node has registered";
            return Err(Undecided::Unavailable(why.to_owned()));
        }
        let is_open = image.node(node).is_some_and(|node| node.is_open(epoch));
        if !is_open {
            return Ok(None);
        }
        let (now, tells_store) = (Instant::now(), told.store.is_some());
        let session = {
            let mut sessions = self.sessions();
            sessions.heard(term, epoch, now);
            sessions.length()
        };
        let is_live = |epoch| image.live().any(|(_, live)| live == epoch);
        self.heard
            .send_if_modified(|heard| heard.note((term, now), epoch, told, is_live));
        let must_look = tells_store && self.heard.borrow().must_look(session, now);
        Ok(Some(Taken { must_look }))
    }

    /// The open epochs whose brokers don't reach the store although others do, if this voter leads (E8).
    pub(super) fn cut_from_store(&self) -> Vec<(NodeId, NodeEpoch)> {
        let Some(term) = self.leads() else {
            return Vec::new();
        };
        let mut sessions = self.sessions();
        let cut_off = sessions.cut_from_store(term, &self.heard.borrow(), Instant::now());
        drop(sessions);
        let image = Arc::clone(&self.image.borrow());
        // a fence that was decided is not repeated
        let live = image.live().filter(|(_, epoch)| cut_off.contains(epoch));
        live.collect()
    }

    /// The open epochs whose session is over, if this voter leads (E6).
    pub(super) fn silent(&self) -> Vec<(NodeId, NodeEpoch)> {
        let Some(term) = self.leads() else {
            return Vec::new();
        };
        let image = Arc::clone(&self.image.borrow());
        // a node has one open epoch at most, its last (E2)
        let open: BTreeMap<NodeEpoch, NodeId> =
            image.live().map(|(id, epoch)| (epoch, id)).collect();
        let epochs = open.keys().copied().collect();
        let own = open.iter().find(|(_, node)| **node == self.node);
        let own = own.map(|(epoch, _)| *epoch);
        let silent = self.sessions().silent(term, &epochs, own, Instant::now());
        let silent = silent.into_iter();
        silent
            .filter_map(|epoch| Some((*open.get(&epoch)?, epoch)))
            .collect()
    }

    /// The epoch because of which a start may not register yet: it has another data directory, or the same one at another
    /// place, which is a copy, and its session lives (E2). The broker in the process of the only voter does not wait,
    /// because its earlier process was that voter, and has ended.
    fn in_session(&self, register: &RegisterNode) -> Option<NodeEpoch> {
        let term = self.leads()?;
        let image = Arc::clone(&self.image.borrow());
        let node = image.node(NodeId(register.node))?;
        let is_own = self.is_alone() && NodeId(register.node) == self.node;
        let is_other = !is_own && node.incarnation != register.incarnation && !node.is_at(register);
        let lives =
            node.is_live() && is_other && self.sessions().lives(term, node.epoch, Instant::now());
        lives.then_some(node.epoch)
    }

    /// The open epoch of a node that was heard within its session.
    fn hears(&self, node: NodeId) -> Option<NodeEpoch> {
        let term = self.leads()?;
        let image = Arc::clone(&self.image.borrow());
        let node = image.node(node).filter(|node| node.is_live())?;
        let lives = self.sessions().lives(term, node.epoch, Instant::now());
        lives.then_some(node.epoch)
    }

    /// The refusal of a version of the metadata that a controller does not know, or does not say that it knows.
    async fn older_than(&self, version: MetadataVersion) -> Option<Rejection> {
        let stored = self.stored();
        let members = stored.membership().nodes().map(|(id, _)| *id);
        let asked = members.map(async |id| {
            let newest = match id == self.id {
                true => Some(MetadataVersion::NEWEST),
                false => {
                    let answer = self.network.introduced(id, ASKED_WITHIN).await;
                    let read = |answer: Introduced| MetadataVersion::read(answer.metadata_version);
                    answer.ok().map(read)
                }
            };
            let node = replica::node_id(id);
            newest
                .is_none_or(|newest| newest < version)
                .then_some(Rejection::OlderNode { node, newest })
        });
        join_all(asked).await.into_iter().flatten().next()
    }

    /// Checks that there is an active controller, as far as this one knows, and that this one is well; the error says why
    /// not.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_own()?;
        let led = *self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let is_led = led.is_some_and(|at| at.elapsed() < self.lease * 2);
        match is_led || self.leads().is_some() {
            true => Ok(()),
            false => Err(
                "there is no active controller, as far as this one knows: more than half of the voters have to run and \
                 reach each other"
                    .to_owned(),
            ),
        }
    }

    /// Checks that this controller can take commands and entries; the error says why not.
    pub(super) fn check_own(&self) -> Result<(), String> {
        if self.log.has_ended() || !self.is_running() {
            return Err("it has ended".to_owned());
        }
        match self.lacks() {
            _ if self.log.is_full_for(0) => Err("the disk is full".to_owned()),
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Waits until nothing can be decided or learned any more; returns the reason.
    pub(super) async fn ended(&self) -> String {
        let wait = self.raft.wait(None);
        let stopped = wait.metrics(|metrics| metrics.running_state.is_err(), "it has ended");
        tokio::select! {
            // the log comes first: its failure ends the library too, and the library's error says less
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

    /// Proposes a command once the log has room for it, and waits for what is decided.
    pub(super) async fn propose(
        &self,
        command: Command,
    ) -> Result<(LogIndex, Result<Outcome, Rejection>), Undecided> {
        let bytes = command.encoded_len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(Undecided::TooLarge(bytes));
        }
        self.yield_if_unable().await;
        if !self.is_alone() && self.leads().is_none() && self.is_running() {
            return Err(self.not_leader());
        }
        if let Some(Action::RegisterNode(register)) = &command.action
            && let Some(epoch) = self.in_session(register)
        {
            return Ok((LogIndex::default(), Err(Rejection::InSession(epoch))));
        }
        if let Some(Action::GiveUpEpoch(give_up)) = &command.action
            && let Some(epoch) = self.hears(NodeId(give_up.node))
        {
            return Ok((LogIndex::default(), Err(Rejection::InSession(epoch))));
        }
        if let Some(Action::SetMetadataVersion(set)) = &command.action
            && let Some(older) = self.older_than(MetadataVersion::read(set.version)).await
        {
            return Ok((LogIndex::default(), Err(older)));
        }
        self.turn(bytes).await?;
        let until = Instant::now() + DECISION_DEADLINE;
        let mut deciding = pin!(self.decide(command));
        loop {
            if let Ok(decided) = timeout(self.lease, &mut deciding).await {
                return decided;
            }
            // a leader that loses its quorum decides nothing until it hears from the others again
            let has_quorum = self.leads().is_some();
            if !has_quorum || Instant::now() >= until {
                let why = "no quorum of the voters has taken the command in time";
                return Err(Undecided::Unavailable(why.to_owned()));
            }
        }
    }

    /// Proposes a command, however large the log is, and waits for what is decided.
    pub(super) async fn decide(
        &self,
        command: Command,
    ) -> Result<(LogIndex, Result<Outcome, Rejection>), Undecided> {
        if self.log.is_full_for(command.encoded_len()) {
            return Err(Undecided::Unavailable("the disk is full".to_owned()));
        }
        let written = tokio::select! {
            biased;
            written = self.raft.client_write(Proposal(command)) => written,
            _ = self.log.ended() => return Err(Undecided::Unavailable(self.ended().await)),
        };
        let response = match written {
            Ok(response) => response,
            // the library answers each command only that it has ended; its metrics hold the reason
            Err(RaftError::Fatal(_)) => {
                return Err(Undecided::Unavailable(self.ended().await));
            }
            // the command is in no log; the library says otherwise that its outcome is unknown
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                let leader = forward.leader_id.filter(|leader| *leader != self.id);
                return Err(Undecided::NotLeader(leader));
            }
            Err(error) => return Err(Undecided::Unavailable(error.to_string())),
        };
        if self.log.has_outgrown(self.snapshot_bytes) {
            self.ask_for_snapshot().await;
        }
        Ok((LogIndex(response.log_id.index), response.data.0))
    }
}
