//! Tests of three voters in one process, in virtual time.

mod admission;
mod changes;
mod snapshots;
mod unable;
mod versions;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteRequest;
use prost::Message;

use super::*;
use crate::Standing;
use crate::command::Endpoint;
use crate::raft::fixture::AsTasks;
use crate::raft::message::{Answer, Call, Reply, Request, decode, encode};
use crate::raft::types::{LeaderId, LogId, Types, Vote};
use crate::raft::voter::Undecided;
use crate::transport::{
    COMMAND_BYTES_MAX, Calls, MESSAGE_BYTES_MAX, NoTransport, SMALL_MESSAGE_BYTES_MAX, Transport,
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// The voters that can be reached, by node.
#[derive(Debug, Default)]
struct Reachable {
    voters: Mutex<BTreeMap<NodeId, Voter>>,
    /// Parts of snapshots arrive with a bit changed.
    damages_snapshots: AtomicBool,
    /// The parts of snapshots that were sent.
    parts: AtomicU64,
    /// How long entries are under way, in milliseconds; heartbeats arrive at once.
    append_ms: AtomicU64,
    /// The newest version of the metadata that controllers tell others; 0 for what they know.
    tells: AtomicI32,
}

impl Reachable {
    fn voter(&self, node: NodeId) -> Option<Voter> {
        let voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        voters.get(&node).cloned()
    }

    fn cut_off(&self, node: NodeId) -> Option<Voter> {
        let mut voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        voters.remove(&node)
    }

    fn connect(&self, node: NodeId, voter: Voter) {
        let mut voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        voters.insert(node, voter);
    }
}

/// The transport of one node to the others in this process.
#[derive(Debug)]
struct InProcess {
    node: NodeId,
    reachable: Arc<Reachable>,
}

impl Transport for InProcess {
    fn serve(&self, voter: Voter) {
        self.reachable.connect(self.node, voter);
    }
}

#[async_trait]
impl Calls for InProcess {
    async fn call(&self, to: NodeId, request: Bytes, _within: Duration) -> io::Result<Bytes> {
        let unreachable = || io::Error::from(io::ErrorKind::NotConnected);
        self.reachable.voter(self.node).ok_or_else(unreachable)?;
        // a negative number is the address of a controller whose id is not configured
        let voter = self.reachable.voter(NodeId(to.0.abs()));
        let voter = voter.ok_or_else(unreachable)?;
        let request = self.reachable.passed(request).await;
        let answer = voter.answer(&request).await?;
        Ok(self.reachable.told(answer))
    }
}

impl Reachable {
    /// What arrives of a request, and when.
    async fn passed(&self, request: Bytes) -> Bytes {
        let mut decoded = decode::<Request>(&request).expect("is sound");
        if matches!(&decoded.call, Some(Call::Append(append)) if append.has_entries()) {
            let takes = self.append_ms.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(takes)).await;
        }
        let Some(Call::Install(install)) = &mut decoded.call else {
            return request;
        };
        assert!(install.bytes.len() <= 1 << 20, "a part is bounded");
        self.parts.fetch_add(1, Ordering::SeqCst);
        if self.damages_snapshots.load(Ordering::SeqCst) {
            let mut bytes = install.bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            install.bytes = bytes.into();
        }
        encode(&decoded).expect("fits")
    }

    /// What arrives of an answer.
    fn told(&self, answer: Bytes) -> Bytes {
        let tells = self.tells.load(Ordering::SeqCst);
        if tells == 0 {
            return answer;
        }
        let mut decoded = decode::<Answer>(&answer).expect("is sound");
        if let Some(Reply::Introduced(introduced)) = &mut decoded.reply {
            introduced.metadata_version = tells;
        }
        encode(&decoded).expect("fits")
    }
}

/// Three voters, each with a directory of its own.
struct World {
    dir: tempfile::TempDir,
    reachable: Arc<Reachable>,
    starts: AtomicU64,
    /// The faults of each node's disk.
    faults: BTreeMap<NodeId, Arc<Faults>>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            reachable: Arc::default(),
            starts: AtomicU64::new(1),
            faults: NODES.map(|node| (node, Arc::default())).into(),
        }
    }

    fn dir(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    async fn open(&self, node: NodeId) -> RaftMetadata {
        let opened = self.try_open(node, &NODES, directory(node)).await;
        opened.expect("opens")
    }

    /// Opens a voter as configured; its data directory gets the id if it is new.
    async fn try_open(
        &self,
        node: NodeId,
        voters: &[NodeId],
        new_directory_id: Uuid,
    ) -> Result<RaftMetadata, OpenError> {
        let cluster = Uuid([7; 16]);
        self.open_as(node, voters, new_directory_id, cluster).await
    }

    /// Opens a voter that gives this id to a cluster which it forms.
    async fn open_as(
        &self,
        node: NodeId,
        voters: &[NodeId],
        new_directory_id: Uuid,
        cluster: ClusterId,
    ) -> Result<RaftMetadata, OpenError> {
        let config = Config {
            cluster,
            ..self.config(node, new_directory_id)
        };
        let quorum = self.quorum(node, voters, &[]);
        let faults = self.faults.get(&node).cloned().unwrap_or_default();
        let device = FaultyDevice::new(Arc::new(RealDevice), faults);
        RaftMetadata::open_in(quorum, config, Arc::new(device), &AsTasks).await
    }

    fn config(&self, node: NodeId, new_directory_id: Uuid) -> Config {
        Config {
            dir: self.dir(node),
            node,
            cluster: Uuid([7; 16]),
            // each start has another one
            seed: self.starts.fetch_add(1, Ordering::SeqCst),
            new_log_seed: [9; 16],
            new_directory_id,
            snapshot_entries: 5000,
            snapshot_bytes: SNAPSHOT_BYTES,
        }
    }

    /// The quorum as a node is configured with it: voters, or addresses of other nodes.
    fn quorum(&self, node: NodeId, voters: &[NodeId], bootstrap: &[NodeId]) -> Quorum {
        let transport = InProcess {
            node,
            reachable: Arc::clone(&self.reachable),
        };
        Quorum {
            session: Duration::from_secs(3),
            voters: voters.iter().copied().collect(),
            bootstrap: bootstrap.iter().map(|node| NodeId(-node.0)).collect(),
            endpoints: voters
                .iter()
                .chain([&node])
                .map(|it| (*it, endpoints(*it)))
                .collect(),
            transport: Arc::new(transport),
        }
    }

    async fn form(&self) -> BTreeMap<NodeId, RaftMetadata> {
        let opened = join_all(NODES.map(|node| self.open(node))).await;
        NODES.into_iter().zip(opened).collect()
    }

    /// Stops a voter as a crash does: the others no longer reach it.
    async fn kill(&self, node: NodeId, metadata: RaftMetadata) {
        self.reachable.cut_off(node);
        metadata.shutdown().await.expect("stops");
    }

    async fn kill_all(&self, voters: BTreeMap<NodeId, RaftMetadata>) {
        for (node, metadata) in voters {
            self.kill(node, metadata).await;
        }
    }
}

/// The address of a node.
fn endpoints(node: NodeId) -> Vec<Endpoint> {
    vec![Endpoint {
        listener: "CONTROLLER".to_owned(),
        host: format!("controller-{node}"),
        port: 9093,
    }]
}

/// The id of the first data directory of a node.
fn directory(node: NodeId) -> Uuid {
    Uuid([u8::try_from(node.0).expect("is small"); 16])
}

/// Whether a voter leads and has been acknowledged by a quorum.
fn may_decide(metrics: &openraft::RaftMetrics<Types>) -> bool {
    metrics.state == openraft::ServerState::Leader && metrics.last_quorum_acked.is_some()
}

/// The voter that leads.
async fn leader(voters: &BTreeMap<NodeId, RaftMetadata>) -> NodeId {
    let waits = voters.iter().map(|(node, metadata)| {
        let wait = metadata.voter.raft.wait(Some(PATIENCE));
        Box::pin(async move {
            let leads = wait.metrics(may_decide, "leads").await;
            leads.map(|_| *node)
        })
    });
    let (node, _) = futures::future::select_ok(waits).await.expect("one leads");
    node
}

async fn until_topic(metadata: &RaftMetadata, name: &str) {
    let mut images = metadata.watch();
    let has = images.wait_for(|image| image.topic(name).is_some());
    drop(tokio::time::timeout(PATIENCE, has).await.expect("comes"));
}

#[tokio::test(start_paused = true)]
async fn three_voters_that_start_at_once_form_a_quorum_and_a_follower_proposes_to_the_leader() {
    let world = World::new();
    let voters = world.form().await;
    let leads = leader(&voters).await;
    voters[&leads]
        .propose(topic(1, 10))
        .await
        .expect("is taken");
    for (node, metadata) in &voters {
        until_topic(metadata, "topic-1").await;
        assert_eq!(metadata.image().cluster(), Uuid([7; 16]));
        metadata.admit_observers();
        assert_eq!(metadata.leads().is_some(), *node == leads);
    }
    for (node, metadata) in &voters {
        let id = u8::try_from(node.0).expect("is small") + 1;
        let (at, _) = metadata.propose(topic(id, 10)).await.expect("is taken");
        let image = metadata.image();
        assert!(image.at() >= at && image.topic(&format!("topic-{id}")).is_some());
        // a refusal comes from there too
        let refused = metadata.propose(topic(id, 10)).await;
        assert!(
            matches!(refused, Err(ProposeError::Rejected(_))),
            "{refused:?}"
        );
    }
    world.kill_all(voters).await;
}

#[tokio::test(start_paused = true)]
async fn another_voter_leads_when_the_leader_dies_and_the_dead_one_catches_up() {
    let world = World::new();
    let mut voters = world.form().await;
    let first = leader(&voters).await;
    voters[&first]
        .propose(topic(1, 10))
        .await
        .expect("is taken");
    let dead = voters.remove(&first).expect("is there");
    world.kill(first, dead).await;
    let second = leader(&voters).await;
    assert_ne!(first, second);
    voters[&second]
        .propose(topic(2, 10))
        .await
        .expect("is taken");

    // A start returns when the image has the commands that were committed while the voter was dead.
    let again = world.open(first).await;
    let image = again.image();
    assert!(image.topic("topic-1").is_some() && image.topic("topic-2").is_some());
    world.kill(first, again).await;
    world.kill_all(voters).await;
}

// Large entries go in several messages; a single entry that is larger than the bound on entries goes alone.
#[tokio::test(start_paused = true)]
async fn a_voter_that_was_dead_gets_large_entries_in_bounded_messages() {
    let world = World::new();
    let mut voters = world.form().await;
    let leads = leader(&voters).await;
    let dies = NODES.into_iter().find(|node| *node != leads).expect("two");
    let dead = voters.remove(&dies).expect("is there");
    world.kill(dies, dead).await;
    for id in 1..=3 {
        voters[&leads]
            .propose(large_topic(id))
            .await
            .expect("is taken");
    }
    let again = world.open(dies).await;
    for id in 1..=3 {
        until_topic(&again, &format!("topic-{id}")).await;
    }
    world.kill(dies, again).await;
    world.kill_all(voters).await;
}

// The bound on a command is the one on a message: the followers get the largest one, and a larger one is in no log.
#[tokio::test(start_paused = true)]
async fn a_command_that_no_message_can_carry_is_refused_before_it_is_in_the_log() {
    let world = World::new();
    let voters = world.form().await;
    let leads = &voters[&leader(&voters).await];
    let rest = topic(1, COMMAND_BYTES_MAX).encoded_len() - COMMAND_BYTES_MAX;
    let largest = topic(1, COMMAND_BYTES_MAX - rest);
    assert_eq!(largest.encoded_len(), COMMAND_BYTES_MAX);
    let taken = tokio::time::timeout(PATIENCE, leads.propose(largest)).await;
    taken.expect("is carried").expect("is taken");
    for metadata in voters.values() {
        until_topic(metadata, "topic-1").await;
    }
    let at = leads.image().at();
    let refused = leads.propose(topic(2, COMMAND_BYTES_MAX - rest + 1)).await;
    let too_large = ProposeError::TooLarge(COMMAND_BYTES_MAX + 1);
    assert_eq!(refused, Err(too_large));
    let (next, _) = leads.propose(topic(2, 1)).await.expect("is taken");
    assert_eq!(next, LogIndex(at.0 + 1));
    world.kill_all(voters).await;
}

#[tokio::test]
async fn a_message_that_is_malformed_or_too_large_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let metadata = open(dir.path()).await;
    let too_large = vec![0; MESSAGE_BYTES_MAX + 1];
    // it would wait with all its memory
    let cluster = [&[0x1a, 0x80, 0x08][..], &[0; SMALL_MESSAGE_BYTES_MAX]].concat();
    let follow = Message::decode(&cluster[..]).expect("is sound");
    let waits = encode(&Request {
        call: Some(Call::Follow(follow)),
        ..Request::default()
    });
    let waits = waits.expect("is small enough to be sent");
    for message in [&[][..], &[0xff; 20], &[0x0a, 0], &too_large, &waits] {
        let refused = metadata
            .voter
            .answer(message)
            .await
            .expect_err("is refused");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
    }
    metadata.check().expect("is well");
    metadata.shutdown().await.expect("stops");
}

// The highest of all terms would be kept for ever, and the library's sums overflow at it.
#[tokio::test]
async fn a_term_or_an_index_that_nobody_can_have_reached_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let metadata = open(dir.path()).await;
    let term = metadata.leads().expect("leads").0;
    let call = |term: u64, index: u64| {
        let id = LogId::new(LeaderId { term, node_id: 2 }, index);
        let mut request = VoteRequest::<Types>::new(Vote::new(term, 2), Some(id));
        request.leadership_transfer = true;
        encode(&Request {
            call: Some(Call::Vote((&request).into())),
            ..Request::default()
        })
    };
    for (term, index) in [(u64::MAX, 1), (term + (1 << 33), 1), (term, u64::MAX)] {
        let request = call(term, index).expect("is small");
        let refused = metadata.voter.answer(&request).await;
        let refused = refused.expect_err("is refused").to_string();
        assert!(refused.contains("no node has reached"), "{refused}");
    }
    assert_eq!(metadata.leads().map(|term| term.0), Some(term));
    metadata.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_lone_voter_that_is_asked_for_another_says_so() {
    let call = NoTransport.call(NodeId(2), Bytes::new(), Duration::from_secs(1));
    let refused = call.await.expect_err("is refused").to_string();
    assert!(
        refused.contains("the only voter") && refused.contains('2'),
        "{refused}"
    );
}

// E6: a broker that the old leader hears must turn to the new one
#[tokio::test(start_paused = true)]
async fn a_leader_that_no_quorum_hears_leads_no_more_before_another_one_leads() {
    let world = World::new();
    let voters = world.form().await;
    let first = leader(&voters).await;
    assert!(voters[&first].leads().is_some());
    let away = world.reachable.cut_off(first).expect("is there");
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut second = None;
    while second.is_none() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let leads = voters.iter().filter(|(_, voter)| voter.leads().is_some());
        let leads: Vec<NodeId> = leads.map(|(node, _)| *node).collect();
        assert!(leads.len() < 2, "{leads:?}");
        second = leads.into_iter().find(|node| *node != first);
    }
    let second = second.expect("another one leads");

    // what is proposed to the old leader is in no log, and so may be proposed to the new one
    let last = voters[&first].voter.log.ends();
    let refused = voters[&first].voter.propose(topic(1, 10)).await;
    assert!(
        matches!(refused, Err(Undecided::NotLeader(None))),
        "{refused:?}"
    );
    let heard = voters[&first]
        .voter
        .heartbeat(NodeId(1), NodeEpoch(1), Standing::Serving.into());
    assert!(
        matches!(heard, Err(Undecided::NotLeader(None))),
        "{heard:?}"
    );
    assert_eq!(voters[&first].silent(), []);
    assert_eq!(voters[&first].voter.log.ends(), last);
    world.reachable.connect(first, away);
    voters[&second].admit_observers();
    voters[&first]
        .propose(topic(1, 10))
        .await
        .expect("is taken");
    until_topic(&voters[&second], "topic-1").await;
    world.kill_all(voters).await;
}

// the others may have committed entries that the leader itself had not written when its power failed: in the same term it
// would give their indexes to other entries
#[tokio::test(start_paused = true)]
async fn a_leader_that_starts_again_leads_only_in_a_later_term() {
    let world = World::new();
    let mut voters = world.form().await;
    let term = |metadata: &RaftMetadata| {
        let metrics = metadata.voter.raft.metrics();
        metrics.borrow_watched().current_term
    };
    let led = leader(&voters).await;
    let metadata = voters.remove(&led).expect("is there");
    let before = term(&metadata);
    world.kill_all(voters).await;
    world.kill(led, metadata).await;
    let voters = world.form().await;
    let leads = leader(&voters).await;
    assert!(term(&voters[&leads]) > before);
    world.kill_all(voters).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over_at_once() {
    let world = World::new();
    let mut voters = world.form().await;
    for round in 1..=2 {
        let stops = leader(&voters).await;
        let stopping = voters.remove(&stops).expect("is there");
        let lease = stopping.voter.lease;
        let begin = tokio::time::Instant::now();
        stopping.shutdown().await.expect("stops");
        world.reachable.cut_off(stops);
        let next = leader(&voters).await;
        assert!(
            begin.elapsed() < lease / 4,
            "the others did not wait for it"
        );
        voters[&next]
            .propose(topic(round, 10))
            .await
            .expect("is taken");
        let again = world.open(stops).await;
        voters.insert(stops, again);
    }
    world.kill_all(voters).await;
}
