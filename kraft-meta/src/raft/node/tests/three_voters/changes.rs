//! Voters that are added, removed and replaced.

use std::collections::BTreeSet;

use super::admission::{OTHER, id, until_everywhere};
use super::*;
use crate::quorum_state::{VotersChange, VotersError};
use crate::raft::change::message::Join;
use crate::raft::message::Reply;
use crate::raft::record::DirectoryRecord;
use crate::raft::replica;

impl World {
    /// Opens a controller that is configured with the addresses of others alone.
    async fn follow(&self, node: NodeId, others: &[NodeId], directory: Uuid) -> RaftMetadata {
        let quorum = self.quorum(node, &[], others);
        let config = self.config(node, directory);
        let opened = RaftMetadata::open_in(quorum, config, Arc::new(RealDevice), &AsTasks).await;
        opened.expect("follows")
    }
}

fn add(node: NodeId, directory: Uuid) -> VotersChange {
    VotersChange::Add {
        node,
        directory,
        endpoints: endpoints(node),
        within: Duration::from_secs(10),
        awaits_commit: true,
    }
}

fn remove(node: NodeId, directory: Uuid) -> VotersChange {
    VotersChange::Remove { node, directory }
}

fn nodes(metadata: &RaftMetadata) -> Vec<i32> {
    let voters = metadata.voter.voters().into_iter();
    voters.map(|id| replica::node_id(id).0).collect()
}

/// Waits until a controller has these voters in its log.
async fn until_voters(metadata: &RaftMetadata, expected: &[NodeId]) {
    let expected: BTreeSet<NodeId> = expected.iter().copied().collect();
    let wait = metadata.voter.raft.wait(Some(PATIENCE));
    let has = |metrics: &openraft::RaftMetrics<Types>| {
        let voters = metrics.membership_config.membership().voter_ids();
        voters.map(replica::node_id).collect::<BTreeSet<_>>() == expected
    };
    wait.metrics(has, "has the voters").await.expect("has them");
}

async fn until_all_have(members: &BTreeMap<NodeId, RaftMetadata>, expected: &[NodeId]) {
    for metadata in members.values() {
        until_voters(metadata, expected).await;
    }
}

fn admit(members: &BTreeMap<NodeId, RaftMetadata>) {
    for metadata in members.values() {
        metadata.admit_observers();
    }
}

const FOUR: [NodeId; 4] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4)];
const FIVE: [NodeId; 5] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5)];

// KIP-853
#[tokio::test(start_paused = true)]
async fn a_fourth_and_a_fifth_voter_are_added_while_commands_are_proposed() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    for (node, expected) in [(NodeId(4), &FOUR[..]), (NodeId(5), &FIVE[..])] {
        let joins = world.follow(node, &NODES, directory(node)).await;
        joins.admit_observers();
        assert!(!nodes(&joins).contains(&node.0));
        members.insert(node, joins);
        // it is asked of any controller
        let asked = &members[&NodeId(1)];
        let numbers = u8::try_from(node.0).expect("is small") * 10..;
        let proposing = async {
            for number in numbers.take(8) {
                asked.propose(topic(number, 10)).await.expect("is taken");
            }
        };
        let change = add(node, directory(node));
        let (changed, ()) = futures::join!(members[&NodeId(2)].change_voters(change), proposing);
        changed.expect("is added");
        until_all_have(&members, expected).await;
        let again = members[&NodeId(3)].change_voters(add(node, OTHER)).await;
        assert!(matches!(again, Err(VotersError::Duplicate(_))), "{again:?}");
    }
    // all five count: three go on without the other two, and both of these were there from the beginning
    for node in [NodeId(1), NodeId(2)] {
        let dead = members.remove(&node).expect("is there");
        world.kill(node, dead).await;
    }
    let leads = leader(&members).await;
    until_everywhere(&members, leads, 1).await;
    world.kill_all(members).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_voter_follows_without_a_vote_and_may_be_added_again() {
    let world = World::new();
    let members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let gone = NODES.into_iter().find(|node| *node != leads).expect("two");
    let left: Vec<NodeId> = NODES.into_iter().filter(|node| *node != gone).collect();
    let wrong = members[&gone].change_voters(remove(gone, OTHER)).await;
    assert!(matches!(wrong, Err(VotersError::NotFound(_))), "{wrong:?}");
    let removed = members[&gone]
        .change_voters(remove(gone, directory(gone)))
        .await;
    removed.expect("is removed");
    until_all_have(&members, &left).await;
    let state = members[&gone].quorum().await.expect("is told");
    assert_eq!(state.voters.len(), 2);
    assert!(
        state
            .observers
            .iter()
            .any(|it| it.node == gone && it.directory == directory(gone))
    );
    until_everywhere(&members, leads, 1).await;
    let added = members[&gone]
        .change_voters(add(gone, directory(gone)))
        .await;
    added.expect("is added");
    until_all_have(&members, &NODES).await;
    assert_eq!(
        members[&leads].voter.voters(),
        NODES.map(id).into(),
        "with its former id"
    );
    world.kill_all(members).await;
}

#[tokio::test(start_paused = true)]
async fn an_active_controller_that_is_removed_hands_over_first() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let mut left: Vec<NodeId> = NODES.to_vec();
    for number in 1..=2 {
        let leads = leader(&members).await;
        let removed = members[&leads]
            .change_voters(remove(leads, directory(leads)))
            .await;
        removed.expect("is removed");
        left.retain(|node| *node != leads);
        until_all_have(&members, &left).await;
        assert_eq!(members[&leads].leads(), None);
        // it is not needed any more, and does not disturb the others
        let dead = members.remove(&leads).expect("is there");
        world.kill(leads, dead).await;
        let next = leader(&members).await;
        until_everywhere(&members, next, number).await;
    }
    let last = left[0];
    let refused = members[&last]
        .change_voters(remove(last, directory(last)))
        .await;
    assert!(
        matches!(refused, Err(VotersError::NotFound(_))),
        "{refused:?}"
    );
    world.kill_all(members).await;
}

// The library refuses a change before the first entry of the leader is committed, and a client would be told of it.
#[tokio::test(start_paused = true)]
async fn a_controller_that_has_only_just_come_to_lead_changes_the_voters() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let first = leader(&members).await;
    // after these the next change is a single entry
    let other = NODES.into_iter().find(|node| *node != first).expect("two");
    for change in [
        remove(other, directory(other)),
        add(other, directory(other)),
    ] {
        let changed = members[&first].change_voters(change).await;
        changed.expect("is changed");
    }
    world.reachable.append_ms.store(2000, Ordering::SeqCst);
    let dead = members.remove(&first).expect("is there");
    world.kill(first, dead).await;
    let next = leader(&members).await;
    let change = remove(first, directory(first));
    let arriving = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.reachable.append_ms.store(0, Ordering::SeqCst);
    };
    let voter = &members[&next].voter;
    let (removed, ()) = futures::join!(voter.change_voters(&change), arriving);
    removed.expect("is removed");
    until_everywhere(&members, next, 1).await;
    world.kill_all(members).await;
}

// D2: the replica that lost its directory never votes in place of the former one
#[tokio::test(start_paused = true)]
async fn a_voter_that_lost_its_disk_is_replaced() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let lost = NODES.into_iter().find(|node| *node != leads).expect("two");
    until_everywhere(&members, leads, 1).await;
    let dead = members.remove(&lost).expect("is there");
    world.kill(lost, dead).await;
    std::fs::remove_dir_all(world.dir(lost)).expect("is lost");
    tokio::time::sleep(PATIENCE).await;

    let removed = members[&leads]
        .change_voters(remove(lost, directory(lost)))
        .await;
    removed.expect("is removed");
    let again = world.try_open(lost, &NODES, OTHER).await.expect("follows");
    again.admit_observers();
    assert!(!nodes(&again).contains(&lost.0));
    members.insert(lost, again);
    let stale = members[&leads]
        .change_voters(add(lost, directory(lost)))
        .await;
    assert!(
        matches!(stale, Err(VotersError::Unavailable(_))),
        "{stale:?}"
    );
    let added = members[&leads].change_voters(add(lost, OTHER)).await;
    added.expect("is added");
    until_all_have(&members, &NODES).await;
    let ids = members[&leads].voter.voters();
    assert!(ids.iter().any(|id| !replica::is_founder(*id)), "{ids:?}");
    // its vote counts: it goes on with the other follower alone
    let dead = members.remove(&leads).expect("is there");
    world.kill(leads, dead).await;
    let next = leader(&members).await;
    until_everywhere(&members, next, 2).await;

    // every node starts again with the configuration that it had
    let ids: Vec<NodeId> = members.keys().copied().collect();
    world.kill_all(members).await;
    let opened = join_all(ids.iter().map(|node| world.open(*node))).await;
    let members: BTreeMap<NodeId, RaftMetadata> = ids.into_iter().zip(opened).collect();
    assert_eq!(members[&lost].directory(), Some(OTHER));
    let next = leader(&members).await;
    until_everywhere(&members, next, 3).await;
    world.kill_all(members).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_removed_while_it_was_dead_asks_to_follow() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let gone = NODES.into_iter().find(|node| *node != leads).expect("two");
    let left: Vec<NodeId> = NODES.into_iter().filter(|node| *node != gone).collect();
    let dead = members.remove(&gone).expect("is there");
    world.kill(gone, dead).await;
    tokio::time::sleep(PATIENCE).await;
    let removed = members[&leads]
        .change_voters(remove(gone, directory(gone)))
        .await;
    removed.expect("is removed");
    let term = members[&leads].leads().expect("leads");
    let again = tokio::time::timeout(PATIENCE, world.open(gone)).await;
    members.insert(gone, again.expect("follows"));
    until_all_have(&members, &left).await;
    until_everywhere(&members, leads, 1).await;
    assert_eq!(
        members[&leads].leads(),
        Some(term),
        "it has not disturbed the others"
    );
    world.kill_all(members).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_leaves_no_quorum_is_refused() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let mut others = NODES.into_iter().filter(|node| *node != leads);
    let (lives, dies) = (others.next().expect("two"), others.next().expect("two"));
    let dead = members.remove(&dies).expect("is there");
    world.kill(dies, dead).await;
    tokio::time::sleep(PATIENCE).await;
    let refused = members[&leads]
        .change_voters(remove(lives, directory(lives)))
        .await;
    assert!(
        matches!(refused, Err(VotersError::Invalid(_))),
        "{refused:?}"
    );
    until_everywhere(&members, leads, 1).await;
    world.kill_all(members).await;
}

// a controller that does not answer, and one that the operator names by a wrong directory
#[tokio::test(start_paused = true)]
async fn a_controller_that_does_not_catch_up_is_not_added() {
    let world = World::new();
    let members = world.form().await;
    admit(&members);
    let leads = &members[&leader(&members).await];
    let refused = leads.change_voters(add(NodeId(4), OTHER)).await;
    let why = refused.expect_err("is refused").to_string();
    assert!(
        why.contains("no controller with this directory answers"),
        "{why}"
    );
    assert_eq!(leads.voter.stored().membership().learner_ids().count(), 0);
    assert_eq!(nodes(leads), [1, 2, 3]);
    let joins = world.follow(NodeId(4), &NODES, directory(NodeId(4))).await;
    joins.admit_observers();
    let refused = leads.change_voters(add(NodeId(4), OTHER)).await;
    assert!(
        matches!(refused, Err(VotersError::Unavailable(_))),
        "{refused:?}"
    );
    let added = leads
        .change_voters(add(NodeId(4), directory(NodeId(4))))
        .await;
    added.expect("is added");
    until_voters(&joins, &FOUR).await;
    world.kill(NodeId(4), joins).await;
    world.kill_all(members).await;
}

// the active controller dies when the controller to be added has the log, and has no vote
#[tokio::test(start_paused = true)]
async fn a_change_that_ends_with_the_active_controller_may_be_made_again() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let joins = world.follow(NodeId(4), &NODES, directory(NodeId(4))).await;
    joins.admit_observers();
    let first = leader(&members).await;
    let dead = members.remove(&first).expect("is there");
    world.kill(first, dead).await;
    let next = leader(&members).await;
    assert_eq!(nodes(&members[&next]), [1, 2, 3]);
    let added = members[&next]
        .change_voters(add(NodeId(4), directory(NodeId(4))))
        .await;
    added.expect("is added");
    members.insert(NodeId(4), joins);
    until_all_have(&members, &FOUR).await;
    until_everywhere(&members, next, 1).await;
    world.kill_all(members).await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_controller_grows_to_three_and_shrinks_to_the_newest() {
    let world = World::new();
    // it finds that the one address that is configured is its own
    let one = world
        .follow(NodeId(1), &[NodeId(1)], directory(NodeId(1)))
        .await;
    assert!(one.leads().is_some());
    let mut members: BTreeMap<NodeId, RaftMetadata> = [(NodeId(1), one)].into();
    admit(&members);
    for node in [NodeId(2), NodeId(3)] {
        let joins = world.follow(node, &[NodeId(1)], directory(node)).await;
        members.insert(node, joins);
        admit(&members);
        let added = members[&node]
            .change_voters(add(node, directory(node)))
            .await;
        added.expect("is added");
    }
    until_all_have(&members, &NODES).await;
    for node in [NodeId(1), NodeId(2)] {
        let removed = members[&NodeId(3)]
            .change_voters(remove(node, directory(node)))
            .await;
        removed.expect("is removed");
    }
    until_all_have(&members, &[NodeId(3)]).await;
    until_everywhere(&members, NodeId(3), 1).await;
    world.kill_all(members).await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_without_configured_voters_forms_no_quorum_with_others() {
    let world = World::new();
    let both = [NodeId(1), NodeId(2)];
    let open = async |node| {
        let opening = world.follow(node, &both, directory(node));
        tokio::time::timeout(PATIENCE, opening).await
    };
    let (first, second) = futures::join!(open(both[0]), open(both[1]));
    assert!(first.is_err() && second.is_err(), "they wait");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_is_cut_off_says_that_it_has_no_active_controller() {
    let world = World::new();
    let members = world.form().await;
    for metadata in members.values() {
        metadata.check().expect("is led");
    }
    for node in NODES {
        world.reachable.cut_off(node);
    }
    tokio::time::sleep(PATIENCE).await;
    for metadata in members.values() {
        let why = metadata.check().expect_err("is not led");
        assert!(why.contains("no active controller"), "{why}");
    }
    world.kill_all(members).await;
}

// Otherwise its vote would count although it is dead, and a quorum of one could decide nothing any more.
#[tokio::test(start_paused = true)]
async fn a_controller_that_has_died_since_it_caught_up_is_not_added() {
    let world = World::new();
    let members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let joins = world.follow(NodeId(4), &NODES, directory(NodeId(4))).await;
    until_everywhere(&members, leads, 1).await;
    let observers = async || {
        let state = members[&leads].quorum().await.expect("is told");
        let observers = state.observers.into_iter();
        observers.map(|observer| observer.node).collect::<Vec<_>>()
    };
    assert_eq!(observers().await, [NodeId(4)]);
    world.kill(NodeId(4), joins).await;
    tokio::time::sleep(PATIENCE).await;
    let change = add(NodeId(4), directory(NodeId(4)));
    let added = members[&leads].change_voters(change).await;
    assert!(
        matches!(added, Err(VotersError::Unavailable(_))),
        "{added:?}"
    );
    // as Kafka's LeaderState does it
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(observers().await, []);
    until_all_have(&members, &NODES).await;
    world.kill_all(members).await;
}

// The transport has one address for each node: the voter would hear nothing any more.
#[tokio::test(start_paused = true)]
async fn a_controller_with_the_id_of_a_voter_that_answers_does_not_join() {
    let world = World::new();
    let members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let voter = NODES.into_iter().find(|node| *node != leads).expect("two");
    let from = replica::joining_id(u64::try_from(voter.0).expect("is positive"), OTHER);
    let join = Join {
        cluster: members[&leads].image().cluster().0.to_vec(),
        endpoints: endpoints(NodeId(9)),
    };
    let from = Some(DirectoryRecord::new(from, OTHER));
    let answer = members[&leads].voter.join(from, join).await;
    let told = format!("{answer:?}");
    assert!(told.contains("answers: give this controller"), "{told}");
    let state = members[&leads].quorum().await.expect("is told");
    assert!(state.observers.is_empty(), "{state:?}");
    world.kill_all(members).await;
}

// Otherwise those that once joined would keep every other controller out for good.
#[tokio::test(start_paused = true)]
async fn controllers_that_do_not_answer_give_way_to_one_that_joins() {
    let world = World::new();
    let mut members = world.form().await;
    admit(&members);
    let leads = leader(&members).await;
    let voter = members[&leads].voter.clone();
    for number in 10..71 {
        let gone = NodeId(number);
        let id = u64::try_from(number).expect("is positive");
        let known = directory(gone);
        let from = DirectoryRecord::new(replica::joining_id(id, known), known);
        let join = Join {
            cluster: members[&leads].image().cluster().0.to_vec(),
            endpoints: endpoints(gone),
        };
        let answer = voter.join(Some(from), join).await.expect("is answered");
        assert!(matches!(answer, Reply::Done(_)), "{answer:?}");
    }
    let joins = world.follow(NodeId(4), &NODES, directory(NodeId(4)));
    let joins = tokio::time::timeout(PATIENCE, joins).await;
    members.insert(NodeId(4), joins.expect("is taken"));
    let stored = voter.stored();
    let learners = stored.membership().learner_ids().map(replica::node_id);
    let learners: Vec<NodeId> = learners.collect();
    assert!(learners.contains(&NodeId(4)), "{learners:?}");
    assert_eq!(learners.len(), 61, "one of them gave way");
    world.kill_all(members).await;
}
