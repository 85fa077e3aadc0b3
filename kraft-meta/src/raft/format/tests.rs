//! Golden bytes of the files on disk: a log with every kind of record and of command, and the snapshot made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_io::{RealDevice, RealThreads};
use highwater_runtime::reasons;
use highwater_types::{LogIndex, Uuid};
use openraft::EntryPayload;
use prost::Message;

use super::*;
use crate::OpenError;
use crate::command::{
    AllocateProducerIds, AssignLeaders, ClaimOfStream, ClaimRecord, ClaimStore, CloseEpoch,
    Closing, Command, CommitObject, CreatePartitions, CreateTopic, DeleteTopic, Duty, Endpoint,
    EpochSwept, FenceEpoch, Format, GiveUpEpoch, HandedOver, MovePartitions, ObjectName,
    ObjectsDeleted, OpenStreams, PartitionMove, Position, Recovered, RegisterNode, Replicas,
    RollRecord, Sealed, SetDuty, SetMetadataVersion, SetTopicConfigs, StreamEpoch, TrimStream,
    UnregisterNode, WalKind,
};
use crate::image::{MetadataImage, Restored};
use crate::raft::record::{DirectoryRecord, Kind, LogRecord, MembershipRecord, TruncateRecord};
use crate::raft::replica::Replica;
use crate::raft::snapshot_store::SnapshotStore;
use crate::raft::types::{
    Entry, LeaderId, LogId, Membership, Proposal, SnapshotMeta, StoredMembership, Vote,
};
use crate::{Action, SnapshotError};

fn register(node: i32, incarnation: u8, wal: WalKind, after: u64) -> Action {
    Action::RegisterNode(RegisterNode {
        node,
        incarnation: vec![incarnation; 16],
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "broker".to_owned(),
            port: 9092,
        }],
        directory: vec![9],
        place: String::new(),
        wal: wal.into(),
        after,
        rack: if node > 2 { "zone-b" } else { "" }.to_owned(),
        metadata_version: 0,
    })
}

fn topic(name: &str, id: u8, nodes: &[i32]) -> Action {
    let replicas = |node: &i32| Replicas { nodes: vec![*node] };
    Action::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id: vec![id; 16],
        partitions: nodes.iter().map(replicas).collect(),
        configs: [("retention.ms".to_owned(), "1000".to_owned())].into(),
        internal: true,
        is_chosen: id > 2,
    })
}

fn assign(node_epoch: u64, streams: Vec<StreamEpoch>) -> Action {
    Action::AssignLeaders(AssignLeaders {
        node_epoch,
        streams,
    })
}

fn stream(stream: u64, leader_epoch: i32) -> StreamEpoch {
    StreamEpoch {
        stream,
        leader_epoch,
    }
}

fn claim(stream: u64, next: i64) -> ClaimOfStream {
    let roll = RollRecord {
        base: 3,
        begins: true,
        bytes: 40,
        max_timestamp: 1000,
        first_timestamp: 900,
        first_append: 1100,
        last_append: 1200,
    };
    ClaimOfStream {
        stream,
        claim: Some(ClaimRecord {
            first: 0,
            next,
            part_start: 100,
            part_end: 200,
            max_timestamp: 1000,
            open_from: 4,
            checkpoint_bytes: Some(9),
            leader_epoch: 0,
            object: None,
        }),
        rolls: vec![roll],
    }
}

fn object(kind: u32, number: u64) -> ObjectName {
    ObjectName {
        node: 1,
        node_epoch: 2,
        kind,
        number,
    }
}

fn position(epoch: u64, at: u64) -> Option<Position> {
    Some(Position { epoch, at })
}

/// The actions from index 1 on; each one is accepted.
fn actions() -> Vec<Action> {
    [of_two_nodes(), of_a_takeover(), of_moves()].concat()
}

fn of_two_nodes() -> Vec<Action> {
    let open = |node_epoch, streams| {
        Action::OpenStreams(OpenStreams {
            node_epoch,
            streams,
        })
    };
    vec![
        Action::Format(Format {
            cluster_id: vec![7; 16],
        }),
        register(1, 1, WalKind::Disk, 0),
        register(2, 2, WalKind::Object, 0),
        topic("t", 1, &[1, 2]),
        Action::CreatePartitions(CreatePartitions {
            topic: vec![1; 16],
            existing: 2,
            added: vec![Replicas { nodes: vec![1, 2] }],
            is_chosen: false,
        }),
        Action::SetTopicConfigs(SetTopicConfigs {
            topic: vec![1; 16],
            configs: [("segment.ms".to_owned(), "2000".to_owned())].into(),
            decided_at: 4,
        }),
        assign(2, vec![stream(0, -1), stream(2, -1)]),
        assign(3, vec![stream(1, -1)]),
        open(2, vec![stream(0, 0), stream(2, 0)]),
        open(3, vec![stream(1, 0)]),
        Action::CommitObject(CommitObject {
            node: 1,
            node_epoch: 2,
            number: 2,
            bytes: 300,
            claims: vec![claim(0, 10), claim(2, 20)],
            floor: position(2, 4096),
            lowest_in_flight: 2,
            confirmed: position(2, 8192),
            recovering: false,
            handed_over: Vec::new(),
        }),
        Action::TrimStream(TrimStream {
            stream: 0,
            start: 5,
            node_epoch: 2,
            leader_epoch: 0,
        }),
        Action::AllocateProducerIds(AllocateProducerIds {
            node_epoch: 2,
            count: 1000,
        }),
        Action::FenceEpoch(FenceEpoch { node: 2, epoch: 3 }),
    ]
}

fn of_a_takeover() -> Vec<Action> {
    vec![
        Action::CloseEpoch(CloseEpoch {
            node: 2,
            epoch: 3,
            by: 2,
            how: Some(Closing::Sealed(Sealed {
                at: position(3, 17),
                index: Some(object(3, 1)),
                bytes: 400,
                claims: vec![claim(1, 30)],
            })),
        }),
        assign(2, vec![stream(1, 0)]),
        Action::ObjectsDeleted(ObjectsDeleted {
            objects: vec![object(0, 1)],
        }),
        topic("gone", 2, &[1]),
        Action::DeleteTopic(DeleteTopic { id: vec![2; 16] }),
        register(1, 3, WalKind::Disk, 2),
        Action::CommitObject(CommitObject {
            node: 1,
            node_epoch: 20,
            number: 1,
            bytes: 50,
            claims: vec![claim(0, 12)],
            floor: position(2, 8192),
            lowest_in_flight: 1,
            confirmed: position(2, 8192),
            recovering: true,
            handed_over: Vec::new(),
        }),
        Action::CloseEpoch(CloseEpoch {
            node: 1,
            epoch: 2,
            by: 20,
            how: Some(Closing::Recovered(Recovered {})),
        }),
        register(2, 4, WalKind::Object, 3),
        Action::FenceEpoch(FenceEpoch { node: 2, epoch: 23 }),
    ]
}

fn of_moves() -> Vec<Action> {
    let moves = |stream, leader_epoch, replicas: Option<Vec<i32>>| {
        let of_one = PartitionMove {
            stream,
            leader_epoch,
            decided_at: 0,
            replicas: replicas.map(|nodes| Replicas { nodes }),
            by_operator: true,
            to: Some(3),
        };
        Action::MovePartitions(MovePartitions {
            moves: vec![of_one],
        })
    };
    vec![
        register(3, 5, WalKind::Object, 0),
        assign(20, vec![stream(0, 0), stream(1, 1), stream(2, 0)]),
        Action::OpenStreams(OpenStreams {
            node_epoch: 20,
            streams: vec![stream(0, 1), stream(1, 2)],
        }),
        moves(0, 1, None),
        moves(1, 2, Some(vec![3, 1])),
        Action::CommitObject(CommitObject {
            node: 1,
            node_epoch: 20,
            number: 2,
            bytes: 0,
            claims: Vec::new(),
            floor: position(2, 8192),
            lowest_in_flight: 2,
            confirmed: position(2, 8192),
            recovering: false,
            handed_over: vec![HandedOver {
                stream: 0,
                leader_epoch: 1,
                end: 12,
            }],
        }),
        Action::SetDuty(SetDuty {
            node: 3,
            duty: Duty::Draining.into(),
        }),
        register(4, 6, WalKind::Object, 0),
        Action::FenceEpoch(FenceEpoch { node: 4, epoch: 32 }),
        Action::CloseEpoch(CloseEpoch {
            node: 4,
            epoch: 32,
            by: 25,
            how: Some(Closing::Sealed(Sealed {
                at: position(32, 0),
                ..Sealed::default()
            })),
        }),
        Action::UnregisterNode(UnregisterNode { node: 4 }),
        topic("chosen", 3, &[3]),
        Action::ClaimStore(ClaimStore { store: vec![4; 16] }),
    ]
}

fn log_id(index: u64) -> LogId {
    let leader = LeaderId {
        term: 2,
        node_id: 1,
    };
    LogId::new(leader, index)
}

fn entry(index: u64, payload: EntryPayload<Proposal, u64, Replica>) -> LogRecord {
    let log_id = log_id(index);
    LogRecord::from(Kind::Entry((&Entry { log_id, payload }).into()))
}

fn members() -> Membership {
    let joined = Replica {
        directory: Some(Uuid([6; 16])),
        endpoints: vec![Endpoint {
            listener: "CONTROLLER".to_owned(),
            host: "controller".to_owned(),
            port: 9093,
        }],
    };
    let nodes = [(1, Replica::default()), (1 << 31 | 2, joined)];
    let members = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from(nodes));
    members.expect("a voter is a node")
}

fn log(actions: &[Action]) -> Vec<u8> {
    let members = members();
    let mut records = vec![LogRecord::from(Kind::Vote(
        (&Vote::new_committed(2, 1)).into(),
    ))];
    for (index, action) in (1..).zip(actions) {
        let proposal = Proposal(Command::from(action.clone()));
        records.push(entry(index, EntryPayload::Normal(proposal)));
    }
    records.push(entry(90, EntryPayload::Membership(members)));
    records.push(entry(91, EntryPayload::Blank));
    let truncate = |all, after| LogRecord::from(Kind::Truncate(TruncateRecord { all, after }));
    records.extend([truncate(false, 90), truncate(true, 0)]);
    records.push(LogRecord::from(Kind::Purge((&log_id(90)).into())));
    let directory = DirectoryRecord::new(1, Uuid([5; 16]));
    records.push(LogRecord::from(Kind::Directory(directory)));
    records.push(LogRecord::from(Kind::Own(directory)));
    let each = records.iter().map(Message::encode_length_delimited_to_vec);
    each.collect::<Vec<_>>().concat()
}

fn golden(name: &str, ours: &[u8]) -> Vec<u8> {
    let path = format!(
        "{}/fixtures/v{VERSION}/{name}.bin",
        env!("CARGO_MANIFEST_DIR")
    );
    if !ours.is_empty() && std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, ours).expect("writes");
    }
    std::fs::read(&path).expect("is checked in")
}

async fn snapshot(dir: &Path, image: &MetadataImage) -> (Vec<u8>, SnapshotStore) {
    let store = SnapshotStore::start(Arc::new(RealDevice), dir, &RealThreads);
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(image.at().0)),
        last_membership: StoredMembership::new(Some(log_id(1)), members()),
    };
    store.save(meta, image.clone()).await.expect("is written");
    (
        std::fs::read(dir.join("snapshot")).expect("is there"),
        store,
    )
}

async fn read_back(store: &SnapshotStore) -> Result<MetadataImage, OpenError> {
    let (meta, file) = store.newest().await?.expect("is there");
    let (same, image) = file.read().await?;
    assert_eq!(meta, same);
    assert_eq!(meta.last_log_id, Some(log_id(image.at().0)));
    Ok(image)
}

/// The image after these actions from index 1 on, each of which is accepted.
fn image_of(actions: &[Action]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (index, action) in (1..).zip(actions) {
        let applied = image.apply(LogIndex(index), Command::from(action.clone()));
        applied.unwrap_or_else(|error| panic!("{index}: {error}"));
        image.check().expect("is sound");
    }
    image
}

/// The entries of a log, each encoded.
fn entries(mut log: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while !log.is_empty() {
        let record = LogRecord::decode_length_delimited(&mut log).expect("is read");
        if let Some(Kind::Entry(record)) = record.kind
            && let EntryPayload::Normal(Proposal(command)) = Entry::from(record).payload
        {
            entries.push(command.encode_to_vec());
        }
    }
    entries
}

/// The number of a command's kind: its tag, which takes two bytes from 16 on.
fn kind_of(command: &[u8]) -> u8 {
    match command[0] {
        low @ ..0x80 => low >> 3,
        low => (low & 0x7f) >> 3 | command[1] << 4,
    }
}

// The first binaries that wrote this format knew fewer commands and fields.
#[tokio::test]
async fn a_log_and_a_snapshot_of_earlier_binaries_are_read() {
    let earlier = [of_two_nodes(), of_a_takeover()].concat();
    let temporary = tempfile::tempdir().expect("a directory");
    let (_, store) = snapshot(temporary.path(), &MetadataImage::default()).await;
    let of_then = golden("first/snapshot", &[]);
    std::fs::write(temporary.path().join("snapshot"), of_then).expect("writes");
    assert_eq!(
        read_back(&store).await.expect("is read"),
        image_of(&earlier)
    );
    let read = entries(&golden("first/log", &[]));
    let encoded = earlier
        .into_iter()
        .map(|action| Command::from(action).encode_to_vec());
    assert_eq!(read[..24], encoded.collect::<Vec<_>>());
}

#[tokio::test]
async fn golden_log_and_snapshot_are_written_byte_for_byte() {
    let actions = actions();
    let image = image_of(&actions);
    let temporary = tempfile::tempdir().expect("a directory");
    let (written, store) = snapshot(temporary.path(), &image).await;
    let stored = golden("snapshot", &written);
    assert!(written == stored, "a snapshot is of another format");
    assert_eq!(read_back(&store).await.expect("is read"), image);

    let swept = EpochSwept { node: 2, epoch: 3 };
    let given_up = GiveUpEpoch { node: 1, epoch: 20 };
    let raised = SetMetadataVersion { version: 0 };
    let others = vec![
        Action::EpochSwept(swept),
        Action::GiveUpEpoch(given_up),
        Action::SetMetadataVersion(raised),
    ];
    let every = [actions, others].concat();
    let log = log(&every);
    let stored = golden("log", &log);
    assert!(log == stored, "a record of the log is of another format");
    let kinds: BTreeSet<u8> = entries(&stored)
        .iter()
        .map(|entry| kind_of(entry))
        .collect();
    let tags = 1..=21;
    assert!(kinds.into_iter().eq(tags), "every kind of command is there");
}

// a log of a voter whose quorum never changed, as the first release with several voters wrote it
#[test]
fn a_membership_without_directories_and_addresses_is_read() {
    let former = b"\x0a\x03\x0a\x01\x01\x12\x0d\x08\x01\x12\x09localhost";
    let record = MembershipRecord::decode(&former[..]).expect("is read");
    let membership = Membership::from(record);
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [1]);
    assert_eq!(membership.get_node(&1), Some(&Replica::default()));
    let again = MembershipRecord::from(&membership);
    assert_eq!(
        again.encode_to_vec(),
        former[..],
        "and written again the same"
    );
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let refused = Restored::default().push(&[0x08, 1]);
    assert!(matches!(refused, Err(SnapshotError::OtherVersion(1))));
}

// The directories of other releases: one of the first format, which had no such file, one of the format before, and one
// of a later format.
#[tokio::test]
async fn a_directory_of_another_format_is_refused_and_says_what_to_do() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path().join("metadata");
    check(&RealDevice, &dir).await.expect("is written");
    check(&RealDevice, &dir).await.expect("is read");
    std::fs::create_dir(dir.join("log")).expect("creates");
    let path = dir.join(FILE);
    for (content, found) in [
        (None, "format 1"),
        (Some("4\n"), "format 4"),
        (Some("6\n"), "format 6"),
    ] {
        std::fs::remove_file(&path).expect("is there");
        if let Some(content) = content {
            std::fs::write(&path, content).expect("writes");
        }
        let refused = check(&RealDevice, &dir).await.expect_err("is refused");
        let why = reasons(&refused);
        let named = why.contains(&format!("{} has {found}", dir.display()));
        assert!(named && why.contains("an empty data directory"), "{why}");
        std::fs::write(&path, VERSION).expect("writes");
    }
}
