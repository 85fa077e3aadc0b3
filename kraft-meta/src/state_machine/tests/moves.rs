//! Planned moves (C1, C2), duties, and nodes that are unregistered.

use super::*;
use crate::command::{Duty, HandedOver, MovePartitions, PartitionMove};
use crate::image::Moving;

/// Moves all partitions to a node; to node 3, which never registers, stands for no move.
pub(super) fn move_all(
    to: u8,
    stale: bool,
    reassign: bool,
    image: &MetadataImage,
) -> MovePartitions {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    let moves = partitions.map(|partition| PartitionMove {
        stream: partition.stream.0,
        leader_epoch: partition.leader_epoch.0,
        decided_at: partition.decided_at.0 + u64::from(stale),
        replicas: reassign.then(|| Replicas {
            nodes: vec![to.into(), (i32::from(to) + 1) % 3],
        }),
        by_operator: reassign,
        to: (to < 3).then(|| to.into()),
    });
    MovePartitions {
        moves: moves.collect(),
    }
}

/// Hands over all streams that the last epoch of a node holds, each at its end less some offsets.
pub(super) fn hand_over(node: u8, short: i64, image: &MetadataImage) -> CommitObject {
    let epoch = NodeEpoch(epoch_of(image, node));
    let held = image.streams.iter();
    let held = held.filter(|(_, stream)| stream.held_by == Some(epoch));
    let handed_over = held.map(|(id, stream)| HandedOver {
        stream: id.0,
        leader_epoch: stream.leader_epoch.0,
        end: stream.committed_end.max(stream.start) - short,
    });
    let nothing = Commit {
        node,
        streams: Vec::new(),
        step: 1,
        checkpoint_bytes: None,
        recovering: false,
    };
    CommitObject {
        handed_over: handed_over.collect(),
        ..commit_object(&nothing, image)
    }
}

/// Two live nodes, the first of which has the only stream open.
fn two() -> (Log, NodeEpoch, NodeEpoch) {
    let (mut log, first) = Log::opened();
    let registered = log.ask(Ask::Register {
        node: 1,
        incarnation: 1,
        wal: WalKind::Object,
    });
    let Ok(Outcome::Registered { epoch, .. }) = registered else {
        panic!("{registered:?}");
    };
    (log, first, epoch)
}

fn partition(log: &Log) -> &crate::PartitionImage {
    &log.image.topics.values().next().expect("one").partitions[0]
}

fn stream(log: &Log) -> &crate::StreamImage {
    log.image.streams.values().next().expect("one")
}

/// Asks for moves of the only partition; returns the answer for it.
fn ask_move(log: &mut Log, moves: MovePartitions) -> Result<(), Rejection> {
    match log.apply(Action::MovePartitions(moves).into()) {
        Ok(Outcome::Moved(moved)) => moved[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn move_to(log: &mut Log, to: u8) -> Result<(), Rejection> {
    let moves = move_all(to, false, false, &log.image);
    ask_move(log, moves)
}

// C1, C2, E4
#[test]
fn a_leader_hands_over_with_its_last_claim_and_the_next_one_begins_there() {
    let (mut log, first, second) = two();
    move_to(&mut log, 1).expect("is asked for");
    let led = partition(&log);
    assert_eq!(led.leader, Some((NodeId(0), first)), "it has not closed it");
    assert_eq!(led.moving.as_ref().map(|moving| moving.to), Some(NodeId(1)));
    let mut last = log.commit(0, 10);
    last.handed_over = hand_over(0, -10, &log.image).handed_over;
    log.committed(last.clone()).expect("is taken");
    let led = partition(&log);
    assert_eq!(led.leader, Some((NodeId(1), second)));
    assert_eq!((led.leader_epoch, &led.moving), (LeaderEpoch(1), &None));
    assert_eq!(
        (stream(&log).held_by, stream(&log).committed_end),
        (None, 10)
    );
    let after = log.image.clone();
    log.committed(last).expect("a repeat gets the first answer");
    log.image.at = after.at;
    assert_eq!(log.image, after);
    // what the former leader commits still, or finds in its log after a crash, is not of this stream any more
    let late = log.commit(10, 20);
    let dropped = log.committed(late);
    assert_eq!(
        dropped,
        Ok(Outcome::Committed {
            dropped: vec![StreamId(0)]
        })
    );
    let open = Ask::Open {
        node: 1,
        stale: false,
    };
    assert_eq!(log.ask(open), Ok(Outcome::Opened(vec![Ok((0, 10))])));
    let epochs = &stream(&log).leader_epochs;
    assert_eq!(epochs[..], [(LeaderEpoch(0), 0), (LeaderEpoch(1), 10)]);
}

// C1: it never appends under that leader epoch again
#[test]
fn a_stream_that_was_closed_for_a_move_that_is_off_comes_back_under_the_next_leader_epoch() {
    for is_cancelled in [true, false] {
        let (mut log, first, _) = two();
        move_to(&mut log, 1).expect("is asked for");
        match is_cancelled {
            true => drop(move_to(&mut log, 3)),
            false => drop(log.ask(Ask::Fence { node: 1 })),
        }
        let handed = hand_over(0, 0, &log.image);
        log.committed(handed).expect("is taken");
        let led = partition(&log);
        assert_eq!(led.leader, Some((NodeId(0), first)));
        assert_eq!((led.leader_epoch, &led.moving), (LeaderEpoch(1), &None));
        let stale = log.commit(0, 10);
        let dropped = log.committed(stale).expect("is taken");
        assert!(matches!(dropped, Outcome::Committed { dropped } if dropped.len() == 1));
    }
}

// C2, I4
#[test]
fn a_hand_over_with_records_missing_changes_nothing() {
    let (mut log, ..) = two();
    move_to(&mut log, 1).expect("is asked for");
    for short in [-1, 1] {
        let mut last = log.commit(0, 10);
        last.handed_over = hand_over(0, short - 10, &log.image).handed_over;
        let before = log.image.clone();
        assert!(matches!(log.committed(last), Err(Rejection::Gap { .. })));
        log.image.at = before.at;
        assert_eq!(log.image, before);
    }
}

#[test]
fn only_the_epoch_that_holds_a_stream_hands_it_over() {
    let (mut log, ..) = two();
    move_to(&mut log, 1).expect("is asked for");
    let handed_over = hand_over(0, 0, &log.image).handed_over;
    let of_other = CommitObject {
        handed_over,
        ..hand_over(1, 0, &log.image)
    };
    let refused = log.committed(of_other);
    assert!(
        matches!(refused, Err(Rejection::NotHeld { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_move_names_what_it_was_decided_on() {
    let (mut log, ..) = two();
    let stale = move_all(1, true, false, &log.image);
    assert_eq!(ask_move(&mut log, stale), Err(Rejection::Changed));
    let decided = move_all(1, false, false, &log.image);
    move_to(&mut log, 1).expect("is asked for");
    assert_eq!(ask_move(&mut log, decided), Err(Rejection::Changed));
    assert_eq!(
        move_to(&mut log, 2),
        Err(Rejection::UnknownNode(NodeId(2))),
        "it is not registered"
    );
    let mut twice = move_all(1, false, true, &log.image);
    twice.moves[0].replicas = Some(Replicas { nodes: vec![1, 1] });
    assert_eq!(ask_move(&mut log, twice), Err(Rejection::NotUnderstood));
}

#[test]
fn a_cancelled_reassignment_can_bring_the_former_replicas_back() {
    let (mut log, _, second) = two();
    let former = partition(&log).replicas.clone();
    let reassign = move_all(1, false, true, &log.image);
    ask_move(&mut log, reassign).expect("is taken");
    let led = partition(&log);
    assert_eq!(led.replicas, [NodeId(1), NodeId(2)]);
    let moving = Moving {
        to: NodeId(1),
        epoch: second,
        before: Some(former),
    };
    assert_eq!((led.moving.as_ref(), led.is_chosen), (Some(&moving), true));
    let again = move_all(1, false, true, &log.image);
    ask_move(&mut log, again).expect("is taken");
    assert_eq!(
        partition(&log).moving.as_ref(),
        Some(&moving),
        "the first one"
    );
    // a leader that keeps the partition has nothing to hand over
    let stays = move_all(0, false, true, &log.image);
    ask_move(&mut log, stays).expect("is taken");
    let led = partition(&log);
    assert_eq!((&led.moving, led.replicas[0]), (&None, NodeId(0)));
}

// E4: a leader that is dead hands nothing over
#[test]
fn a_partition_that_is_assigned_moves_no_more() {
    let (mut log, ..) = two();
    move_to(&mut log, 1).expect("is asked for");
    log.register(2);
    log.ask(Ask::Close {
        node: 0,
        by: 0,
        other_kind: false,
    })
    .expect("closes");
    log.ask(ASSIGN).expect("is given");
    assert_eq!(partition(&log).moving, None);
    log.ask(Ask::Fence { node: 0 }).expect("fences");
    move_to(&mut log, 1).expect("is taken");
    assert_eq!(partition(&log).moving, None, "the assigner gives it away");
}

#[test]
fn a_duty_outlives_restarts_and_ends_with_the_registration() {
    let (mut log, _) = Log::opened();
    let drain = Ask::Duty { node: 0, duty: 2 };
    log.ask(drain).expect("is set");
    let unknown = Ask::Duty { node: 0, duty: 3 };
    assert_eq!(log.ask(unknown), Err(Rejection::NotUnderstood));
    let second = log.register(2);
    assert_eq!(log.image.nodes[&0].duty, Duty::Draining);
    let unregister = || Ask::Unregister { node: 0 };
    assert_eq!(log.ask(unregister()), Err(Rejection::Unclosed(second)));
    log.ask(Ask::Fence { node: 0 }).expect("fences");
    assert_eq!(log.ask(unregister()), Err(Rejection::Unclosed(second)));
}

// E1, W12: its objects are still deleted. R3: its last epoch is remembered, because seals of its log stay.
#[test]
fn a_node_that_is_unregistered_is_hidden_and_its_last_epoch_remembered() {
    let (mut log, _, second) = two();
    log.ask(Ask::Fence { node: 1 }).expect("fences");
    let close = Ask::Close {
        node: 1,
        by: 0,
        other_kind: false,
    };
    log.ask(close).expect("closes");
    log.ask(Ask::Unregister { node: 1 }).expect("is taken");
    let unknown = Rejection::UnknownNode(NodeId(1));
    assert_eq!(log.ask(Ask::Unregister { node: 1 }), Err(unknown.clone()));
    assert_eq!(log.ask(Ask::Duty { node: 1, duty: 1 }), Err(unknown));
    assert!(log.image.node(NodeId(1)).is_none());
    assert!(log.image.nodes().all(|(id, _)| id != NodeId(1)));
    let mut again = Log {
        image: log.image.clone(),
        at: log.at,
    };
    log.ask(Ask::Sweep { node: 1 }).expect("is swept");
    assert!(log.image.node(NodeId(1)).is_none());
    let remembered = log.image.remembered(NodeId(1)).expect("is remembered");
    assert!(remembered.epoch == second && remembered.epochs.is_empty());
    // or it comes back before
    let registered = again.ask(Ask::Register {
        node: 1,
        incarnation: 9,
        wal: WalKind::Object,
    });
    assert!(matches!(registered, Ok(Outcome::Registered { epoch, .. }) if epoch > second));
    again.ask(Ask::Sweep { node: 1 }).expect("is swept");
    assert!(again.image.node(NodeId(1)).is_some());
}

// A broker that has registered again may recover its log still, while the former leader is sound.
#[test]
fn another_epoch_of_the_broker_that_was_to_lead_gets_nothing() {
    let (mut log, first, _) = two();
    let former = partition(&log).replicas.clone();
    let mut spread = move_all(1, false, true, &log.image);
    spread.moves[0].by_operator = false;
    ask_move(&mut log, spread).expect("is taken");
    let again = Ask::Register {
        node: 1,
        incarnation: 2,
        wal: WalKind::Object,
    };
    log.ask(again).expect("registers");
    let handed = hand_over(0, 0, &log.image);
    log.committed(handed).expect("is taken");
    let led = partition(&log);
    assert_eq!(led.leader, Some((NodeId(0), first)));
    assert_eq!((&led.moving, &led.replicas), (&None, &former));
}
