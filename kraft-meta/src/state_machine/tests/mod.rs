//! Random commands: the invariants hold after each of them, every node comes to the same state, and nothing goes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_types::{LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::command::{
    AllocateProducerIds, AssignLeaders, ClaimOfStream, ClaimRecord, CloseEpoch, Closing,
    CommitObject, CreatePartitions, CreateTopic, DeleteTopic, EpochSwept, FenceEpoch, GiveUpEpoch,
    ObjectsDeleted, OpenStreams, Position, Recovered, RegisterNode, Replicas, RollRecord, Sealed,
    SetDuty, SetTopicConfigs, StreamEpoch, TrimStream, UnregisterNode, WalKind,
};
use crate::image::{EpochState, MetadataImage, Restored};
use crate::{Action, Command, Outcome, Rejection, SnapshotError};

mod changes;
mod checkpoints;
mod epochs;
mod identity;
mod moves;
mod rolls;
mod sealed;
mod versions;

use self::changes::{nothing_goes_back, without_refused_index};
use self::moves::{hand_over, move_all};

/// A command before its arguments are taken from a state. The numbers are small, so that commands concern each other.
#[derive(Debug, Clone)]
enum Ask {
    Register {
        node: u8,
        incarnation: u8,
        wal: WalKind,
    },
    Fence {
        node: u8,
    },
    Close {
        node: u8,
        by: u8,
        other_kind: bool,
    },
    Sweep {
        node: u8,
    },
    Assign {
        node: u8,
        stale: bool,
    },
    Create {
        topic: u8,
        partitions: u8,
    },
    Delete {
        topic: u8,
    },
    Grow {
        topic: u8,
        existing: u8,
    },
    Configure {
        topic: u8,
        stale: bool,
    },
    Open {
        node: u8,
        stale: bool,
    },
    Commit(Commit),
    Trim {
        stream: u8,
        start: i64,
        node: u8,
    },
    Reap {
        count: u8,
    },
    Allocate {
        node: u8,
        count: i64,
    },
    GiveUp {
        node: u8,
    },
    Move {
        to: u8,
        stale: bool,
        reassign: bool,
    },
    HandOver {
        node: u8,
        short: i64,
    },
    Duty {
        node: u8,
        duty: i32,
    },
    Unregister {
        node: u8,
    },
    Nothing,
}

#[derive(Debug, Clone)]
struct Commit {
    node: u8,
    streams: Vec<(u8, i64, i64)>,
    /// How far the upload's number is above the last one; 0 for a repeat.
    step: u8,
    checkpoint_bytes: Option<u64>,
    recovering: bool,
}

/// Gives all partitions to the first node.
const ASSIGN: Ask = Ask::Assign {
    node: 0,
    stale: false,
};

fn asks() -> impl Strategy<Value = Ask> {
    let node = 0..3u8;
    let topic = 0..3u8;
    let commit = (
        node.clone(),
        vec((0..6u8, -2..4i64, -1..8i64), 0..4),
        prop_oneof![6 => Just(1u8), 1 => Just(0), 1 => 2..5u8],
        prop_oneof![2 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(9))],
        prop_oneof![3 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(node, streams, step, checkpoint_bytes, recovering)| {
            Ask::Commit(Commit {
                node,
                streams,
                step,
                checkpoint_bytes,
                recovering,
            })
        });
    let wal = prop_oneof![3 => Just(WalKind::Disk), 1 => Just(WalKind::Object)];
    let stale = prop_oneof![5 => Just(false), 1 => Just(true)];
    prop_oneof![
        3 => (node.clone(), 0..5u8, wal).prop_map(|(node, incarnation, wal)| Ask::Register { node, incarnation, wal }),
        1 => node.clone().prop_map(|node| Ask::Fence { node }),
        5 => (node.clone(), node.clone(), stale.clone()).prop_map(|(node, by, other_kind)| Ask::Close { node, by, other_kind }),
        1 => node.clone().prop_map(|node| Ask::Sweep { node }),
        5 => (node.clone(), stale.clone()).prop_map(|(node, stale)| Ask::Assign { node, stale }),
        2 => (topic.clone(), 0..3u8).prop_map(|(topic, partitions)| Ask::Create { topic, partitions }),
        1 => topic.clone().prop_map(|topic| Ask::Delete { topic }),
        1 => (topic.clone(), 0..3u8).prop_map(|(topic, existing)| Ask::Grow { topic, existing }),
        1 => (topic, stale.clone()).prop_map(|(topic, stale)| Ask::Configure { topic, stale }),
        4 => (node.clone(), stale.clone()).prop_map(|(node, stale)| Ask::Open { node, stale }),
        12 => commit,
        4 => (0..8u8, -3..20i64, 0..4u8).prop_map(|(stream, start, node)| Ask::Trim { stream, start, node }),
        2 => (0..9u8).prop_map(|count| Ask::Reap { count }),
        1 => (node, -1..9i64).prop_map(|(node, count)| Ask::Allocate { node, count }),
        1 => (0..3u8).prop_map(|node| Ask::GiveUp { node }),
        4 => (0..4u8, stale.clone(), stale).prop_map(|(to, stale, reassign)| Ask::Move { to, stale, reassign }),
        4 => (0..3u8, prop_oneof![6 => Just(0i64), 1 => -1..2i64]).prop_map(|(node, short)| Ask::HandOver { node, short }),
        1 => (0..3u8, 0..4i32).prop_map(|(node, duty)| Ask::Duty { node, duty }),
        1 => (0..3u8).prop_map(|node| Ask::Unregister { node }),
        1 => Just(Ask::Nothing),
    ]
}

fn topic_id(topic: u8) -> Vec<u8> {
    vec![topic; 16]
}

fn epoch_of(image: &MetadataImage, node: u8) -> u64 {
    image
        .nodes
        .get(&i32::from(node))
        .map_or(99, |node| node.epoch.0)
}

fn replicas(count: u8) -> Vec<Replicas> {
    let nodes = |i| Replicas {
        nodes: vec![i32::from(i) % 3, (i32::from(i) + 1) % 3],
    };
    (0..count).map(nodes).collect()
}

/// The command as a node would propose it that sees this image or an older one.
fn command(ask: Ask, image: &MetadataImage) -> Command {
    let action = match ask {
        Ask::Create { topic, partitions } => Action::CreateTopic(CreateTopic {
            name: format!("topic-{topic}"),
            id: topic_id(topic),
            partitions: replicas(partitions),
            ..CreateTopic::default()
        }),
        Ask::Delete { topic } => Action::DeleteTopic(DeleteTopic {
            id: topic_id(topic),
        }),
        Ask::Grow { topic, existing } => Action::CreatePartitions(CreatePartitions {
            topic: topic_id(topic),
            existing: existing.into(),
            added: replicas(1),
            is_chosen: false,
        }),
        Ask::Configure { topic, stale } => {
            let known = image.topic_by_id(highwater_types::Uuid([topic; 16]));
            Action::SetTopicConfigs(SetTopicConfigs {
                topic: topic_id(topic),
                configs: [("retention.ms".to_owned(), topic.to_string())].into(),
                decided_at: known.map_or(1, |topic| topic.configs_at.0) - u64::from(stale),
            })
        }
        Ask::Open { node, stale } => Action::OpenStreams(OpenStreams {
            node_epoch: epoch_of(image, node),
            streams: streams_of(image, stale),
        }),
        Ask::Commit(commit) => Action::CommitObject(commit_object(&commit, image)),
        Ask::HandOver { node, short } => Action::CommitObject(hand_over(node, short, image)),
        Ask::Move {
            to,
            stale,
            reassign,
        } => Action::MovePartitions(move_all(to, stale, reassign, image)),
        Ask::Trim {
            stream,
            start,
            node,
        } => Action::TrimStream(TrimStream {
            stream: stream.into(),
            start,
            node_epoch: epoch_of(image, node),
            leader_epoch: image
                .streams
                .get(&StreamId(stream.into()))
                .map_or(0, |held| held.leader_epoch.0),
        }),
        Ask::Reap { count } => Action::ObjectsDeleted(ObjectsDeleted {
            objects: image
                .condemned
                .keys()
                .take(count.into())
                .map(|id| (*id).into())
                .collect(),
        }),
        Ask::Allocate { node, count } => Action::AllocateProducerIds(AllocateProducerIds {
            node_epoch: epoch_of(image, node),
            count,
        }),
        of_node => {
            return node_action(&of_node, image).map_or_else(Command::default, Command::from);
        }
    };
    action.into()
}

/// Commands of nodes and their epochs.
fn node_action(ask: &Ask, image: &MetadataImage) -> Option<Action> {
    let action = match *ask {
        Ask::Register {
            node,
            incarnation,
            wal,
        } => Action::RegisterNode(RegisterNode {
            node: node.into(),
            incarnation: vec![incarnation],
            endpoints: Vec::new(),
            directory: vec![9],
            place: String::new(),
            wal: wal.into(),
            after: image
                .node(NodeId(node.into()))
                .map_or(0, |node| node.epoch.0),
            rack: format!("rack-{node}"),
            metadata_version: 0,
        }),
        Ask::Fence { node } => Action::FenceEpoch(FenceEpoch {
            node: node.into(),
            epoch: epoch_of(image, node),
        }),
        Ask::Close {
            node,
            by,
            other_kind,
        } => Action::CloseEpoch(close_epoch((node, by), other_kind, image)),
        Ask::Sweep { node } => {
            let known = image.nodes.get(&i32::from(node));
            let first = known.and_then(|node| node.epochs.keys().next());
            Action::EpochSwept(EpochSwept {
                node: node.into(),
                epoch: first.map_or(99, |epoch| epoch.0),
            })
        }
        Ask::Assign { node, stale } => Action::AssignLeaders(AssignLeaders {
            node_epoch: epoch_of(image, node),
            streams: streams_of(image, stale),
        }),
        Ask::Duty { node, duty } => Action::SetDuty(SetDuty {
            node: node.into(),
            duty,
        }),
        Ask::Unregister { node } => Action::UnregisterNode(UnregisterNode { node: node.into() }),
        Ask::GiveUp { node } => Action::GiveUpEpoch(GiveUpEpoch {
            node: node.into(),
            epoch: epoch_of(image, node),
        }),
        _ => return None,
    };
    Some(action)
}

fn commit_object(commit: &Commit, image: &MetadataImage) -> CommitObject {
    let last = image
        .nodes
        .get(&i32::from(commit.node))
        .and_then(|node| node.epochs.get(&node.epoch))
        .map_or(0, |epoch| epoch.last_upload);
    let number = last + u64::from(commit.step);
    let claims = commit.streams.iter().map(|&(stream, skip, count)| {
        let stream = u64::from(stream);
        let held = image.streams.get(&StreamId(stream));
        let first = held.map_or(0, |held| held.committed_end) + skip.min(1);
        let claim = ClaimRecord {
            first,
            next: first + count,
            part_end: 10,
            max_timestamp: 5,
            open_from: -1,
            checkpoint_bytes: commit.checkpoint_bytes,
            leader_epoch: held.map_or(0, |held| held.leader_epoch.0),
            ..ClaimRecord::default()
        };
        ClaimOfStream {
            stream,
            claim: Some(claim),
            rolls: vec![roll(first, first % 2 == 0, 5)],
        }
    });
    let epoch = epoch_of(image, commit.node);
    let position = |at| Some(Position { epoch, at });
    CommitObject {
        node: commit.node.into(),
        node_epoch: epoch_of(image, commit.node),
        number,
        bytes: 100,
        claims: claims.collect(),
        floor: position(number),
        lowest_in_flight: number,
        confirmed: position(number),
        recovering: commit.recovering,
        handed_over: Vec::new(),
    }
}

/// A roll, or a claim's part of one.
fn roll(base: i64, begins: bool, max_timestamp: i64) -> RollRecord {
    RollRecord {
        base,
        begins,
        bytes: 1000,
        max_timestamp,
        first_timestamp: max_timestamp,
        first_append: max_timestamp + 500,
        last_append: max_timestamp + 500,
    }
}

/// Every stream, under the leader epoch of its partition.
fn streams_of(image: &MetadataImage, stale: bool) -> Vec<StreamEpoch> {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    let asked = partitions.map(|partition| StreamEpoch {
        stream: partition.stream.0,
        leader_epoch: partition.leader_epoch.0 - i32::from(stale),
    });
    asked.collect()
}

/// Closes the first epoch of a node that the image still has, with all streams that the epoch holds.
fn close_epoch((node, by): (u8, u8), other_kind: bool, image: &MetadataImage) -> CloseEpoch {
    let known = image.nodes.get(&i32::from(node));
    let first = known.and_then(|node| node.epochs.first_key_value());
    let epoch = first.map_or(99, |(epoch, _)| epoch.0);
    let sealed = first.is_some_and(|(_, image)| image.wal == WalKind::Object) != other_kind;
    let by_epoch = epoch_of(image, by);
    let held = image.streams.iter();
    let held = held.filter(|(_, stream)| stream.held_by == Some(NodeEpoch(epoch)));
    let claims = held.map(|(id, stream)| ClaimOfStream {
        stream: id.0,
        claim: Some(ClaimRecord {
            first: stream.committed_end,
            next: stream.committed_end + 3,
            leader_epoch: stream.leader_epoch.0,
            ..ClaimRecord::default()
        }),
        rolls: Vec::new(),
    });
    let sealer = image.nodes.get(&i32::from(by));
    let sealer = sealer.and_then(|node| node.epochs.get(&node.epoch));
    let index = ObjectId {
        node: NodeId(by.into()),
        epoch: NodeEpoch(by_epoch),
        kind: ObjectKind::Index,
        number: sealer.map_or(0, |epoch| epoch.last_index) + 1 + image.at.0 % 2,
    };
    let how = match sealed {
        true => Closing::Sealed(Sealed {
            at: Some(Position { epoch, at: 1000 }),
            index: Some(index.into()),
            bytes: 100,
            claims: claims.collect(),
        }),
        false => Closing::Recovered(Recovered {}),
    };
    CloseEpoch {
        node: node.into(),
        epoch,
        by: by_epoch,
        how: Some(how),
    }
}

fn restored(parts: impl IntoIterator<Item = Vec<u8>>) -> Result<MetadataImage, SnapshotError> {
    let mut restored = Restored::default();
    for part in parts {
        restored.push(&part)?;
    }
    restored.image()
}

/// Applies every command to two images, one of which goes through a snapshot each time.
fn run(asks: Vec<Ask>) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (at, ask) in (1..).map(LogIndex).zip(asks) {
        let command = command(ask, &image);
        let mut twin = restored(image.parts()).expect("a snapshot is read");
        assert_eq!(twin, image, "a snapshot is the state");
        let before = image.clone();
        let outcome = image.apply(at, command.clone());
        assert_eq!(twin.apply(at, command.clone()), outcome, "deterministic");
        assert_eq!(twin, image, "deterministic");
        if outcome.is_err() {
            let mut as_before = image.clone();
            as_before.at = before.at;
            without_refused_index(&mut as_before, &before, &command);
            assert_eq!(as_before, before, "a refusal changes nothing: {command:?}");
        }
        if let Err(broken) = image.check() {
            panic!("{broken}, by {command:?}");
        }
        nothing_goes_back(&before, &image);
    }
    image
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn invariants_hold_after_any_commands(asks in vec(asks(), 1..80)) {
        run(asks);
    }

    // bytes that are no snapshot are refused and never cause a panic
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        drop(restored([bytes]));
    }
}

struct Log {
    image: MetadataImage,
    at: u64,
}

impl Log {
    /// A cluster of one registered node, with one partition that no node leads.
    fn created() -> (Self, NodeEpoch) {
        let mut log = Self {
            image: MetadataImage::default(),
            at: 0,
        };
        let epoch = log.register(1);
        log.ask(Ask::Create {
            topic: 1,
            partitions: 1,
        })
        .expect("creates");
        (log, epoch)
    }

    /// A cluster of one registered node, with one partition that the node has open.
    fn opened() -> (Self, NodeEpoch) {
        let (mut log, epoch) = Self::created();
        log.ask(ASSIGN).expect("is given");
        log.ask(Ask::Open {
            node: 0,
            stale: false,
        })
        .expect("opens");
        (log, epoch)
    }

    fn register(&mut self, incarnation: u8) -> NodeEpoch {
        let node = 0;
        let wal = WalKind::Disk;
        let register = Ask::Register {
            node,
            incarnation,
            wal,
        };
        match self.ask(register) {
            Ok(Outcome::Registered { epoch, .. }) => epoch,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<Outcome, Rejection> {
        let command = command(ask, &self.image);
        self.apply(command)
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, Rejection> {
        self.at += 1;
        self.image.apply(LogIndex(self.at), command)
    }

    fn commit(&self, first: i64, next: i64) -> CommitObject {
        let mut commit = commit_object(
            &Commit {
                node: 0,
                streams: vec![(0, 0, next - first)],
                step: 1,
                checkpoint_bytes: None,
                recovering: false,
            },
            &self.image,
        );
        if let Some(claim) = commit.claims[0].claim.as_mut() {
            (claim.first, claim.next) = (first, next);
        }
        commit
    }

    fn committed(&mut self, commit: CommitObject) -> Result<Outcome, Rejection> {
        self.apply(Action::CommitObject(commit).into())
    }
}

// U3
#[test]
fn a_commit_is_repeated_clipped_dropped_or_refused() {
    let (mut log, _) = Log::opened();
    let first = log.commit(0, 10);
    let answer = log.committed(first.clone());
    assert_eq!(answer, Ok(Outcome::Committed { dropped: vec![] }));
    assert_eq!(log.committed(first.clone()), answer, "the first answer");
    let clipped = log.commit(5, 20);
    log.committed(clipped).expect("clipped");
    let claims = &log.image.streams.values().next().expect("one").claims;
    let ranges: Vec<_> = claims
        .values()
        .map(|claim| claim.first..claim.next)
        .collect();
    assert_eq!(ranges, [0..10, 10..20]);
    assert_eq!(log.committed(first), Err(Rejection::Changed), "passed over");
    let gap = log.commit(21, 30);
    assert!(matches!(log.committed(gap), Err(Rejection::Gap { .. })));
    let below = log.commit(3, 20);
    let dropped = log.committed(below);
    assert!(matches!(dropped, Ok(Outcome::Committed { dropped }) if dropped.len() == 1));
}

#[test]
fn a_malformed_claim_is_refused() {
    let (mut log, _) = Log::opened();
    let sound = log.commit(0, 10);
    let with = |change: fn(&mut ClaimRecord)| {
        let mut commit = sound.clone();
        commit.claims[0].claim.as_mut().map(change);
        commit
    };
    let mut twice = sound.clone();
    twice.claims.push(sound.claims[0].clone());
    let malformed = [
        with(|claim| claim.next = claim.first),
        with(|claim| claim.part_start = 11),
        with(|claim| claim.first = -1),
        twice,
    ];
    for commit in malformed {
        assert_eq!(log.committed(commit), Err(Rejection::NotUnderstood));
    }
}
