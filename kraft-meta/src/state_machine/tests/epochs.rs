//! Registration, fencing and closing of epochs, and the assignment of leaders after that (rules E, U5).

use std::sync::Arc;

use highwater_types::limits::{INDEXES_IN_FLIGHT_MAX, UPLOADS_IN_FLIGHT_MAX};

use super::*;

/// The last epoch closes the first epoch of the first node.
const CLOSE: Ask = Ask::Close {
    node: 0,
    by: 0,
    other_kind: false,
};

fn assigned(log: &mut Log) -> Vec<Result<LeaderEpoch, Rejection>> {
    match log.ask(ASSIGN) {
        Ok(Outcome::Assigned(assigned)) => assigned,
        other => panic!("{other:?}"),
    }
}

// E4: a broker that has registered may never serve
#[test]
fn a_new_partition_has_no_leader_until_it_is_given_one() {
    let (mut log, epoch) = Log::created();
    let grow = Ask::Grow {
        topic: 1,
        existing: 1,
    };
    log.ask(grow).expect("grows");
    let leaders = |log: &Log| -> Vec<_> {
        let topic = log.image.topic("topic-1").expect("is there");
        let partitions = topic.partitions.iter();
        partitions
            .map(|one| (one.leader, one.leader_epoch))
            .collect()
    };
    assert_eq!(leaders(&log), [(None, LeaderEpoch(-1)); 2]);
    assert_eq!(assigned(&mut log), [Ok(LeaderEpoch(0)), Ok(LeaderEpoch(0))]);
    let given = (Some((NodeId(0), epoch)), LeaderEpoch(0));
    assert_eq!(leaders(&log), [given; 2]);
}

// E2
#[test]
fn a_registration_that_is_repeated_is_the_same_and_another_fences_all_before() {
    let (mut log, first) = Log::opened();
    let own = log.commit(0, 10);
    let second = log.register(2);
    assert!(second > first, "E1");
    assert_eq!(log.register(2), second, "the same incarnation");
    assert_eq!(log.committed(own), Err(Rejection::Fenced(first)));
    let third = log.register(3);
    assert!(third > second, "another incarnation");
    assert!(log.register(1) > third, "one of before is a new one");
}

// E6
#[test]
fn a_fenced_epoch_changes_nothing() {
    let (mut log, epoch) = Log::opened();
    let commit = log.commit(0, 10);
    log.register(2);
    let fenced = Err(Rejection::Fenced(epoch));
    assert_eq!(log.committed(commit), fenced);
    let trim = TrimStream {
        stream: 0,
        start: 5,
        node_epoch: epoch.0,
        leader_epoch: 0,
    };
    assert_eq!(log.apply(Action::TrimStream(trim).into()), fenced);
    let allocate = AllocateProducerIds {
        node_epoch: epoch.0,
        count: 1,
    };
    assert_eq!(
        log.apply(Action::AllocateProducerIds(allocate).into()),
        fenced
    );
}

// a topic of many partitions is not copied for each of them
#[test]
fn leaders_are_assigned_in_place_and_what_readers_have_stays_as_it_is() {
    let (mut log, _) = Log::opened();
    let grow = Ask::Grow {
        topic: 1,
        existing: 1,
    };
    log.ask(grow).expect("grows");
    log.ask(ASSIGN).expect("is given");
    log.register(2);
    log.ask(CLOSE).expect("closes");
    let read = log.image.clone();
    assert_eq!(assigned(&mut log), vec![Ok(LeaderEpoch(1)); 2]);
    let topic = |image: &MetadataImage| image.topic("topic-1").cloned().expect("is there");
    let epochs = |image: &MetadataImage| -> Vec<_> {
        let topic = topic(image);
        topic
            .partitions
            .iter()
            .map(|one| one.leader_epoch)
            .collect()
    };
    assert_eq!(epochs(&read), [LeaderEpoch(0); 2]);
    assert_eq!(epochs(&log.image), [LeaderEpoch(1); 2]);
    // no reader holds the topic any more, so that nothing is copied at all
    let at = Arc::as_ptr(&topic(&log.image));
    let epoch = log.register(3);
    log.ask(CLOSE).expect("closes");
    let first = AssignLeaders {
        node_epoch: epoch.0,
        streams: streams_of(&log.image, false)[..1].to_vec(),
    };
    let answer = log.apply(Action::AssignLeaders(first).into());
    let next = vec![Ok(LeaderEpoch(2))];
    assert_eq!(answer, Ok(Outcome::Assigned(next)));
    assert_eq!(at, Arc::as_ptr(&topic(&log.image)));
}

// E3, E5
#[test]
fn a_former_epoch_is_recovered_then_closed_then_led_anew() {
    let (mut log, former) = Log::opened();
    let epoch = log.register(2);
    let refused = log.ask(Ask::Open {
        node: 0,
        stale: false,
    });
    assert_eq!(refused, Err(Rejection::Unclosed(former)), "not closed yet");
    let own = log.commit(0, 10);
    let refused = log.committed(own.clone());
    assert_eq!(refused, Err(Rejection::NotUnderstood), "not its own yet");
    let recovered = CommitObject {
        recovering: true,
        ..own
    };
    log.committed(recovered.clone()).expect("recovers");
    assert_eq!(log.image.streams[&StreamId(0)].committed_end, 10);
    let unclosed = Rejection::Unclosed(former);
    assert_eq!(assigned(&mut log), [Err(unclosed)], "E4");
    log.ask(CLOSE).expect("closes");
    assert_eq!(log.ask(CLOSE), Err(Rejection::Changed), "nothing is left");
    let late = CommitObject {
        number: 2,
        ..recovered
    };
    assert_eq!(log.committed(late), Err(Rejection::NotUnderstood));
    assert_eq!(assigned(&mut log), [Ok(LeaderEpoch(1))]);
    let refused = assigned(&mut log);
    assert_eq!(refused, [Err(Rejection::Unclosed(epoch))], "it is led");
    let partition = &log.image.topic("topic-1").expect("there").partitions[0];
    assert_eq!(partition.leader.map(|(_, epoch)| epoch), Some(epoch));
    assert_eq!(partition.leader_epoch.0, 1);
}

// D2: metadata that lost its end must not drop a claim as deleted or moved when it names a stream or an epoch that the
// metadata has not assigned
#[test]
fn a_recovered_stream_or_leader_epoch_that_was_never_given_refuses() {
    let (mut log, _) = Log::opened();
    log.register(2);
    let mut commit = log.commit(0, 10);
    commit.recovering = true;
    let claim = |commit: &CommitObject, stream: u64, leader_epoch: i32| {
        let mut commit = commit.clone();
        commit.claims[0].stream = stream;
        if let Some(claim) = commit.claims[0].claim.as_mut() {
            claim.leader_epoch = leader_epoch;
        }
        commit
    };
    let stream = StreamId(1);
    let never = log.committed(claim(&commit, 1, 0));
    assert_eq!(never, Err(Rejection::UnknownStream(stream)));
    let later = log.committed(claim(&commit, 0, 1));
    assert!(matches!(later, Err(Rejection::NotHeld { .. })), "{later:?}");
    log.ask(Ask::Delete { topic: 1 }).expect("deletes");
    let deleted = log.committed(claim(&commit, 0, 0));
    assert!(matches!(deleted, Ok(Outcome::Committed { dropped }) if dropped.len() == 1));
}

// U5
#[test]
fn what_was_in_flight_is_condemned_by_name() {
    let (mut log, _) = Log::opened();
    let mut commit = log.commit(0, 10);
    commit.number = 2;
    commit.lowest_in_flight = 2;
    log.committed(commit).expect("commits");
    let numbers = |log: &Log| -> Vec<u64> {
        let condemned = log.image.condemned();
        let uploads = condemned.filter(|(id, _)| id.kind == ObjectKind::Upload);
        uploads.map(|(id, _)| id.number).collect()
    };
    assert_eq!(numbers(&log), [1], "passed over");
    log.register(2);
    assert_eq!(numbers(&log), [1], "fenced is not closed");
    log.ask(CLOSE).expect("closes");
    assert_eq!(numbers(&log), [1, 3, 4], "what it may have put");
    let mut far = log.commit(10, 11);
    far.number = UPLOADS_IN_FLIGHT_MAX + 1;
    assert_eq!(
        log.committed(far),
        Err(Rejection::NotUnderstood),
        "U2: it would have passed over more than a close condemns"
    );
}

// E2: a registration is refused if another one came since its proposer looked
#[test]
fn a_registration_names_the_one_before() {
    let (mut log, first) = Log::opened();
    let register = |incarnation, after| {
        Command::from(Action::RegisterNode(RegisterNode {
            node: 0,
            incarnation: vec![incarnation],
            endpoints: Vec::new(),
            directory: vec![9],
            place: String::new(),
            wal: WalKind::Disk.into(),
            after,
            rack: String::new(),
            metadata_version: 0,
        }))
    };
    let second = log.register(2);
    assert_eq!(log.apply(register(3, first.0)), Err(Rejection::Changed));
    log.apply(register(3, second.0)).expect("registers");
    let old = log.apply(register(4, 0));
    assert_eq!(old, Err(Rejection::Changed), "it is not new");
}

// D2: what a disk WAL holds is in one directory, and a start without it would close the epoch as recovered
#[test]
fn a_start_with_another_directory_than_that_of_an_unclosed_disk_wal_is_refused() {
    let (mut log, first) = Log::opened();
    let register = |log: &mut Log, directory: u8, incarnation: u8, wal: WalKind| {
        let register = Action::RegisterNode(RegisterNode {
            node: 0,
            incarnation: vec![incarnation],
            endpoints: Vec::new(),
            directory: vec![directory],
            place: String::new(),
            wal: wal.into(),
            after: log.image.nodes[&0].epoch.0,
            rack: String::new(),
            metadata_version: 0,
        });
        log.apply(register.into())
    };
    let refused = |log: &mut Log, wal| match register(log, 8, 2, wal) {
        Err(Rejection::OtherDirectory { epoch, .. }) => epoch,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut log, WalKind::Disk), first, "it is open");
    log.ask(Ask::Fence { node: 0 }).expect("fences");
    assert_eq!(refused(&mut log, WalKind::Disk), first, "it is not closed");
    assert_eq!(refused(&mut log, WalKind::Object), first);
    register(&mut log, 9, 3, WalKind::Object).expect("it is its own directory");
    assert_eq!(refused(&mut log, WalKind::Object), first);
    log.ask(CLOSE).expect("closes");
    register(&mut log, 8, 4, WalKind::Disk).expect("nothing is left in the directory");
}

// E6
#[test]
fn a_fenced_epoch_is_fenced_once_and_is_not_registered_again() {
    let (mut log, epoch) = Log::opened();
    let fence = Ask::Fence { node: 0 };
    log.ask(fence.clone()).expect("fences");
    assert_eq!(log.ask(fence), Err(Rejection::Fenced(epoch)));
    let same = log.ask(Ask::Register {
        node: 0,
        incarnation: 1,
        wal: WalKind::Disk,
    });
    assert_eq!(same, Err(Rejection::Fenced(epoch)), "the same incarnation");
    assert!(log.register(2) > epoch);
}

// D2: the log of a disk WAL goes on under the next epoch, and its floor is kept
#[test]
fn the_floor_of_a_disk_wal_outlives_its_epochs() {
    let (mut log, _) = Log::opened();
    let mut commit = log.commit(0, 10);
    commit.floor = Some(Position { epoch: 1, at: 70 });
    commit.confirmed = Some(Position { epoch: 1, at: 90 });
    log.committed(commit).expect("commits");
    let Ok(Outcome::Registered {
        floor, confirmed, ..
    }) = log.ask(Ask::Register {
        node: 0,
        incarnation: 2,
        wal: WalKind::Disk,
    })
    else {
        panic!("is registered");
    };
    assert_eq!((floor.at, confirmed.at), (70, 90));
}

// W8, W9, W12: any node may seal an object WAL, once; the seal registers its batches, and its partitions are then free
#[test]
fn an_object_wal_is_sealed_once_and_led_by_another() {
    let (mut log, _) = Log::opened();
    log.ask(Ask::Register {
        node: 1,
        incarnation: 1,
        wal: WalKind::Object,
    })
    .expect("registers");
    log.ask(Ask::Create {
        topic: 2,
        partitions: 2,
    })
    .expect("creates");
    log.ask(Ask::Assign {
        node: 1,
        stale: false,
    })
    .expect("is given");
    let open = Ask::Open {
        node: 1,
        stale: false,
    };
    log.ask(open).expect("opens");
    let stream = log.image.topic("topic-2").expect("is there").partitions[1].stream;
    let close = Ask::Close {
        node: 1,
        by: 0,
        other_kind: false,
    };
    assert_eq!(
        log.ask(close.clone()),
        Err(Rejection::Changed),
        "it is open"
    );
    log.ask(Ask::Fence { node: 1 }).expect("fences");
    let recovered = Ask::Close {
        node: 1,
        by: 0,
        other_kind: true,
    };
    assert_eq!(log.ask(recovered), Err(Rejection::NotUnderstood), "D4");
    log.ask(close.clone()).expect("seals");
    // W8: a slow sealer changes nothing, and its index is condemned (U5), so that no number is in flight for ever
    for _ in 0..2 * INDEXES_IN_FLIGHT_MAX {
        let before = log.image.condemned.len();
        assert_eq!(log.ask(close.clone()), Ok(Outcome::Done));
        assert!(log.image.condemned.len() > before);
    }
    let sealed = &log.image.streams[&stream];
    assert_eq!(sealed.committed_end, 3);
    let claim = sealed.claims.values().next().expect("one");
    let index = claim.object.and_then(|name| ObjectId::try_from(name).ok());
    let index = index.expect("names an object");
    assert_eq!(index.kind, ObjectKind::Index);
    assert!(!log.image.condemned.contains_key(&index));
    assert_eq!(assigned(&mut log)[2], Ok(LeaderEpoch(1)));
    assert_eq!(log.image.nodes[&1].epochs.len(), 1, "it is swept first");
    log.ask(Ask::Sweep { node: 1 }).expect("is swept");
    assert!(log.image.nodes[&1].epochs.is_empty());
}

// D5: a disk WAL that is lost is given up, and none of the offsets that it may have acknowledged is given out again
#[test]
fn a_disk_wal_that_is_given_up_frees_its_streams_above_all_that_it_may_have_acknowledged() {
    let (mut log, former) = Log::opened();
    let own = log.commit(0, 10);
    log.committed(own).expect("commits");
    let give_up = |epoch: NodeEpoch| {
        Command::from(Action::GiveUpEpoch(GiveUpEpoch {
            node: 0,
            epoch: epoch.0,
        }))
    };
    let other = log.apply(give_up(NodeEpoch(77)));
    assert_eq!(other, Err(Rejection::Changed), "it has no such epoch");
    log.apply(give_up(former)).expect("fences first");
    let state = log.image.nodes[&0].epochs[&former].state;
    assert_eq!(state, EpochState::Fenced, "its node may still acknowledge");
    log.apply(give_up(former)).expect("closes");
    log.image.check().expect("is sound");
    assert!(log.image.nodes[&0].epochs.is_empty());
    let stream = &log.image.streams[&StreamId(0)];
    let end = 10 + crate::image::LOST_OFFSETS;
    assert_eq!((stream.committed_end, &stream.lost), (end, &(10..end)));
    let lost: Vec<_> = stream.claims.values().skip(1).collect();
    assert_eq!(
        (lost[0].first, lost[0].next, lost[0].object),
        (10, end, None)
    );
    let condemned = log.image.condemned().filter(|(id, _)| id.epoch == former);
    let in_flight = UPLOADS_IN_FLIGHT_MAX + INDEXES_IN_FLIGHT_MAX;
    assert_eq!(condemned.count() as u64, in_flight, "U5");
    assert_eq!(log.apply(give_up(former)), Err(Rejection::Changed), "once");
    let late = log.commit(end, end + 5);
    let late = CommitObject {
        node_epoch: former.0,
        ..late
    };
    assert_eq!(log.committed(late), Err(Rejection::Fenced(former)));
    // the node starts with another directory
    let register = RegisterNode {
        node: 0,
        incarnation: vec![5],
        directory: vec![8],
        wal: WalKind::Disk.into(),
        after: former.0,
        ..RegisterNode::default()
    };
    log.apply(Action::RegisterNode(register).into())
        .expect("nothing is left in the other one");
    assert_eq!(assigned(&mut log), [Ok(LeaderEpoch(1))], "E4");
    let open = Ask::Open {
        node: 0,
        stale: false,
    };
    let opened = log.ask(open).expect("opens");
    assert_eq!(opened, Outcome::Opened(vec![Ok((0, end))]));
}

// D4: the node has its directory and recovers the log
#[test]
fn a_disk_wal_is_not_given_up_while_its_node_lives() {
    let (mut log, former) = Log::opened();
    let second = log.register(2);
    let give_up = GiveUpEpoch {
        node: 0,
        epoch: former.0,
    };
    let refused = log.apply(Action::GiveUpEpoch(give_up).into());
    assert_eq!(refused, Err(Rejection::Changed), "the log goes on");
    let register = Ask::Register {
        node: 0,
        incarnation: 3,
        wal: WalKind::Object,
    };
    log.ask(register).expect("registers");
    let third = log.image.nodes[&0].epoch;
    let give_up = GiveUpEpoch {
        node: 0,
        epoch: second.0,
    };
    let refused = log.apply(Action::GiveUpEpoch(give_up).into());
    assert_eq!(refused, Err(Rejection::InSession(third)));
}
