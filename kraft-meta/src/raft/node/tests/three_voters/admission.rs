//! Voters that lost their data directory, or that are configured with other voters.

use openraft::errors::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, VoteRequest};

use super::*;
use crate::raft::message::{Answer, Call, Nothing, Reply, Request, encode};
use crate::raft::record::DirectoryRecord;
use crate::raft::types::Vote;

/// The directory that a node has after it lost its first one.
pub(super) const OTHER: Uuid = Uuid([0xee; 16]);

pub(super) fn id(node: NodeId) -> u64 {
    u64::try_from(node.0).expect("is positive")
}

// D2
#[tokio::test(start_paused = true)]
async fn a_voter_that_lost_its_directory_comes_back_without_a_vote_and_the_others_go_on() {
    let world = World::new();
    let mut voters = world.form().await;
    let leads = leader(&voters).await;
    let lost = NODES.into_iter().find(|node| *node != leads).expect("two");
    until_everywhere(&voters, leads, 1).await;
    let dead = voters.remove(&lost).expect("is there");
    world.kill(lost, dead).await;
    std::fs::remove_dir_all(world.dir(lost)).expect("is lost");

    let again = world.try_open(lost, &NODES, OTHER).await.expect("follows");
    assert_eq!(again.directory(), Some(OTHER));
    assert_eq!(again.voter.voters(), NODES.map(id).into());
    assert!(!again.voter.voters().contains(&again.voter.id));
    voters.insert(lost, again);
    until_everywhere(&voters, leads, 2).await;
    // it is the same replica at its next start
    let follows = voters.remove(&lost).expect("is there");
    world.kill(lost, follows).await;
    let again = world.try_open(lost, &NODES, Uuid([0xdd; 16])).await;
    let again = again.expect("follows");
    assert_eq!(again.directory(), Some(OTHER));
    let told = std::fs::read_to_string(world.dir(lost).join("meta.properties"));
    let told = told.expect("is written for the tools");
    let cluster = again.image().cluster();
    for line in [
        "version=1".to_owned(),
        format!("cluster.id={cluster}"),
        format!("node.id={lost}"),
        format!("directory.id={OTHER}"),
    ] {
        assert!(told.lines().any(|it| it == line), "{told}");
    }
    world.kill(lost, again).await;
    world.kill_all(voters).await;
}

/// Creates a topic, and waits until every voter has it.
pub(super) async fn until_everywhere(
    voters: &BTreeMap<NodeId, RaftMetadata>,
    leads: NodeId,
    number: u8,
) {
    let created = voters[&leads].propose(topic(number, 10)).await;
    created.expect("is taken");
    for metadata in voters.values() {
        until_topic(metadata, &format!("topic-{number}")).await;
    }
}

// D2: a committed entry is on the leader and on one follower. The leader dies and the follower loses its directory. If
// the follower took part again, it would help the third voter to lead, which does not have the entry.
#[tokio::test(start_paused = true)]
async fn a_voter_with_a_new_directory_does_not_vote_while_another_voter_does_not_answer() {
    let world = World::new();
    let mut voters = world.form().await;
    let leads = leader(&voters).await;
    let mut followers = NODES.into_iter().filter(|node| *node != leads);
    let (lost, behind) = (
        followers.next().expect("two"),
        followers.next().expect("two"),
    );
    let away = world.reachable.cut_off(behind).expect("is there");
    let created = voters[&leads].propose(topic(1, 10)).await;
    created.expect("is taken");
    for node in [leads, lost] {
        let dead = voters.remove(&node).expect("is there");
        world.kill(node, dead).await;
    }
    std::fs::remove_dir_all(world.dir(lost)).expect("is lost");
    world.reachable.connect(behind, away);

    let opening = world.try_open(lost, &NODES, OTHER);
    match tokio::time::timeout(PATIENCE, opening).await {
        // it waits for the leader, which may know it
        Err(_elapsed) => {}
        Ok(opened) => panic!("{opened:?}"),
    }
    let behind = &voters[&behind];
    assert_eq!(behind.leads(), None);
    assert!(behind.image().topic("topic-1").is_none());
    world.kill_all(voters).await;
}

#[tokio::test(start_paused = true)]
async fn new_voters_wait_for_each_other_in_any_order_and_form_one_cluster() {
    for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]].map(|order| order.map(NodeId)) {
        let world = World::new();
        // each has another id for the cluster in mind
        let open = |number: usize| {
            let (node, world) = (order[number], &world);
            async move {
                let after = PATIENCE * u32::try_from(number).expect("is small");
                tokio::time::sleep(after).await;
                let cluster = Uuid([u8::try_from(number).expect("is small") + 1; 16]);
                let opened = world.open_as(node, &NODES, directory(node), cluster).await;
                (opened.expect("opens"), tokio::time::Instant::now())
            }
        };
        let begin = tokio::time::Instant::now();
        let opened = futures::join!(open(0), open(1), open(2));
        let opened = [opened.0, opened.1, opened.2];
        let clusters = opened.each_ref().map(|(voter, _)| voter.image().cluster());
        assert!(!clusters[0].is_zero());
        assert_eq!(clusters, [clusters[0]; 3]);
        for (_, at) in &opened {
            assert!(
                *at >= begin + 2 * PATIENCE,
                "none is open before the last has started"
            );
        }
        for (node, (voter, _)) in order.into_iter().zip(opened) {
            world.kill(node, voter).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_voters_in_the_log_win_over_those_in_the_configuration() {
    let world = World::new();
    let voters = world.form().await;
    world.kill_all(voters).await;
    let configured = [NodeId(1), NodeId(2)];
    let opened = join_all(NODES.map(|node| world.try_open(node, &configured, OTHER))).await;
    for (node, opened) in NODES.into_iter().zip(opened) {
        let opened = opened.expect("opens");
        assert_eq!(opened.voter.voters(), NODES.map(id).into());
        world.kill(node, opened).await;
    }
}

#[tokio::test(start_paused = true)]
async fn new_voters_that_are_configured_differently_do_not_form_a_quorum() {
    let world = World::new();
    let two = [NodeId(1), NodeId(2)];
    let (first, second) = futures::join!(
        world.try_open(NodeId(1), &two, directory(NodeId(1))),
        world.try_open(NodeId(2), &NODES, directory(NodeId(2))),
    );
    for (opened, own, others) in [(first, "1,2", "1,2,3"), (second, "1,2,3", "1,2")] {
        let why = reasons(&opened.expect_err("is refused"));
        let other = format!("has the voters {others}, and");
        let configured = format!("configured with the voters {own}:");
        assert!(why.contains(&other) && why.contains(&configured), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_voter_with_another_directory_and_of_no_voter_is_refused() {
    let world = World::new();
    let voters = world.form().await;
    let candidate = Vote::new(100, 2);
    let campaign = VoteRequest::<Types>::new(candidate, None);
    for (sender, why) in [
        (
            Some(DirectoryRecord::new(2, OTHER)),
            "was lost or exchanged",
        ),
        (Some(DirectoryRecord::new(9, OTHER)), "no other voter"),
        (Some(DirectoryRecord::new(1, OTHER)), "no other voter"),
        (None, "no other voter"),
    ] {
        let call = Call::Vote((&campaign).into());
        let request = Request::new(call, sender, NodeId(1));
        let request = encode(&request).expect("fits");
        let refused = voters[&NodeId(1)].voter.answer(&request).await;
        let refused = refused.expect_err("is refused").to_string();
        assert!(refused.contains(why), "{sender:?}: {refused}");
    }
    world.kill_all(voters).await;
}

/// Answers each call as a voter that exchanged its directory in between.
#[derive(Debug, Default)]
struct Exchanged(Mutex<u8>);

impl Transport for Exchanged {
    fn serve(&self, _voter: Voter) {}
}

#[async_trait]
impl Calls for Exchanged {
    async fn call(&self, to: NodeId, _request: Bytes, _within: Duration) -> io::Result<Bytes> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls += 1;
        encode(&Answer {
            reply: Some(Reply::Done(Nothing {})),
            from: Some(DirectoryRecord::new(id(to), Uuid([*calls; 16]))),
            process: 1,
            leads: None,
        })
    }
}

#[tokio::test]
async fn an_answer_from_another_directory_than_before_does_not_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let metadata = open(dir.path()).await;
    let mut network = metadata.voter.network.clone();
    network.transport = Arc::new(Exchanged::default());
    let mut peer = network.peer(2);
    let heartbeat = || AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let option = || RPCOption::new(PATIENCE);
    let answered = peer.append_entries(heartbeat(), option()).await;
    answered.expect("counts");
    let refused = peer.append_entries(heartbeat(), option()).await;
    let refused = refused.expect_err("does not count");
    assert!(matches!(refused, RPCError::Unreachable(_)));
    assert!(
        refused.to_string().contains("was lost or exchanged"),
        "{refused}"
    );
    metadata.shutdown().await.expect("stops");
}

#[tokio::test]
async fn directories_are_remembered_after_a_purge_and_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let metadata = open(dir.path()).await;
    let log = &metadata.voter.log;
    let own = log.own_directory(1).expect("takes part");
    let other = log.remember(DirectoryRecord::new(2, OTHER)).await;
    other.expect("is durable");
    // more than a file of the log, so that the first file is let go of
    for id in 1..=9 {
        metadata.propose(large_topic(id)).await.expect("creates");
    }
    until_purged(&metadata).await;
    metadata.shutdown().await.expect("stops");
    let metadata = open(dir.path()).await;
    let log = &metadata.voter.log;
    assert_eq!(log.own_directory(1), Some(own));
    assert_eq!(log.known_directory(2), Some(OTHER));
    assert_eq!(log.known_directory(3), None);
    metadata.shutdown().await.expect("stops");
}
