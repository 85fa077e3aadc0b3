//! Tests of observers, of one voter and of three, in virtual time.

mod silent;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::join_all;
use highwater_io::RealDevice;
use highwater_types::{NodeEpoch, Uuid, WalPosition};
use tempfile::TempDir;

use super::*;
use crate::Standing;
use crate::command::{Action, CreateTopic, FenceEpoch, RegisterNode, Replicas, WalKind};
use crate::raft::fixture::AsTasks;
use crate::raft::node::{Config, Quorum, RaftMetadata};
use crate::raft::voter::Voter;
use crate::transport::Transport;

const CLUSTER: Uuid = Uuid([7; 16]);
const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The voters that can be reached, in one process.
#[derive(Debug, Default)]
struct Net {
    voters: Mutex<BTreeMap<NodeId, Voter>>,
    /// Whether the answers to proposals are lost.
    loses_answers: AtomicBool,
    /// Whether proposals are lost, and nothing resets their connections.
    swallows: AtomicBool,
    /// The voters of which no message arrives any more, nor at them, and nothing resets their connections.
    silent: Mutex<BTreeSet<NodeId>>,
    calls: AtomicUsize,
}

impl Net {
    fn voters(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Voter>> {
        self.voters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silence(&self, voter: NodeId) {
        let silent = self.silent.lock();
        silent.unwrap_or_else(PoisonError::into_inner).insert(voter);
    }

    fn is_silent(&self, voter: NodeId) -> bool {
        let silent = self.silent.lock();
        silent
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&voter)
    }
}

/// The way of one node to the voters.
#[derive(Debug)]
struct Link {
    node: NodeId,
    net: Arc<Net>,
}

#[async_trait]
impl Calls for Link {
    async fn call(&self, to: NodeId, request: Bytes, _within: Duration) -> io::Result<Bytes> {
        self.net.calls.fetch_add(1, Ordering::SeqCst);
        let is_silent = || self.net.is_silent(to) || self.net.is_silent(self.node);
        if is_silent() {
            return std::future::pending().await;
        }
        let voter = self.net.voters().get(&to).cloned();
        let voter = voter.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let decoded = super::super::message::decode::<super::super::message::Request>(&request)?;
        let is_proposal = matches!(decoded.call, Some(Call::Propose(_)));
        if is_proposal && self.net.swallows.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let answer = voter.answer(&request).await;
        if is_silent() {
            return std::future::pending().await;
        }
        match is_proposal && self.net.loses_answers.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => answer,
        }
    }
}

impl Transport for Link {
    fn serve(&self, voter: Voter) {
        self.net.voters().insert(self.node, voter);
    }
}

/// Voters, each with a directory of its own.
struct World {
    dir: TempDir,
    net: Arc<Net>,
    starts: AtomicU64,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            net: Arc::default(),
            starts: AtomicU64::default(),
        }
    }

    async fn voter(&self, node: NodeId, voters: &[NodeId], cluster: Uuid) -> RaftMetadata {
        let dir: &Path = self.dir.path();
        let config = Config {
            dir: dir.join(node.to_string()),
            node,
            cluster,
            seed: self.starts.fetch_add(1, Ordering::SeqCst),
            new_log_seed: [9; 16],
            new_directory_id: Uuid([u8::try_from(node.0).expect("is small"); 16]),
            snapshot_entries: 20,
            snapshot_bytes: 1 << 20,
        };
        let link = Link {
            node,
            net: Arc::clone(&self.net),
        };
        let quorum = Quorum {
            bootstrap: Vec::new(),
            endpoints: BTreeMap::new(),
            session: Duration::from_secs(3),
            voters: voters.iter().copied().collect(),
            transport: Arc::new(link),
        };
        let (device, threads) = (Arc::new(RealDevice), &AsTasks);
        let opened = RaftMetadata::open_in(quorum, config, device, threads).await;
        let opened = opened.expect("opens");
        opened.admit_observers();
        opened
    }

    async fn three_voters(&self) -> BTreeMap<NodeId, RaftMetadata> {
        let opening = VOTERS.map(|node| self.voter(node, &VOTERS, CLUSTER));
        VOTERS.into_iter().zip(join_all(opening).await).collect()
    }

    async fn lone_voter(&self) -> RaftMetadata {
        self.voter(VOTERS[0], &VOTERS[..1], CLUSTER).await
    }

    async fn try_observe(&self, cluster: Option<Uuid>) -> Result<ObserverMetadata, OpenError> {
        let link = Link {
            node: NodeId(9),
            net: Arc::clone(&self.net),
        };
        let observer = Observer {
            voters: VOTERS.into(),
            calls: Arc::new(link),
            cluster,
            rng: SeededRng::from_seed(1),
        };
        in_time(ObserverMetadata::open(observer, |_| {})).await
    }

    async fn observe(&self) -> ObserverMetadata {
        self.try_observe(None).await.expect("opens")
    }
}

async fn in_time<F: Future>(what: F) -> F::Output {
    let done = tokio::time::timeout(PATIENCE, what).await;
    done.expect("it does not wait for ever")
}

fn leader(voters: &BTreeMap<NodeId, RaftMetadata>) -> NodeId {
    let leads = voters.iter().find(|(_, voter)| voter.leads().is_some());
    *leads.expect("one leads").0
}

fn topic(name: &str) -> Command {
    let partition = |stream| Replicas {
        nodes: vec![stream],
    };
    Command::from(Action::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id: name.bytes().chain([0; 16]).take(16).collect(),
        partitions: (1..=3).map(partition).collect(),
        ..CreateTopic::default()
    }))
}

fn register(node: i32, after: u64) -> Command {
    Command::from(Action::RegisterNode(RegisterNode {
        node,
        incarnation: after.to_be_bytes().to_vec(),
        after,
        wal: WalKind::Object.into(),
        ..RegisterNode::default()
    }))
}

async fn until_same(observer: &ObserverMetadata, image: &MetadataImage) {
    let mut images = observer.watch();
    let same = images.wait_for(|own| own.at >= image.at);
    drop(in_time(same).await.expect("lives"));
    // an image is too large to be printed
    assert!(*observer.image() == *image, "the images differ");
}

#[tokio::test(start_paused = true)]
async fn an_observer_has_the_image_of_the_voter_and_the_outcomes_of_its_proposals() {
    let world = World::new();
    let voter = world.lone_voter().await;
    voter.propose(topic("a")).await.expect("creates");
    let observer = world.observe().await;
    assert!(*observer.image() == *voter.image(), "the images differ");
    assert_eq!(observer.image().cluster(), CLUSTER);
    assert_eq!(observer.leads(), None);

    let (at, outcome) = observer.propose(register(4, 0)).await.expect("registers");
    let epoch = NodeEpoch(at.0);
    let start = WalPosition { epoch, at: 0 };
    let registered = Outcome::Registered {
        epoch,
        floor: start,
        confirmed: start,
    };
    assert_eq!(outcome, registered);
    assert!(
        observer.image().node(NodeId(4)).is_some(),
        "its own image has it"
    );
    let refused = observer.propose(topic("a")).await;
    let exists = ProposeError::Rejected(crate::Rejection::TopicExists);
    assert_eq!(refused.expect_err("is refused"), exists);
    // what others propose comes too
    voter.propose(topic("b")).await.expect("creates");
    until_same(&observer, &voter.image()).await;
}

// Each sees its own change at once, and a refusal only after what it was refused for.
#[tokio::test(start_paused = true)]
async fn observers_that_propose_at_once_agree() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observers = join_all((0..3).map(|_| world.observe())).await;
    let rounds = observers.iter().map(|observer| async move {
        let mut won = 0;
        for round in 0..30 {
            let name = format!("topic-{round}");
            match observer.propose(topic(&name)).await {
                Ok(_) => won += 1,
                Err(ProposeError::Rejected(_)) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(observer.image().topic(&name).is_some(), "{name}");
        }
        won
    });
    let won: Vec<i32> = join_all(rounds).await;
    assert_eq!(won.iter().sum::<i32>(), 30, "each topic was created once");
    for observer in &observers {
        until_same(observer, &voter.image()).await;
    }
}

// The log is purged every 20 entries, so that an observer that was cut off needs a snapshot.
#[tokio::test(start_paused = true)]
async fn an_observer_that_was_cut_off_goes_on_and_follows_again() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observer = world.observe().await;
    observer.propose(topic("before")).await.expect("creates");
    let gone = world.net.voters().remove(&VOTERS[0]).expect("is there");
    for number in 0..100 {
        let created = voter.propose(topic(&format!("topic-{number}")));
        created.await.expect("creates");
    }
    voter_has_purged(&gone).await;
    let mut cut_off = observer.followed.cut_off.subscribe();
    drop(
        in_time(cut_off.wait_for(Option::is_some))
            .await
            .expect("lives"),
    );
    assert!(observer.check().is_err());
    let image = observer.image();
    assert!(
        image.topic("before").is_some(),
        "it goes on with what it has"
    );
    // a call that was under way has brought the first of them at most
    assert!(image.topics().count() <= 2);
    world.net.voters().insert(VOTERS[0], gone);
    until_same(&observer, &voter.image()).await;
    drop(
        in_time(cut_off.wait_for(Option::is_none))
            .await
            .expect("lives"),
    );
    observer.check().expect("follows");
    observer.propose(topic("after")).await.expect("creates");
    // one that starts now reads a snapshot too
    let late = world.observe().await;
    assert!(*late.image() == *voter.image(), "the images differ");
}

async fn voter_has_purged(voter: &Voter) {
    let wait = voter.raft.wait(Some(PATIENCE));
    let purged = wait.metrics(
        |metrics| metrics.purged.is_some_and(|purged| purged.index > 20),
        "the log is purged",
    );
    purged.await.expect("purges");
}

// A command whose answer is lost may be decided: it is not sent again, and the caller is told.
#[tokio::test(start_paused = true)]
async fn a_proposal_without_an_answer_is_not_repeated() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observer = world.observe().await;
    world.net.loses_answers.store(true, Ordering::SeqCst);
    let lost = observer.propose(topic("lost")).await;
    let unknown = matches!(lost, Err(ProposeError::Unavailable(_)));
    assert!(unknown, "{lost:?}");
    world.net.loses_answers.store(false, Ordering::SeqCst);
    let again = observer.propose(topic("lost")).await;
    let exists = ProposeError::Rejected(crate::Rejection::TopicExists);
    assert_eq!(again.expect_err("was created once"), exists);
    drop(voter);
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_another_cluster_is_refused_and_the_reason_names_it() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let refused = world.try_observe(Some(Uuid([8; 16]))).await;
    let why = refused.expect_err("is refused").to_string();
    let named = why.contains(&CLUSTER.to_string()) && why.contains("controller.quorum");
    assert!(named, "{why}");
    drop(voter);
}

/// Copies the files of a directory that has no directories but `log`.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("is created");
    for entry in std::fs::read_dir(from).expect("is read") {
        let entry = entry.expect("is read");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("has a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("is copied")),
        }
    }
}

// D2: entries that were committed are lost. The voter leads in the same term as before, and gives its indexes again.
#[tokio::test(start_paused = true)]
async fn an_observer_does_not_follow_a_voter_that_was_replaced_by_an_older_copy() {
    let world = World::new();
    let dir = world.dir.path().join(VOTERS[0].to_string());
    let copied = world.dir.path().join("copy");
    let voter = world.lone_voter().await;
    voter.propose(topic("a")).await.expect("creates");
    voter.shutdown().await.expect("stops");
    copy(&dir, &copied);

    let voter = world.lone_voter().await;
    voter.propose(topic("b")).await.expect("creates");
    let observer = world.observe().await;
    voter.propose(topic("c")).await.expect("creates");
    until_same(&observer, &voter.image()).await;
    world.net.voters().remove(&VOTERS[0]);
    voter.shutdown().await.expect("stops");
    std::fs::remove_dir_all(&dir).expect("is removed");
    copy(&copied, &dir);

    let voter = world.lone_voter().await;
    let mut cut_off = observer.followed.cut_off.subscribe();
    let is_behind = |reason: &Option<String>| {
        let reason = reason.as_ref();
        reason.is_some_and(|reason| reason.contains("replaced by an older one"))
    };
    drop(in_time(cut_off.wait_for(is_behind)).await.expect("lives"));
    assert!(observer.image().topic("c").is_some(), "it keeps its image");
    for name in ["d", "e", "f"] {
        voter.propose(topic(name)).await.expect("creates");
    }
    let why = in_time(observer.ended()).await;
    assert!(why.contains("another history"), "{why}");
    assert!(observer.image().topic("d").is_none());
}

// A voter of another cluster that reads the same address: no request goes without the id.
#[tokio::test(start_paused = true)]
async fn a_snapshot_is_read_by_the_observers_of_its_cluster_only() {
    let world = World::new();
    let voter = world.lone_voter().await;
    for number in 0..40 {
        let created = voter.propose(topic(&format!("topic-{number}")));
        created.await.expect("creates");
    }
    let called = world.net.voters().get(&VOTERS[0]).cloned();
    let called = called.expect("is there");
    voter_has_purged(&called).await;
    let read = |cluster: Uuid| message::ReadSnapshot {
        cluster: cluster.0.to_vec(),
        ..message::ReadSnapshot::default()
    };
    let other = called.read_snapshot(read(Uuid([8; 16]))).await;
    assert!(matches!(other, Ok(Reply::OtherCluster(_))), "{other:?}");
    let own = called.read_snapshot(read(CLUSTER)).await;
    assert!(matches!(own, Ok(Reply::Piece(_))), "{own:?}");
}

// Two processes would have one id: what the one registers would be taken for what the other has.
#[tokio::test(start_paused = true)]
async fn a_broker_does_not_register_with_the_id_of_a_controller() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observer = world.observe().await;
    let refused = observer.propose(register(VOTERS[0].0, 0)).await;
    let reason = ProposeError::Rejected(crate::Rejection::IdOfController(VOTERS[0]));
    assert_eq!(refused.expect_err("is refused"), reason);
    // a node with both roles is one process
    let own = voter.propose(register(VOTERS[0].0, 0)).await;
    own.expect("registers");
}

#[tokio::test(start_paused = true)]
async fn proposals_find_the_leader_among_three_voters_also_when_it_dies() {
    let world = World::new();
    let mut voters = world.three_voters().await;
    let observer = world.observe().await;
    observer.propose(topic("a")).await.expect("creates");
    let leads = leader(&voters);
    world.net.voters().remove(&leads);
    let dead = voters.remove(&leads).expect("is there");
    dead.shutdown().await.expect("stops");
    // the proposal is repeated until another voter leads: nothing was sent to the dead one
    in_time(async {
        while observer.propose(topic("b")).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for voter in voters.values() {
        let mut images = voter.watch();
        let has = images.wait_for(|image| image.topic("b").is_some());
        drop(in_time(has).await.expect("lives"));
    }
    assert!(observer.image().topic("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_proposal_to_a_controller_that_is_gone_ends_once_its_next_start_is_heard() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observer = world.observe().await;
    observer.propose(topic("a")).await.expect("creates");
    world.net.swallows.store(true, Ordering::SeqCst);
    let restart = async {
        voter.shutdown().await.expect("stops");
        drop(voter);
        let voter = world.lone_voter().await;
        world.net.swallows.store(false, Ordering::SeqCst);
        voter
    };
    let proposing = timeout_at(
        Instant::now() + PROPOSAL_DEADLINE / 2,
        observer.propose(topic("b")),
    );
    let (lost, voter) = tokio::join!(proposing, restart);
    let lost = lost.expect("it does not wait for the deadline");
    assert!(
        matches!(&lost, Err(ProposeError::Unavailable(_))),
        "{lost:?}"
    );
    // a command that may have been decided is not repeated
    observer.propose(topic("c")).await.expect("creates");
    assert!(voter.image().topic("b").is_none());
}

// A call that waits is one request in ten seconds, and an entry ends the wait at once.
#[tokio::test(start_paused = true)]
async fn an_idle_observer_asks_seldom() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observer = world.observe().await;
    observer.propose(topic("a")).await.expect("creates");
    let before = world.net.calls.load(Ordering::SeqCst);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(world.net.calls.load(Ordering::SeqCst) <= before + 1);
    drop(voter);
}

// The address in controller.quorum.voters is another voter's.
#[tokio::test(start_paused = true)]
async fn a_voter_refuses_what_is_meant_for_another_one() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let found = world.net.voters()[&VOTERS[0]].clone();
    world.net.voters().clear();
    world.net.voters().insert(VOTERS[1], found);
    let (told, mut reasons) = tokio::sync::mpsc::channel(1);
    let observer = Observer {
        voters: vec![VOTERS[1]],
        calls: Arc::new(Link {
            node: NodeId(9),
            net: Arc::clone(&world.net),
        }),
        cluster: None,
        rng: SeededRng::from_seed(1),
    };
    let opening = ObserverMetadata::open(observer, move |reason| {
        drop(told.try_send(reason.to_owned()))
    });
    let reason = tokio::select! {
        _opened = opening => panic!("it follows another voter than the configured one"),
        reason = in_time(reasons.recv()) => reason.expect("is told"),
    };
    assert_eq!(
        reason,
        "node 2: the node at this address is node 1: check controller.quorum.voters"
    );
    voter.shutdown().await.expect("stops");
}

// E4, E6
#[tokio::test(start_paused = true)]
async fn a_heartbeat_says_how_a_broker_stands_and_learns_that_its_epoch_has_ended() {
    let world = World::new();
    let voter = world.lone_voter().await;
    let observer = world.observe().await;
    let (at, _) = observer.propose(register(4, 0)).await.expect("registers");
    let (node, epoch) = (NodeId(4), NodeEpoch(at.0));
    assert!(!voter.heard().borrow().has(epoch));
    for standing in [Standing::Starting, Standing::Serving, Standing::Leaving] {
        let taken = observer.heartbeat(node, epoch, standing.into()).await;
        taken.expect("the epoch is open");
        let heard = voter.heard().borrow().clone();
        assert!(heard.has(epoch));
        assert_eq!(heard.serves(epoch), standing == Standing::Serving);
        assert_eq!(heard.leaves(epoch), standing == Standing::Leaving);
    }
    // a later controller may have given an epoch that this one has not seen
    let later = NodeEpoch(at.0 + 100);
    let unseen = observer
        .heartbeat(node, later, Standing::Serving.into())
        .await;
    let is_open_question = matches!(&unseen, Err(HeartbeatError::Unavailable(_)));
    assert!(is_open_question, "{unseen:?}");
    let fence = FenceEpoch {
        node: node.0,
        epoch: epoch.0,
    };
    let fenced = voter.propose(Action::FenceEpoch(fence).into()).await;
    fenced.expect("is fenced");
    let answer = observer
        .heartbeat(node, epoch, Standing::Serving.into())
        .await;
    assert_eq!(answer, Err(HeartbeatError::Fenced));
}
