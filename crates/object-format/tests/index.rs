//! Index objects: the directories of WAL objects are joined, written as one object, and lead to every block (W9).

use bytes::{Bytes, BytesMut};
use highwater_object_format::{
    BatchEntry, BlockSource, DataBlock, Footer, FormatError, JoinError, ObjectHeader, ObjectWriter,
    StreamDirectory, WrittenObject, join,
};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, Uuid, WalPosition,
};
use proptest::prelude::*;

const STREAM: StreamId = StreamId(5);

fn id(kind: ObjectKind, number: u64) -> ObjectId {
    ObjectId {
        node: NodeId(1),
        epoch: NodeEpoch(2),
        kind,
        number,
    }
}

fn writer(id: ObjectId) -> ObjectWriter {
    ObjectWriter::new(&ObjectHeader {
        cluster: Uuid(*b"0123456789abcdef"),
        id,
        nonce: Uuid(*b"fedcba9876543210"),
        rewrite_number: 0,
        floor: WalPosition {
            epoch: NodeEpoch(2),
            at: 3,
        },
    })
}

/// A batch: its size, its timestamp, and whether the stream rolls before it. Each has two records.
type Plan = (usize, i64, bool);
/// The batches of one leadership of a stream, with their first offset.
type Part<'a> = (StreamId, LeaderEpoch, StreamOffset, &'a [Plan]);

fn write(id: ObjectId, parts: &[Part<'_>]) -> WrittenObject {
    let mut writer = writer(id);
    for (stream, epoch, first, plans) in parts {
        writer.begin_stream(*stream, Bytes::from_static(b"label"), *epoch, *first);
        for (base, (length, max_timestamp, roll)) in (*first..).step_by(2).zip(*plans) {
            let batch = BatchEntry {
                base,
                count: 2,
                bytes: u32::try_from(*length).expect("small"),
                max_timestamp: *max_timestamp,
            };
            let fill = u8::try_from(base % 251).expect("small");
            let body = Bytes::from(vec![fill; *length]);
            let delta = Bytes::from(base.to_string());
            writer.push_batch(batch, delta, *roll, max_timestamp + 7, body.into());
        }
        writer.end_stream(None, Vec::new(), None, vec![(*epoch, *first)]);
    }
    writer.finish()
}

fn directories(object: &WrittenObject) -> Vec<StreamDirectory> {
    let parts = object.parts.iter();
    parts.map(|part| part.directory.clone()).collect()
}

/// The index object of joined directories.
fn index(joined: Vec<StreamDirectory>) -> Bytes {
    let mut writer = writer(id(ObjectKind::Index, 9));
    for directory in joined {
        writer.push_directory(directory);
    }
    writer.finish().body.concat().into()
}

fn read_index(index: &Bytes) -> Result<Vec<StreamDirectory>, FormatError> {
    let slice = |position: u64, bytes: u32| {
        let end = position
            .checked_add(bytes.into())
            .filter(|end| *end <= index.len() as u64);
        let end = end.ok_or(FormatError::Truncated { part: "object" })?;
        let at = |position: u64| usize::try_from(position).expect("within the object");
        Ok(index.slice(at(position)..at(end)))
    };
    ObjectHeader::parse(index)?;
    let footer = Footer::parse(index)?;
    let entries = Footer::directories(&slice(footer.position, footer.bytes)?)?;
    let read = |entry: &highwater_object_format::IndexEntry| {
        StreamDirectory::parse(&slice(entry.position, entry.bytes)?)
    };
    entries.iter().map(read).collect()
}

/// The batches and the bytes of a directory's blocks, each read from the object that holds it.
fn read_blocks(
    directory: &StreamDirectory,
    objects: &[(ObjectId, Bytes)],
) -> (Vec<BatchEntry>, Vec<u8>) {
    let (mut batches, mut body) = (Vec::new(), Vec::new());
    for (at, entry) in directory.blocks.iter().enumerate() {
        let (object, range) = directory.source(at, id(ObjectKind::Index, 9));
        assert!(range.contains(&at));
        let (_, bytes) = objects
            .iter()
            .find(|(id, _)| *id == object)
            .expect("is an object of the range");
        let from = usize::try_from(entry.position).expect("small");
        let to = from + usize::try_from(entry.bytes).expect("small");
        let block = DataBlock::parse(&bytes.slice(from..to), directory.stream, entry);
        let block = block.expect("sound");
        batches.extend(block.batches);
        body.extend_from_slice(&block.body);
    }
    (batches, body)
}

/// Two WAL objects: one stream is in both, one only in the second, and one was opened again between them (C2).
fn sealed_range() -> Vec<(ObjectId, WrittenObject)> {
    let (again, only) = (StreamId(6), StreamId(7));
    let plan = |at| [(40, at, false)];
    let first = [
        (
            STREAM,
            LeaderEpoch(4),
            10,
            &[(61, 1000, false), (70, 900, true)][..],
        ),
        (again, LeaderEpoch(0), 0, &plan(5)[..]),
    ];
    let second = [
        (
            STREAM,
            LeaderEpoch(4),
            14,
            &[(63, 1100, false), (64, 50, true)][..],
        ),
        (again, LeaderEpoch(1), 2, &plan(6)[..]),
        (only, LeaderEpoch(0), 0, &plan(7)[..]),
    ];
    let (one, two) = (id(ObjectKind::Wal, 3), id(ObjectKind::Wal, 4));
    vec![(one, write(one, &first)), (two, write(two, &second))]
}

fn joined(objects: &[(ObjectId, WrittenObject)]) -> Result<Vec<StreamDirectory>, JoinError> {
    let objects = objects.iter();
    join(objects.map(|(id, object)| (*id, directories(object))))
}

#[test]
fn a_golden_index_reads_and_is_written_byte_for_byte() {
    let objects = sealed_range();
    let joined = joined(&objects).expect("joins");
    let ours = index(joined.clone());
    let path = |version| {
        let root = env!("CARGO_MANIFEST_DIR");
        format!("{root}/fixtures/v{version}/index.bin")
    };
    if std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() {
        std::fs::write(path(2), &ours).expect("writes");
    }
    let golden = |version| Bytes::from(std::fs::read(path(version)).expect("is checked in"));
    assert_eq!(ours, golden(2));
    for version in [1, 2] {
        assert_eq!(read_index(&golden(version)).expect("sound"), joined);
    }
    let parts: Vec<_> = joined
        .iter()
        .map(|part| (part.stream.0, part.leader_epoch.0, part.range.clone()))
        .collect();
    let expected = [(5, 4, 10..18), (6, 0, 0..2), (6, 1, 2..4), (7, 0, 0..2)];
    assert_eq!(parts, expected, "C2: a leadership is a part");
    let rolls: Vec<_> = joined[0]
        .rolls
        .iter()
        .map(|roll| (roll.base, roll.begins, roll.bytes, roll.max_timestamp))
        .collect();
    let expected = [
        (10, false, 61, 1000),
        (12, true, 133, 1100),
        (16, true, 64, 50),
    ];
    assert_eq!(rolls, expected, "F6: the second roll is in both objects");
    let sources = [(0, 3), (1, 4)].map(|(first_block, number)| BlockSource {
        object: id(ObjectKind::Wal, number),
        first_block,
    });
    assert_eq!(joined[0].sources, sources);
}

// I9: a change of any byte, and any truncation, is noticed.
#[test]
fn a_damaged_index_is_noticed() {
    let whole = index(joined(&sealed_range()).expect("joins"));
    read_index(&whole).expect("sound");
    for at in 0..whole.len() {
        for bit in [1, 16, 128] {
            let mut broken = BytesMut::from(&whole[..]);
            broken[at] ^= bit;
            assert!(read_index(&broken.freeze()).is_err(), "byte {at} bit {bit}");
        }
        assert!(read_index(&whole.slice(..at)).is_err(), "to {at}");
        assert!(read_index(&whole.slice(at + 1..)).is_err(), "from {at}");
    }
}

// The checksum is right and the content is not: such bytes come from a defect or from an attacker.
#[test]
fn sources_that_do_not_fit_the_blocks_are_refused() {
    let sound = joined(&sealed_range()).expect("joins").swap_remove(0);
    let source = |first_block, kind| BlockSource {
        object: id(kind, 3),
        first_block,
    };
    let wal = ObjectKind::Wal;
    for sources in [
        vec![source(1, wal)],
        vec![source(0, wal), source(0, wal)],
        vec![source(0, wal), source(2, wal)],
        vec![source(0, ObjectKind::Index), source(1, wal)],
    ] {
        let directory = StreamDirectory {
            sources: sources.clone(),
            ..sound.clone()
        };
        let refused = read_index(&index(vec![directory]));
        let mismatch = matches!(refused, Err(FormatError::Mismatch { .. }));
        assert!(mismatch, "{sources:?}: {refused:?}");
    }
    // positions that go back are those of another object
    let mut directory = sound;
    directory.sources.truncate(1);
    directory.blocks[1].position = 0;
    let refused = read_index(&index(vec![directory]));
    assert!(matches!(refused, Err(FormatError::Mismatch { .. })));
}

#[test]
fn a_gap_an_overlap_and_an_index_are_not_joined() {
    let (one, two) = (id(ObjectKind::Wal, 3), id(ObjectKind::Wal, 4));
    let plan = [(40, 1, false)];
    let object = |id, epoch, first| {
        (
            id,
            write(id, &[(STREAM, LeaderEpoch(epoch), first, &plan[..])]),
        )
    };
    let gap = joined(&[object(one, 0, 10), object(two, 0, 13)]);
    let expected = JoinError::Gap {
        object: two,
        stream: STREAM,
        leader_epoch: LeaderEpoch(0),
        expected: 12,
        first: 13,
    };
    assert_eq!(gap, Err(expected));
    let back = joined(&[object(one, 0, 10), object(two, 0, 10)]);
    assert!(matches!(back, Err(JoinError::Gap { first: 10, .. })));
    for parts in [
        [object(one, 0, 10), object(two, 1, 11)],
        [object(one, 1, 12), object(two, 0, 14)],
    ] {
        let overlap = joined(&parts).expect_err("overlaps");
        assert!(matches!(overlap, JoinError::Overlap { .. }), "{overlap:?}");
        assert_eq!(overlap.object(), two);
    }
    // a stream may have been led elsewhere between two leaderships of a node
    joined(&[object(one, 0, 10), object(two, 2, 20)]).expect("joins");
    let index = joined(&[object(one, 0, 10)]).expect("joins");
    assert_eq!(join([(two, index)]), Err(JoinError::Nested { object: two }));
    assert_eq!(join([]), Ok(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // A sealed range is as one object with all its batches would be, whatever the group commits were.
    #[test]
    fn a_joined_range_is_what_one_object_would_be(
        first in 0..i64::MAX / 2,
        plans in prop::collection::vec((1usize..300_000, -1i64..1 << 50, any::<bool>()), 1..24),
        cuts in prop::collection::vec(1usize..8, 1..24),
    ) {
        let whole = write(id(ObjectKind::Upload, 1), &[(STREAM, LeaderEpoch(1), first, &plans)]);
        let mut whole = directories(&whole).swap_remove(0);
        let (mut base, mut rest) = (first, &plans[..]);
        let mut objects = Vec::new();
        for (number, cut) in (3..).zip(cuts.iter().chain(std::iter::repeat(&5))) {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            let id = id(ObjectKind::Wal, number);
            objects.push((id, write(id, &[(STREAM, LeaderEpoch(1), base, now)])));
            base += i64::try_from(now.len()).expect("few") * 2;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let mut joined = joined(&objects).expect("joins");
        prop_assert_eq!(joined.len(), 1);
        prop_assert_eq!(&read_index(&index(joined.clone())).expect("sound"), &joined);
        let mut joined = joined.swap_remove(0);
        let bodies: Vec<_> = objects
            .iter()
            .map(|(id, object)| (*id, Bytes::from(object.body.concat())))
            .collect();
        let (batches, body) = read_blocks(&joined, &bodies);
        prop_assert_eq!(batches.len(), plans.len());
        prop_assert_eq!(body.len(), plans.iter().map(|plan| plan.0).sum::<usize>());
        // only the blocks differ, and the first offset of the leader epoch, which each object gives anew
        for one in [&mut whole, &mut joined] {
            one.blocks.clear();
            one.sources.clear();
            one.leader_epochs.clear();
        }
        prop_assert_eq!(joined, whole);
    }
}
