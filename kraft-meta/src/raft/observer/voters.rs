//! The voters as an observer reaches them: which of them it asks, and how it asks again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_runtime::Backoff;
use highwater_types::{ClusterId, LogIndex, NodeId, Uuid};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::described::Describe;
use super::message::{Heartbeat, NotLeader, Piece, Propose, ReadSnapshot};
use super::{ANSWER_DEADLINE, HEARTBEAT_DEADLINE, Observer};
use crate::command::{Endpoint, Outcome, Rejection};
use crate::image::MetadataImage;
use crate::quorum_state::QuorumState;
use crate::raft::log_store::LogStore;
use crate::raft::message::{Answer, Call, Reply, Request, decode, encode};
use crate::raft::record::DirectoryRecord;
use crate::raft::snapshot_store::Source;
use crate::sessions::Taken;

/// The first and the longest wait between two attempts.
const REST: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How long a call waits for its answer, at least, before it ends because another voter leads; and how often a proposal
/// that waits looks for that voter.
const LOOK: Duration = Duration::from_secs(1);

/// The error of an answer that is of another kind.
pub(super) const UNEXPECTED: &str = "a controller sent an answer to another request";
/// The error of a call that no voter has taken.
pub(super) const NO_ACTIVE: &str = "no controller that was asked is the active one";

/// Why a voter gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) enum Failure {
    /// The voter can't be reached, or has an error of its own: another attempt may succeed.
    Unreachable(String),
    /// No attempt will succeed.
    Final(String),
}

impl Failure {
    /// A voter sent what this release does not understand.
    pub(super) fn unexpected() -> Self {
        Self::Final("a controller sent what this release does not understand".to_owned())
    }
}

/// The way to the active controller, and to any voter.
#[derive(Debug)]
pub(in crate::raft) struct Voters {
    observer: Observer,
    /// The log of the voter that calls, and its id; none if an observer calls.
    voter: Option<(u64, LogStore)>,
    state: Mutex<State>,
    /// The start of each voter that answered last.
    processes: watch::Sender<BTreeMap<NodeId, u64>>,
    /// The voter that was the active controller of the highest term so far, by its own answers.
    active: watch::Sender<Option<Active>>,
}

/// A voter that has answered as the active controller.
#[derive(Debug, Clone, Copy)]
struct Active {
    voter: NodeId,
    term: u64,
    /// When it last answered.
    heard: Instant,
}

#[derive(Debug)]
struct State {
    /// The voters, in any order.
    nodes: Vec<NodeId>,
    /// The addresses of voters that others have told.
    told: BTreeMap<NodeId, Vec<Endpoint>>,
    /// The voter that is asked next, an index.
    at: usize,
    backoff: Backoff,
}

impl Voters {
    pub(super) fn new(observer: Observer) -> Self {
        Self::called_by(observer, None)
    }

    /// The voters, itself among them, as one of them calls them on behalf of its own process.
    pub(in crate::raft) fn of_voter(observer: Observer, id: u64, log: LogStore) -> Self {
        Self::called_by(observer, Some((id, log)))
    }

    fn called_by(observer: Observer, voter: Option<(u64, LogStore)>) -> Self {
        let backoff = Backoff::new(REST.0, REST.1, observer.rng.clone());
        let nodes = observer.voters.clone();
        let state = State {
            nodes,
            told: BTreeMap::new(),
            at: 0,
            backoff,
        };
        Self {
            observer,
            voter,
            state: Mutex::new(state),
            processes: watch::Sender::default(),
            active: watch::Sender::default(),
        }
    }

    /// The sender of each request, if it is a voter.
    fn sender(&self) -> Option<DirectoryRecord> {
        let (id, log) = self.voter.as_ref()?;
        Some(DirectoryRecord::new(*id, log.own_directory(*id)?))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The voter that is asked.
    fn current(&self) -> Option<NodeId> {
        let state = self.state();
        let at = state.at.checked_rem(state.nodes.len())?;
        state.nodes.get(at).copied()
    }

    /// Asks these voters from now on. The one that is asked now goes on being asked if it is among them.
    pub(in crate::raft) fn know(&self, nodes: Vec<NodeId>) {
        let current = self.current();
        let at = nodes.iter().position(|node| Some(*node) == current);
        let mut state = self.state();
        state.nodes = nodes;
        state.at = at.unwrap_or(0);
    }

    /// Asks the voters of a quorum from now on, at the addresses that it tells, and after them those that are configured.
    /// A node that is configured with its id is where the configuration says, unless the metadata has another address.
    pub(super) fn learn(&self, quorum: &QuorumState) {
        let configured = &self.observer.voters;
        let known = quorum
            .voters
            .iter()
            .filter(|voter| !voter.endpoints.is_empty());
        let told = known.filter(|voter| voter.is_recorded || !configured.contains(&voter.node));
        let told: BTreeMap<_, _> = told
            .map(|voter| (voter.node, voter.endpoints.clone()))
            .collect();
        self.observer.calls.learn(&told);
        self.state().told.clone_from(&told);
        let voters = quorum.voters.iter().map(|voter| voter.node);
        let voters = voters.filter(|node| told.contains_key(node) || configured.contains(node));
        let mut nodes: Vec<NodeId> = voters.collect();
        let others = configured.iter().filter(|node| !nodes.contains(node));
        let others: Vec<NodeId> = others.copied().collect();
        nodes.extend(others);
        self.know(nodes);
    }

    fn count(&self) -> usize {
        self.state().nodes.len()
    }

    /// Asks another voter from now on, if `failed` is the one that is asked now.
    fn turn_from(&self, failed: NodeId) {
        if self.current() == Some(failed) {
            let mut state = self.state();
            state.at = state.at.wrapping_add(1);
        }
    }

    /// Asks this voter from now on, if it is one.
    pub(in crate::raft) fn turn_to(&self, node: NodeId) -> bool {
        let mut state = self.state();
        let at = state.nodes.iter().position(|voter| *voter == node);
        if let Some(at) = at {
            state.at = at;
        }
        at.is_some()
    }

    /// Asks the voter from now on that another one names as the one that leads.
    fn turn_to_named(&self, not: &NotLeader) -> Option<NodeId> {
        let leader = not.leader.map(NodeId)?;
        if self.turn_to(leader) {
            return Some(leader);
        }
        if not.endpoints.is_empty() {
            return None;
        }
        let told = {
            let mut state = self.state();
            state.nodes.push(leader);
            state.told.insert(leader, not.endpoints.clone());
            state.told.clone()
        };
        self.observer.calls.learn(&told);
        self.turn_to(leader).then_some(leader)
    }

    pub(super) fn succeeded(&self) {
        self.state().backoff = Backoff::new(REST.0, REST.1, self.observer.rng.clone());
    }

    /// Waits before the next attempt. Cancellation safe.
    pub(super) async fn rest(&self) {
        let wait = self.state().backoff.next_wait();
        sleep(wait).await;
    }

    /// The cluster as requests name it: the configured one, or the one that the image has.
    pub(in crate::raft) fn cluster_bytes(&self, image: &MetadataImage) -> Vec<u8> {
        let known = self.observer.cluster.unwrap_or(image.cluster());
        match known.is_zero() {
            true => Vec::new(),
            false => known.0.to_vec(),
        }
    }

    /// Refuses an image of another cluster than the configured one, or than the image `before`.
    pub(super) fn check(&self, before: ClusterId, cluster: ClusterId) -> Result<(), Failure> {
        let own = self.observer.cluster.unwrap_or(before);
        let is_other = !own.is_zero() && !cluster.is_zero() && cluster != own;
        match is_other || (cluster.is_zero() && !before.is_zero()) {
            true => Err(other_cluster(cluster)),
            false => Ok(()),
        }
    }

    /// Asks one voter, and another one the next time if this one fails. Cancellation safe.
    pub(super) async fn ask(&self, call: Call, within: Duration) -> Result<Reply, Failure> {
        self.ask_voter(self.asked()?, call, within).await
    }

    /// Asks one voter something that it may answer late. If another voter answers meanwhile as the active controller,
    /// that one is asked instead: the host of the former one may be gone without a word. The request must be one that
    /// may be repeated. Cancellation safe.
    pub(super) async fn ask_long(&self, call: Call, within: Duration) -> Result<Reply, Failure> {
        loop {
            let voter = self.asked()?;
            // both arms are cancellation safe
            tokio::select! {
                biased;
                reply = self.ask_voter(voter, call.clone(), within) => return reply,
                leader = self.another_leads(voter) => drop(self.turn_to(leader)),
            }
        }
    }

    fn asked(&self) -> Result<NodeId, Failure> {
        let missing = || Failure::Final("no controller is configured".to_owned());
        self.current().ok_or_else(missing)
    }

    async fn ask_voter(
        &self,
        voter: NodeId,
        call: Call,
        within: Duration,
    ) -> Result<Reply, Failure> {
        let request = encode(&Request::new(call, self.sender(), voter));
        let request = request.map_err(|error| Failure::Final(error.to_string()))?;
        match self.call(voter, request, within).await {
            Ok(Reply::OtherCluster(other)) => {
                let cluster = Uuid(other.cluster.try_into().unwrap_or_default());
                Err(other_cluster(cluster))
            }
            Ok(Reply::Diverged(_)) => Err(diverged()),
            Ok(Reply::Behind(behind)) => {
                self.turn_from(voter);
                Err(Failure::Unreachable(format!(
                    "node {voter}: it has less of the metadata's log than this node, up to index {} only: it lags behind, \
                     or its data directory was replaced by an older one",
                    behind.committed_end
                )))
            }
            Ok(reply) => Ok(reply),
            Err(error) => {
                self.turn_from(voter);
                Err(Failure::Unreachable(format!("node {voter}: {error}")))
            }
        }
    }

    async fn call(&self, to: NodeId, request: Bytes, within: Duration) -> io::Result<Reply> {
        let called = timeout(within, self.observer.calls.call(to, request, within)).await;
        let answered = called.map_err(|_elapsed| {
            let why = format!("no answer within {within:?}");
            io::Error::new(io::ErrorKind::TimedOut, why)
        })?;
        let answer = decode::<Answer>(&answered?)?;
        self.processes
            .send_if_modified(|known| known.insert(to, answer.process) != Some(answer.process));
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "the answer is empty");
        let reply = answer.reply.ok_or_else(missing)?;
        if let Some(term) = answer.leads
            && !matches!(reply, Reply::OtherCluster(_))
        {
            self.note_active(to, term);
        }
        Ok(reply)
    }

    fn note_active(&self, voter: NodeId, term: u64) {
        let heard = Instant::now();
        self.active.send_if_modified(|known| {
            let is_current = known.is_none_or(|known| known.term <= term);
            if is_current {
                *known = Some(Active { voter, term, heard });
            }
            is_current
        });
    }

    /// Resolves when a voter other than `asked` has answered as the active controller, at the earliest after [`LOOK`]:
    /// by then a voter that lives has passed the call on. Returns the voter that leads. Cancellation safe.
    async fn another_leads(&self, asked: NodeId) -> NodeId {
        let from = Instant::now() + LOOK;
        let mut active = self.active.subscribe();
        let is_other = |active: &Option<Active>| {
            active.is_some_and(|active| active.voter != asked && active.heard >= from)
        };
        let other = active.wait_for(is_other).await.ok();
        let other = other.and_then(|active| active.map(|active| active.voter));
        match other {
            Some(voter) => voter,
            // the sender lives as long as this value
            None => std::future::pending().await,
        }
    }

    /// Asks the voters beside `asked` whether they lead, one after the other; what they answer is noted. Cancellation
    /// safe.
    async fn look_beside(&self, asked: NodeId, cluster: Vec<u8>) -> Infallible {
        let mut voter = asked;
        loop {
            sleep(LOOK).await;
            voter = self.next_after(voter);
            if voter == asked {
                // a single voter is asked itself: it may have started again
                voter = self.next_after(voter);
            }
            let cluster = cluster.clone();
            let call = Call::Describe(Describe { cluster });
            if let Ok(request) = encode(&Request::new(call, self.sender(), voter)) {
                drop(self.call(voter, request, HEARTBEAT_DEADLINE).await);
            }
        }
    }

    /// The start of a voter that answered last.
    fn process(&self, of: NodeId) -> Option<u64> {
        self.processes.borrow().get(&of).copied()
    }

    /// Resolves when a voter has answered after another start than the known one, or than the first one that answers.
    /// Cancellation safe.
    async fn started_again(&self, voter: NodeId, mut known: Option<u64>) {
        let mut processes = self.processes.subscribe();
        let is_other = |processes: &BTreeMap<NodeId, u64>| {
            let now = processes.get(&voter).copied();
            known = known.or(now);
            now.is_some() && now != known
        };
        // the sender lives as long as this value
        drop(processes.wait_for(is_other).await);
    }

    /// Finds the active controller and proposes a command to it; the error says why nothing was decided, or that this
    /// is unknown. A command that may have been proposed is not sent again.
    pub(in crate::raft) async fn propose(
        &self,
        propose: Propose,
        until: Instant,
    ) -> Result<(LogIndex, Result<Outcome, Rejection>), String> {
        let mut backoff = Backoff::new(REST.0, REST.1, self.observer.rng.clone());
        let mut to = self.current().ok_or("no controller is configured")?;
        let cluster = propose.cluster.clone();
        // how often it was passed on since the last rest: for a moment two voters may name each other
        let mut passed_on = 0;
        let mut request = Request::new(Call::Propose(propose), self.sender(), to);
        loop {
            request.to = Request::named(to);
            request.process = self.process(to);
            let encoded = encode(&request).map_err(|error| error.to_string())?;
            let called = self.call_until((to, request.process), encoded, &cluster, until);
            let why = match called.await {
                Ok(Reply::Decided(decided)) => {
                    let outcome = decided.outcome.and_then(|outcome| outcome.decided());
                    let outcome = outcome.ok_or("a controller sent an unknown outcome")?;
                    return Ok((LogIndex(decided.at), outcome));
                }
                Ok(Reply::Unavailable(unavailable)) => return Err(unavailable.reason),
                Ok(Reply::NotLeader(not)) => {
                    if passed_on < self.count()
                        && let Some(leader) = self.turn_to_named(&not)
                        && leader != to
                    {
                        passed_on += 1;
                        to = leader;
                        continue;
                    }
                    format!("node {to} is not the active controller, and names none that leads")
                }
                Ok(Reply::OtherCluster(_)) => {
                    return Err(format!("node {to} belongs to another cluster"));
                }
                Ok(_) => return Err(UNEXPECTED.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    // it may have started again
                    self.processes.send_modify(|known| {
                        known.remove(&to);
                    });
                    format!("node {to} is not reached: {error}")
                }
                Err(error) => return Err(format!("node {to}: {error}")),
            };
            self.turn_from(to);
            let wait = backoff.next_wait();
            if Instant::now() + wait >= until {
                return Err(why);
            }
            sleep(wait).await;
            passed_on = 0;
            to = self.next_after(to);
        }
    }

    /// Sends a proposal to a start of a voter. The host of a controller may be gone without a word: when this node
    /// hears from the next start of the controller, whatever it asked, or from another voter that leads, the wait for
    /// an answer of the former one is over. Cancellation safe.
    async fn call_until(
        &self,
        (to, process): (NodeId, Option<u64>),
        request: Bytes,
        cluster: &[u8],
        until: Instant,
    ) -> io::Result<Reply> {
        let left = until.saturating_duration_since(Instant::now());
        // every arm is cancellation safe
        let why = tokio::select! {
            biased;
            called = self.call(to, request, left) => return called,
            () = self.started_again(to, process) => "it has started again".to_owned(),
            leader = self.another_leads(to) => {
                self.turn_to(leader);
                format!("node {leader} leads in its place")
            }
            never = self.look_beside(to, cluster.to_vec()) => match never {},
        };
        Err(io::Error::other(format!("{why}, and its answer is lost")))
    }

    /// Sends a heartbeat to the active controller; `None` if the epoch is not open. A voter that does not lead passes it on
    /// by its answer; after an error it is not repeated here: the next one may go to another voter. Cancellation safe.
    pub(in crate::raft) async fn heartbeat(&self, it: Heartbeat) -> Result<Option<Taken>, String> {
        let call = Call::Heartbeat(it);
        Ok(match self.ask_active(&call, HEARTBEAT_DEADLINE).await? {
            Reply::Done(_) => Some(Taken { must_look: false }),
            Reply::Look(_) => Some(Taken { must_look: true }),
            Reply::Fenced(_) => None,
            _ => return Err(UNEXPECTED.to_owned()),
        })
    }

    /// Asks the active controller for the state of the quorum.
    pub(in crate::raft) async fn describe(
        &self,
        cluster: Vec<u8>,
        until: Instant,
    ) -> Result<QuorumState, String> {
        let call = Call::Describe(Describe { cluster });
        let mut backoff = Backoff::new(REST.0, REST.1, self.observer.rng.clone());
        loop {
            let why = match self.ask_active(&call, ANSWER_DEADLINE).await {
                Ok(Reply::Described(described)) => return Ok(described.into()),
                Ok(_) => return Err(UNEXPECTED.to_owned()),
                Err(why) => why,
            };
            let wait = backoff.next_wait();
            if Instant::now() + wait >= until {
                return Err(why);
            }
            sleep(wait).await;
        }
    }

    /// Asks the active controller: a voter that does not lead passes the call on by its answer.
    pub(super) async fn ask_active(&self, call: &Call, within: Duration) -> Result<Reply, String> {
        // one of those that are asked may name another one
        for _ in 0..=self.count() {
            match self.ask(call.clone(), within).await {
                Ok(Reply::NotLeader(not)) => {
                    let turned = self.turn_to_named(&not).is_some();
                    if let (false, Some(asked)) = (turned, self.current()) {
                        self.turn_from(asked);
                    }
                }
                Ok(Reply::Unavailable(unavailable)) => return Err(unavailable.reason),
                Ok(reply) => return Ok(reply),
                Err(Failure::Unreachable(why) | Failure::Final(why)) => return Err(why),
            }
        }
        Err(NO_ACTIVE.to_owned())
    }

    /// The voter after this one.
    fn next_after(&self, node: NodeId) -> NodeId {
        let voters = &self.state().nodes;
        let at = voters.iter().position(|voter| *voter == node);
        let next = at.map_or(voters.first(), |at| voters.get((at + 1) % voters.len()));
        next.copied().unwrap_or(node)
    }
}

fn other_cluster(cluster: ClusterId) -> Failure {
    Failure::Final(format!(
        "the controllers belong to cluster {cluster}, and this node to another: check controller.quorum.voters and \
         controller.quorum.bootstrap.servers"
    ))
}

/// The log of the controllers is another one than the log that this node has followed.
pub(super) fn diverged() -> Failure {
    Failure::Final(
        "the controllers have another history of the metadata than this node has followed: entries that they had \
         committed are lost, for example because a controller's data directory was replaced by an older one"
            .to_owned(),
    )
}

/// The snapshot of a voter, which is read part by part.
pub(super) struct RemoteSnapshot<'a> {
    voters: &'a Voters,
    /// The observer's cluster, as requests name it.
    cluster: Vec<u8>,
    /// The last entry that it covers.
    last: u64,
    bytes: u64,
}

impl<'a> RemoteSnapshot<'a> {
    pub(super) async fn newest(voters: &'a Voters, cluster: Vec<u8>) -> Result<Self, Failure> {
        let read = ReadSnapshot {
            cluster: cluster.clone(),
            ..ReadSnapshot::default()
        };
        let piece = piece(voters, read).await?;
        Ok(Self {
            voters,
            cluster,
            last: piece.last,
            bytes: piece.bytes_total,
        })
    }
}

async fn piece(voters: &Voters, read: ReadSnapshot) -> Result<Piece, Failure> {
    let call = Call::ReadSnapshot(read);
    match voters.ask(call, ANSWER_DEADLINE).await? {
        Reply::Piece(piece) => Ok(piece),
        Reply::SnapshotNeeded(_) => Err(Failure::Unreachable(
            "the snapshot was replaced by a newer one".to_owned(),
        )),
        _ => Err(Failure::unexpected()),
    }
}

#[async_trait]
impl Source for RemoteSnapshot<'_> {
    async fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    async fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let read = ReadSnapshot {
            last: Some(self.last),
            from: offset,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            cluster: self.cluster.clone(),
        };
        match piece(self.voters, read).await {
            Ok(piece) if piece.bytes.len() == bytes => Ok(piece.bytes),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Failure::Unreachable(why) | Failure::Final(why)) => Err(io::Error::other(why)),
        }
    }

    fn path(&self) -> String {
        "the snapshot of a controller".to_owned()
    }
}
