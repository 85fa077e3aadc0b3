//! Random commands: whatever comes, the invariants hold, every node comes to the same, and nothing goes back.

use std::collections::BTreeSet;

use highwater_types::{LogIndex, NodeEpoch, ObjectId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::command::{
    AllocateProducerIds, ClaimOfStream, ClaimRecord, CloseEpoch, CommitObject, CreatePartitions,
    CreateTopic, DeleteTopic, Format, ObjectsDeleted, OpenStreams, RegisterNode, Replicas,
    SetTopicConfigs, StreamEpoch, TrimStream,
};
use crate::image::MetadataImage;
use crate::{Action, Command, Outcome, Rejection};

/// What is asked for, before it meets a state: small numbers, so that commands concern each other.
#[derive(Debug, Clone)]
enum Ask {
    Register { node: u8, incarnation: u8 },
    Close { node: u8, stale: bool },
    Create { topic: u8, partitions: u8 },
    Delete { topic: u8 },
    Grow { topic: u8, existing: u8 },
    Configure { topic: u8 },
    Open { node: u8, stale: bool },
    Commit(Commit),
    Trim { stream: u8, start: i64, node: u8 },
    Reap { count: u8 },
    Allocate { node: u8, count: i64 },
    Nothing,
}

#[derive(Debug, Clone)]
struct Commit {
    node: u8,
    streams: Vec<(u8, i64, i64)>,
    /// How far above the last number, or a repeat.
    step: u8,
    checkpoint_bytes: Option<u64>,
    recovering: bool,
}

fn asks() -> impl Strategy<Value = Ask> {
    let node = 0..3u8;
    let topic = 0..3u8;
    let commit = (
        node.clone(),
        vec((0..6u8, -2..4i64, -1..8i64), 0..4),
        prop_oneof![6 => Just(1u8), 1 => Just(0), 1 => 2..90u8],
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
    let stale = prop_oneof![5 => Just(false), 1 => Just(true)];
    prop_oneof![
        2 => (node.clone(), 0..5u8).prop_map(|(node, incarnation)| Ask::Register { node, incarnation }),
        3 => (node.clone(), stale.clone()).prop_map(|(node, stale)| Ask::Close { node, stale }),
        2 => (topic.clone(), 0..3u8).prop_map(|(topic, partitions)| Ask::Create { topic, partitions }),
        1 => topic.clone().prop_map(|topic| Ask::Delete { topic }),
        1 => (topic.clone(), 0..3u8).prop_map(|(topic, existing)| Ask::Grow { topic, existing }),
        1 => topic.prop_map(|topic| Ask::Configure { topic }),
        4 => (node.clone(), stale).prop_map(|(node, stale)| Ask::Open { node, stale }),
        12 => commit,
        4 => (0..8u8, -3..20i64, 0..4u8).prop_map(|(stream, start, node)| Ask::Trim { stream, start, node }),
        2 => (0..9u8).prop_map(|count| Ask::Reap { count }),
        1 => (node, -1..9i64).prop_map(|(node, count)| Ask::Allocate { node, count }),
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

/// The command as a node would make it that sees this image, or one that sees an older one.
fn command(ask: Ask, image: &MetadataImage) -> Command {
    let action = match ask {
        Ask::Register { node, incarnation } => Action::RegisterNode(RegisterNode {
            node: node.into(),
            incarnation: vec![incarnation],
            endpoints: Vec::new(),
        }),
        Ask::Close { node, stale } => Action::CloseEpoch(CloseEpoch {
            node: node.into(),
            below: epoch_of(image, node) - u64::from(stale),
        }),
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
        }),
        Ask::Configure { topic } => Action::SetTopicConfigs(SetTopicConfigs {
            topic: topic_id(topic),
            configs: [("retention.ms".to_owned(), topic.to_string())].into(),
        }),
        Ask::Open { node, stale } => {
            let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
            let asked = partitions.map(|partition| StreamEpoch {
                stream: partition.stream.0,
                leader_epoch: partition.leader_epoch.0 - i32::from(stale),
            });
            Action::OpenStreams(OpenStreams {
                node_epoch: epoch_of(image, node),
                streams: asked.collect(),
            })
        }
        Ask::Commit(commit) => Action::CommitObject(commit_object(&commit, image)),
        Ask::Trim {
            stream,
            start,
            node,
        } => Action::TrimStream(TrimStream {
            stream: stream.into(),
            start,
            node_epoch: if node == 3 { 0 } else { epoch_of(image, node) },
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
        Ask::Nothing => return Command::default(),
    };
    action.into()
}

fn commit_object(commit: &Commit, image: &MetadataImage) -> CommitObject {
    let last = image
        .nodes
        .get(&i32::from(commit.node))
        .map_or(0, |node| node.last_upload_number());
    let number = last + u64::from(commit.step);
    let claims = commit.streams.iter().map(|&(stream, skip, count)| {
        let stream = u64::from(stream);
        let held = image.streams.get(&highwater_types::StreamId(stream));
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
        }
    });
    CommitObject {
        node: commit.node.into(),
        node_epoch: epoch_of(image, commit.node),
        number,
        bytes: 100,
        claims: claims.collect(),
        floor: number,
        lowest_in_flight: number,
        confirmed: number,
        recovering: commit.recovering,
    }
}

/// What never goes back, whatever comes.
fn nothing_goes_back(before: &MetadataImage, after: &MetadataImage) {
    for (id, stream) in &before.streams {
        let Some(now) = after.streams.get(id) else {
            continue;
        };
        assert!(now.committed_end >= stream.committed_end, "I4");
        assert!(now.start >= stream.start, "U4");
        assert!(now.leader_epoch >= stream.leader_epoch, "E5");
    }
    for (id, node) in &before.nodes {
        let now = &after.nodes[id];
        assert!(now.epoch >= node.epoch && now.floor >= node.floor, "E1, W6");
        assert!(now.closed_below >= node.closed_below, "E3");
    }
    assert!(after.next_stream >= before.next_stream);
    assert!(after.next_producer >= before.next_producer);
    let condemned: BTreeSet<&ObjectId> = before.condemned.keys().collect();
    assert!(
        after.objects.keys().all(|id| !condemned.contains(id)),
        "G1: condemned for good"
    );
}

/// Applies every command to two images, one of them through a snapshot each time.
fn run(asks: Vec<Ask>) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (at, ask) in (1..).map(LogIndex).zip(asks) {
        let command = command(ask, &image);
        let mut twin = MetadataImage::decode(&image.encode()).expect("a snapshot is read");
        assert_eq!(twin, image, "a snapshot is the state");
        let before = image.clone();
        let outcome = image.apply(at, command.clone());
        assert_eq!(twin.apply(at, command.clone()), outcome, "deterministic");
        assert_eq!(twin, image, "deterministic");
        if outcome.is_err() {
            let mut as_before = image.clone();
            as_before.at = before.at;
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

    // bytes that are no snapshot are refused, never a panic
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        drop(MetadataImage::decode(&bytes));
    }
}

struct Log {
    image: MetadataImage,
    at: u64,
}

impl Log {
    /// A cluster of one registered node with one partition that it has open.
    fn opened() -> (Self, NodeEpoch) {
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
        log.ask(Ask::Open {
            node: 0,
            stale: false,
        })
        .expect("opens");
        (log, epoch)
    }

    fn register(&mut self, incarnation: u8) -> NodeEpoch {
        let node = 0;
        match self.ask(Ask::Register { node, incarnation }) {
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

// E3, E5
#[test]
fn a_former_epoch_is_recovered_then_closed_then_led_anew() {
    let (mut log, _) = Log::opened();
    let epoch = log.register(2);
    let refused = log.ask(Ask::Open {
        node: 0,
        stale: false,
    });
    assert_eq!(refused, Err(Rejection::Fenced(epoch)), "not closed yet");
    let own = log.commit(0, 10);
    assert_eq!(log.committed(own.clone()), Err(Rejection::Fenced(epoch)));
    let recovered = CommitObject {
        recovering: true,
        ..own
    };
    log.committed(recovered.clone()).expect("recovers");
    assert_eq!(
        log.image.streams[&highwater_types::StreamId(0)].committed_end,
        10
    );
    log.ask(Ask::Close {
        node: 0,
        stale: false,
    })
    .expect("closes");
    let late = CommitObject {
        number: 2,
        ..recovered
    };
    assert_eq!(log.committed(late), Err(Rejection::Fenced(epoch)));
    let partition = &log.image.topic("topic-1").expect("there").partitions[0];
    assert_eq!(partition.leader.map(|(_, epoch)| epoch), Some(epoch));
    assert_eq!(partition.leader_epoch.0, 1);
}

// D2: metadata that lost its end learns from the log what it once gave, and does not drop it as deleted or moved
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
    let stream = highwater_types::StreamId(1);
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
    commit.number = 3;
    commit.lowest_in_flight = 3;
    log.committed(commit).expect("commits");
    let numbers =
        |log: &Log| -> Vec<u64> { log.image.condemned().map(|(id, _)| id.number).collect() };
    assert_eq!(numbers(&log), [1, 2], "passed over");
    log.register(2);
    let expected: Vec<u64> = [1, 2].into_iter().chain(4..=67).collect();
    assert_eq!(numbers(&log), expected);
    let mut far = log.commit(10, 11);
    far.number = 65;
    far.recovering = true;
    assert_eq!(
        log.committed(far),
        Err(Rejection::NotUnderstood),
        "U2: 64 in flight"
    );
}

impl Log {
    /// Commits a claim, with a checkpoint or without; answers its object.
    fn claimed(&mut self, first: i64, next: i64, checkpoint_bytes: Option<u64>) -> u64 {
        let mut commit = self.commit(first, next);
        let number = commit.number;
        let claim = commit.claims[0].claim.as_mut().expect("it has one");
        claim.checkpoint_bytes = checkpoint_bytes;
        let dropped = Vec::new();
        assert_eq!(self.committed(commit), Ok(Outcome::Committed { dropped }));
        number
    }

    fn trim(&mut self, start: i64) {
        let (stream, node) = (0, 0);
        let trimmed = self.ask(Ask::Trim {
            stream,
            start,
            node,
        });
        assert_eq!(trimmed, Ok(Outcome::Done));
        self.image.check().expect("is sound");
    }

    fn objects(&self) -> Vec<u64> {
        self.image.objects.keys().map(|id| id.number).collect()
    }
}

// I6, F5: what is known of producers is in the checkpoint and the deltas after it, whatever is trimmed
#[test]
fn claims_after_the_checkpoint_outlive_a_trim_until_the_next_checkpoint() {
    let (mut log, _) = Log::opened();
    let checkpoint = log.claimed(0, 10, Some(9));
    let deltas = [log.claimed(10, 20, None), log.claimed(20, 30, None)];
    log.trim(15);
    log.trim(30);
    assert_eq!(log.objects(), [checkpoint, deltas[0], deltas[1]]);
    // below the start when it comes
    log.trim(40);
    let late = log.claimed(30, 40, None);
    assert_eq!(log.objects().last(), Some(&late));
    let newer = log.claimed(40, 50, Some(9));
    assert_eq!(log.objects(), [newer]);
    log.trim(50);
    assert_eq!(log.objects(), [newer], "F5: data or no data");
    log.image.check().expect("is sound");
}

// F5: 20 MB for one trimmed record
#[test]
fn a_checkpoint_that_is_carried_forward_lets_older_objects_go() {
    let (mut log, _) = Log::opened();
    log.claimed(0, 10, Some(9));
    log.claimed(10, 20, None);
    log.trim(20);
    let carried = log.claimed(20, 20, Some(9));
    assert_eq!(log.objects(), [carried]);
    let mut stale = log.commit(10, 10);
    let claim = stale.claims[0].claim.as_mut().expect("it has one");
    claim.checkpoint_bytes = Some(0);
    let answer = log.committed(stale);
    let dropped = vec![highwater_types::StreamId(0)];
    assert_eq!(answer, Ok(Outcome::Committed { dropped }), "not at the end");
    assert_eq!(log.objects(), [carried]);
    log.claimed(20, 20, Some(0));
    assert!(log.objects().is_empty(), "an empty one needs no object");
    let next = log.claimed(20, 30, Some(0));
    assert_eq!(log.objects(), [next]);
    log.trim(30);
    assert!(log.objects().is_empty());
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
    let format = Format {
        cluster_id: vec![1; 16],
    };
    log.apply(Action::Format(format).into()).expect("formats");
    let again = Format {
        cluster_id: vec![2; 16],
    };
    log.apply(Action::Format(again).into())
        .expect("is formatted");
    assert_eq!(log.image.cluster().0, [1; 16]);
}
