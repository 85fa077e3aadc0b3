//! Sealed ranges: the claims on an index object, and the WAL objects that it covers (rules U4, W8, W9, G3).

use highwater_types::limits::INDEXES_IN_FLIGHT_MAX;

use super::*;
use crate::image::WalObjects;

/// A cluster in which node 1 writes an object WAL and is fenced. It holds a stream, of which ten records are committed
/// and the floor is 4.
struct Fenced {
    log: Log,
    stream: StreamId,
    /// The fenced epoch.
    epoch: NodeEpoch,
}

impl Fenced {
    fn new() -> Self {
        let (mut log, _) = Log::opened();
        let register = Ask::Register {
            node: 1,
            incarnation: 1,
            wal: WalKind::Object,
        };
        log.ask(register).expect("registers");
        let create = Ask::Create {
            topic: 2,
            partitions: 2,
        };
        log.ask(create).expect("creates");
        let assign = Ask::Assign {
            node: 1,
            stale: false,
        };
        log.ask(assign).expect("is given");
        let open = Ask::Open {
            node: 1,
            stale: false,
        };
        log.ask(open).expect("opens");
        let stream = log.image.topic("topic-2").expect("is there").partitions[1].stream;
        let epoch = NodeEpoch(epoch_of(&log.image, 1));
        let mut commit = log.commit(0, 10);
        commit.node = 1;
        commit.node_epoch = epoch.0;
        commit.claims[0].stream = stream.0;
        commit.floor = Some(Position {
            epoch: epoch.0,
            at: 4,
        });
        log.committed(commit).expect("commits");
        log.ask(Ask::Fence { node: 1 }).expect("fences");
        Self { log, stream, epoch }
    }

    /// The closing with a seal at 7 and claims on the fenced epoch's stream, each with a leader epoch.
    fn close(&self, claims: &[(i64, i64, i32)]) -> CloseEpoch {
        let claims = claims.iter().map(|&(first, next, leader_epoch)| {
            let claim = ClaimRecord {
                first,
                next,
                leader_epoch,
                part_end: 100,
                ..ClaimRecord::default()
            };
            ClaimOfStream {
                stream: self.stream.0,
                claim: Some(claim),
                rolls: vec![roll(first, true, 5)],
            }
        });
        let how = Closing::Sealed(Sealed {
            at: Some(Position {
                epoch: self.epoch.0,
                at: 7,
            }),
            index: Some(self.index(1).into()),
            bytes: 100,
            claims: claims.collect(),
        });
        CloseEpoch {
            node: 1,
            epoch: self.epoch.0,
            by: epoch_of(&self.log.image, 0),
            how: Some(how),
        }
    }

    fn index(&self, number: u64) -> ObjectId {
        ObjectId {
            node: NodeId(0),
            epoch: NodeEpoch(epoch_of(&self.log.image, 0)),
            kind: ObjectKind::Index,
            number,
        }
    }

    fn seal(&mut self, close: CloseEpoch) -> Result<Outcome, Rejection> {
        let answer = self.log.apply(Action::CloseEpoch(close).into());
        self.log.image.check().expect("is sound");
        let snapshot = restored(self.log.image.parts());
        assert_eq!(snapshot.expect("is read"), self.log.image);
        answer
    }

    fn ranges(&self) -> Vec<(i64, i64)> {
        let claims = self.log.image.streams[&self.stream].claims.values();
        claims.map(|claim| (claim.first, claim.next)).collect()
    }
}

fn changed(close: &CloseEpoch, change: impl FnOnce(&mut Sealed)) -> CloseEpoch {
    let mut close = close.clone();
    if let Some(Closing::Sealed(sealed)) = close.how.as_mut() {
        change(sealed);
    }
    close
}

// U4
#[test]
fn a_sealed_claim_is_clipped_to_the_committed_end() {
    let mut sealed = Fenced::new();
    let close = sealed.close(&[(6, 15, 0)]);
    sealed.seal(close).expect("seals");
    assert_eq!(sealed.ranges(), [(0, 10), (10, 15)]);
    // all of it is committed already: nothing refers to the index
    let mut sealed = Fenced::new();
    let close = sealed.close(&[(6, 10, 0)]);
    sealed.seal(close).expect("seals");
    assert_eq!(sealed.ranges(), [(0, 10)]);
    let index = sealed.index(1);
    assert!(sealed.log.image.condemned.contains_key(&index));
    assert!(sealed.log.image.covered_by(index).is_some(), "G3");
    // I4: acknowledged records are missing, and nothing is closed
    let mut sealed = Fenced::new();
    let close = sealed.close(&[(11, 15, 0)]);
    let refused = sealed.seal(close);
    assert!(matches!(refused, Err(Rejection::Gap { .. })), "{refused:?}");
    let node = &sealed.log.image.nodes[&1];
    assert_eq!(node.epochs[&sealed.epoch].state, EpochState::Fenced);
}

// C2: a node that opened a stream twice has two leaderships of it in its WAL, the first of which is uploaded
#[test]
fn two_leaderships_of_a_stream_are_two_claims_of_which_one_holds() {
    let mut sealed = Fenced::new();
    let never = sealed.close(&[(6, 10, 0), (10, 15, 1)]);
    let refused = sealed.seal(never);
    assert!(matches!(refused, Err(Rejection::NotHeld { .. })), "D2");
    let twice = sealed.close(&[(6, 10, 0), (10, 15, 0)]);
    assert_eq!(sealed.seal(twice), Err(Rejection::NotUnderstood));
    let both = sealed.close(&[(6, 10, -1), (10, 15, 0)]);
    let next = sealed.index(2);
    let both = changed(&both, |sealed| sealed.index = Some(next.into()));
    sealed.seal(both).expect("seals");
    assert_eq!(sealed.ranges(), [(0, 10), (10, 15)]);
}

// W9, G3: from the floor to the seal
#[test]
fn an_index_takes_the_objects_that_it_covers_out_of_the_image() {
    let mut sealed = Fenced::new();
    let close = sealed.close(&[(10, 15, 0)]);
    sealed.seal(close).expect("seals");
    let index = sealed.index(1);
    let covers = WalObjects {
        node: NodeId(1),
        epoch: sealed.epoch,
        first: 4,
        end: 7,
    };
    let image = &sealed.log.image;
    assert_eq!(image.covered_by(index), Some(covers));
    assert_eq!(image.covered().collect::<Vec<_>>(), [(index, covers)]);
    let names: Vec<u64> = covers.names().map(|id| id.number).collect();
    assert_eq!(names, [4, 5, 6], "the seal is not among them (W10)");
    assert!(!image.condemned.contains_key(&index));
    let closed: Vec<_> = image.nodes[&1].closed().collect();
    let seal = highwater_types::WalPosition {
        epoch: sealed.epoch,
        at: 7,
    };
    assert_eq!(closed, [(sealed.epoch, seal)]);
    sealed.log.ask(Ask::Delete { topic: 2 }).expect("deletes");
    sealed.log.image.check().expect("is sound");
    let image = &sealed.log.image;
    assert!(image.condemned.contains_key(&index));
    assert_eq!(image.covered_by(index), Some(covers), "until it is deleted");
    sealed.log.ask(Ask::Sweep { node: 1 }).expect("is swept");
    assert_eq!(sealed.log.image.covered_by(index), Some(covers));
    let deleted = Action::ObjectsDeleted(ObjectsDeleted {
        objects: vec![index.into()],
    });
    sealed.log.apply(deleted.into()).expect("is recorded");
    assert_eq!(sealed.log.image.covered_by(index), None);
}

// U2, U5: an index object that was put and never registered is condemned by its number
#[test]
fn indexes_are_numbered_and_condemned_like_uploads() {
    let mut sealed = Fenced::new();
    let close = sealed.close(&[(10, 15, 0)]);
    let other_epoch = ObjectId {
        epoch: sealed.epoch,
        ..sealed.index(1)
    };
    let other_node = ObjectId {
        node: NodeId(2),
        ..sealed.index(1)
    };
    let upload = ObjectId {
        kind: ObjectKind::Upload,
        ..sealed.index(1)
    };
    let far = sealed.index(INDEXES_IN_FLIGHT_MAX + 1);
    for name in [other_epoch, other_node, upload, far, sealed.index(0)] {
        let close = changed(&close, |sealed| sealed.index = Some(name.into()));
        assert_eq!(sealed.seal(close), Err(Rejection::NotUnderstood), "{name}");
    }
    let empty = changed(&close, |sealed| {
        if let Some(at) = sealed.at.as_mut() {
            at.at = 4;
        }
    });
    assert_eq!(
        sealed.seal(empty),
        Err(Rejection::NotUnderstood),
        "no range"
    );
    let second = sealed.index(2);
    let close = changed(&close, |sealed| sealed.index = Some(second.into()));
    sealed.seal(close).expect("seals");
    let condemned = |log: &Log, of: NodeEpoch| -> Vec<u64> {
        let all = log.image.condemned();
        let indexes = all.filter(|(id, _)| id.kind == ObjectKind::Index && id.epoch == of);
        indexes.map(|(id, _)| id.number).collect()
    };
    let sealer = second.epoch;
    assert_eq!(condemned(&sealed.log, sealer), [1], "passed over");
    assert_eq!(condemned(&sealed.log, sealed.epoch), [1, 2], "its own");
    sealed.log.register(2);
    let close = Ask::Close {
        node: 0,
        by: 0,
        other_kind: false,
    };
    sealed.log.ask(close).expect("closes");
    assert_eq!(condemned(&sealed.log, sealer), [1, 3, 4]);
}

// W8, U5: a closing that is refused uses no number up, however often it is tried
#[test]
fn the_index_of_a_refused_closing_is_condemned_and_others_follow() {
    let mut sealed = Fenced::new();
    let gap = sealed.close(&[(11, 15, 0)]);
    let twice = sealed.close(&[(6, 10, 0), (10, 15, 0)]);
    let named = |close: &CloseEpoch, index: ObjectId| {
        changed(close, |sealed| sealed.index = Some(index.into()))
    };
    let mut number = 0;
    for _ in 0..INDEXES_IN_FLIGHT_MAX {
        for close in [&gap, &twice] {
            number += 1;
            let index = sealed.index(number);
            let first = sealed.seal(named(close, index));
            assert!(first.is_err(), "{first:?}");
            assert!(sealed.log.image.condemned.contains_key(&index));
            // a repeat is refused too, and condemns nothing more
            let condemned = sealed.log.image.condemned.len();
            assert!(sealed.seal(named(close, index)).is_err());
            assert_eq!(sealed.log.image.condemned.len(), condemned);
        }
    }
    let right = sealed.close(&[(10, 15, 0)]);
    let condemned = sealed.index(number);
    let refused = sealed.seal(named(&right, condemned));
    assert_eq!(
        refused,
        Err(Rejection::NotUnderstood),
        "G1: condemned for good"
    );
    let index = sealed.index(number + 1);
    sealed.seal(named(&right, index)).expect("seals");
    assert!(!sealed.log.image.condemned.contains_key(&index));
    assert_eq!(sealed.ranges(), [(0, 10), (10, 15)]);
}

// W8, W12: the node has not started again, and its last epoch is swept
#[test]
fn a_closing_that_comes_after_the_sweep_is_late_and_not_refused() {
    let mut sealed = Fenced::new();
    let close = sealed.close(&[(10, 15, 0)]);
    sealed.seal(close.clone()).expect("seals");
    sealed.log.ask(Ask::Sweep { node: 1 }).expect("is swept");
    let index = sealed.index(2);
    let late = changed(&close, |sealed| sealed.index = Some(index.into()));
    assert_eq!(sealed.seal(late), Ok(Outcome::Done));
    assert!(sealed.log.image.condemned.contains_key(&index));
}
