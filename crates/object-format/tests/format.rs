//! The format through its public interface: each part that was written is found again, and damage is noticed (I9,
//! I10).

use bytes::{Bytes, BytesMut};
use highwater_object_format::{
    BatchEntry, DataBlock, FOOTER_BYTES, Footer, FormatError, ObjectHeader, ObjectWriter,
    StreamDirectory, WrittenObject,
};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, Uuid, WalPosition,
};
use proptest::prelude::*;

fn header(kind: ObjectKind) -> ObjectHeader {
    ObjectHeader {
        cluster: Uuid(*b"0123456789abcdef"),
        id: ObjectId {
            node: NodeId(1),
            epoch: NodeEpoch(2),
            kind,
            number: 3,
        },
        nonce: Uuid(*b"fedcba9876543210"),
        rewrite_number: if kind == ObjectKind::Rewrite { 7 } else { 0 },
        floor: WalPosition {
            epoch: NodeEpoch(2),
            at: 4096,
        },
    }
}

/// A batch to be written: the offsets skipped before it, its record count, size and timestamp, and whether the stream
/// rolls.
type Plan = (u32, u32, usize, i64, bool);

fn push(writer: &mut ObjectWriter, first: StreamOffset, plans: &[Plan]) {
    let mut next = first;
    for &(skip, count, length, max_timestamp, roll) in plans {
        let base = next + i64::from(skip);
        let bytes = u32::try_from(length).expect("small");
        let batch = BatchEntry {
            base,
            count,
            bytes,
            max_timestamp,
        };
        next = batch.next();
        let delta = if length % 2 == 0 {
            Bytes::new()
        } else {
            Bytes::from(count.to_string())
        };
        let fill = u8::try_from(length % 251).expect("small");
        let body = Bytes::from(vec![fill; length]);
        writer.push_batch(
            batch,
            delta,
            roll,
            max_timestamp.saturating_add(7),
            body.into(),
        );
    }
}

fn small(kind: ObjectKind) -> WrittenObject {
    let mut writer = ObjectWriter::new(&header(kind));
    let label = Bytes::from_static(b"topic id and partition");
    writer.begin_stream(StreamId(5), label.clone(), LeaderEpoch(4), 10);
    push(
        &mut writer,
        10,
        &[
            (0, 5, 61, 1000, false),
            (0, 1, 70, 900, true),
            (3, 2, 63, 1100, true),
        ],
    );
    let entries = vec![(12, Bytes::from_static(b"aborted"))];
    let epochs = vec![(LeaderEpoch(1), 0), (LeaderEpoch(4), 9)];
    writer.end_stream(
        Some(Bytes::from_static(b"state")),
        entries,
        Some(11),
        epochs,
    );
    writer.begin_stream(StreamId(6), label, LeaderEpoch(0), 0);
    push(&mut writer, 0, &[(0, 1, 80, -1, false)]);
    writer.end_stream(None, Vec::new(), None, Vec::new());
    // a stream that was closed and opened again within one object of the WAL (C2)
    if kind == ObjectKind::Wal {
        writer.begin_stream(StreamId(6), Bytes::new(), LeaderEpoch(1), 1);
        push(&mut writer, 1, &[(0, 2, 80, -1, false)]);
        writer.end_stream(None, Vec::new(), None, vec![(LeaderEpoch(1), 1)]);
    }
    writer.finish()
}

fn joined(object: &WrittenObject) -> Bytes {
    let all: Vec<u8> = object
        .body
        .iter()
        .flat_map(|part| part.iter().copied())
        .collect();
    assert_eq!(all.len() as u64, object.bytes);
    all.into()
}

fn slice(all: &Bytes, position: u64, bytes: u32) -> Result<Bytes, FormatError> {
    let end = position
        .checked_add(bytes.into())
        .filter(|end| *end <= all.len() as u64);
    let end = end.ok_or(FormatError::Truncated { part: "object" })?;
    let at = |position: u64| usize::try_from(position).expect("within the object");
    Ok(all.slice(at(position)..at(end)))
}

/// The content of an object.
#[derive(Debug, PartialEq)]
struct Content {
    header: ObjectHeader,
    streams: Vec<(StreamDirectory, Vec<BatchEntry>, Vec<u8>)>,
}

fn read(all: &Bytes) -> Result<Content, FormatError> {
    let header = ObjectHeader::parse(all)?;
    let footer = Footer::parse(all)?;
    assert_eq!(footer.header.unwrap_or(header), header);
    let index = slice(all, footer.position, footer.bytes)?;
    let mut streams = Vec::new();
    for part in Footer::directories(&index)? {
        let found = Footer::find(&index, part.stream, part.leader_epoch)?;
        assert_eq!(
            found,
            Some(part),
            "C2: the leader epoch distinguishes parts"
        );
        let directory = StreamDirectory::parse(&slice(all, part.position, part.bytes)?)?;
        let said = (directory.stream, directory.leader_epoch);
        assert_eq!(said, (part.stream, part.leader_epoch));
        let (mut batches, mut body) = (Vec::new(), Vec::new());
        for entry in &directory.blocks {
            let block = DataBlock::parse(
                &slice(all, entry.position, entry.bytes)?,
                part.stream,
                entry,
            )?;
            batches.extend(block.batches);
            body.extend_from_slice(&block.body);
        }
        streams.push((directory, batches, body));
    }
    Ok(Content { header, streams })
}

const KINDS: [(&str, ObjectKind); 3] = [
    ("upload", ObjectKind::Upload),
    ("rewrite", ObjectKind::Rewrite),
    ("wal", ObjectKind::Wal),
];

fn fixture(version: u16, name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("{root}/fixtures/v{version}/{name}.bin")
}

// I10: the end of an object says which object it is, but not in version 1
#[test]
fn objects_of_version_1_are_still_read() {
    for (name, kind) in KINDS {
        let former = Bytes::from(std::fs::read(fixture(1, name)).expect("is checked in"));
        let ours = joined(&small(kind));
        assert_eq!(read(&former), read(&ours), "{name}");
        let end = |object: &Bytes| Footer::parse(object).expect("sound").header;
        assert_eq!((end(&former), end(&ours)), (None, Some(header(kind))));
    }
}

#[test]
fn golden_objects_read_and_are_written_byte_for_byte() {
    for (name, kind) in KINDS {
        let path = fixture(2, name);
        let ours = joined(&small(kind));
        if std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() {
            std::fs::write(&path, &ours).expect("writes");
        }
        let golden = Bytes::from(std::fs::read(&path).expect("is checked in"));
        assert_eq!(ours, golden, "{name}");
        let content = read(&golden).expect("sound");
        assert_eq!(content.header, header(kind));
        let (directory, batches, body) = &content.streams[0];
        assert_eq!(
            (directory.stream, directory.range.clone()),
            (StreamId(5), 10..21)
        );
        assert_eq!((batches.len(), body.len()), (3, 194));
        assert_eq!(directory.checkpoint.as_deref(), Some(&b"state"[..]));
        let rolls: Vec<_> = directory
            .rolls
            .iter()
            .map(|roll| (roll.base, roll.begins, roll.bytes, roll.max_timestamp))
            .collect();
        let expected = [
            (10, false, 61, 1000),
            (15, true, 70, 900),
            (19, true, 63, 1100),
        ];
        assert_eq!(rolls, expected, "F6");
    }
}

// I9: a change of any byte is noticed.
#[test]
fn every_changed_byte_is_noticed() {
    let all = joined(&small(ObjectKind::Wal));
    read(&all).expect("whole");
    for at in 0..all.len() {
        for bit in [1, 16, 128] {
            let mut broken = BytesMut::from(&all[..]);
            broken[at] ^= bit;
            assert!(read(&broken.freeze()).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let all = joined(&small(ObjectKind::Wal));
    for length in 0..all.len() {
        assert!(read(&all.slice(..length)).is_err(), "to {length}");
        assert!(
            read(&all.slice(all.len() - length..)).is_err(),
            "from the end, {length}"
        );
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let object = joined(&small(ObjectKind::Wal));
    let with = |at: usize| {
        let mut newer = BytesMut::from(&object[..]);
        newer[at] = 9;
        newer.freeze()
    };
    let version = |part| FormatError::Version { part, version: 9 };
    assert_eq!(ObjectHeader::parse(&with(5)), Err(version("object header")));
    let footer = object.len() - FOOTER_BYTES + 17;
    assert_eq!(Footer::parse(&with(footer)), Err(version("footer")));
    let content = read(&object).expect("sound");
    let entry = content.streams[0].0.blocks[0];
    let at = usize::try_from(entry.position).expect("small");
    let block = slice(&with(at + 5), entry.position, entry.bytes).expect("whole");
    let refused = DataBlock::parse(&block, StreamId(5), &entry).expect_err("is newer");
    assert_eq!(refused, version("data block"));
}

#[test]
fn a_block_of_another_stream_or_place_is_refused() {
    let object = joined(&small(ObjectKind::Wal));
    let content = read(&object).expect("sound");
    let entry = content.streams[0].0.blocks[0];
    let block = slice(&object, entry.position, entry.bytes).expect("whole");
    let mut later = entry;
    later.base += 1;
    for refused in [
        DataBlock::parse(&block, StreamId(6), &entry),
        DataBlock::parse(&block, StreamId(5), &later),
    ] {
        assert!(matches!(refused, Err(FormatError::Mismatch { .. })));
    }
}

// After compaction, neighbouring batches may be further apart than 32 bits can express.
#[test]
fn a_gap_beyond_32_bits_cuts_the_block() {
    let mut writer = ObjectWriter::new(&header(ObjectKind::Rewrite));
    writer.begin_stream(StreamId(1), Bytes::new(), LeaderEpoch(0), 0);
    push(
        &mut writer,
        0,
        &[(0, u32::MAX, 9, 1, false), (u32::MAX, 1, 9, 1, false)],
    );
    writer.end_stream(None, Vec::new(), None, Vec::new());
    let content = read(&joined(&writer.finish())).expect("sound");
    assert_eq!(content.streams[0].0.blocks.len(), 2);
    assert_eq!(content.streams[0].1[1].base, i64::from(u32::MAX) * 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        streams in prop::collection::vec(
            (0..i64::MAX / 2, prop::collection::vec(
                (0u32..3, 1u32..100, 1usize..200_000, -1i64..1 << 50, any::<bool>()), 1..12)),
            0..5),
        checkpoint in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        open_from in prop::option::of(0..i64::MAX),
    ) {
        let mut writer = ObjectWriter::new(&header(ObjectKind::Upload));
        for (id, (first, plans)) in (0u64..).zip(&streams) {
            writer.begin_stream(StreamId(id), Bytes::from_static(b"l"), LeaderEpoch(1), *first);
            push(&mut writer, *first, plans);
            let state = checkpoint.clone().map(Bytes::from);
            writer.end_stream(state, vec![(*first, Bytes::new())], open_from, Vec::new());
        }
        let written = writer.finish();
        let content = read(&joined(&written)).expect("sound");
        prop_assert_eq!(content.streams.len(), streams.len());
        for ((part, (directory, batches, body)), (_, plans)) in
            written.parts.iter().zip(&content.streams).zip(&streams)
        {
            prop_assert_eq!(&part.directory, directory);
            prop_assert_eq!(batches.len(), plans.len());
            prop_assert_eq!(body.len(), plans.iter().map(|plan| plan.2).sum::<usize>());
            prop_assert_eq!(batches[0].max_timestamp, plans[0].3);
            let begun = directory.rolls.iter().filter(|roll| roll.begins).count();
            prop_assert_eq!(begun, plans.iter().filter(|plan| plan.4).count());
            let bytes: u64 = directory.rolls.iter().map(|roll| roll.bytes).sum();
            prop_assert_eq!(bytes, body.len() as u64);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(ObjectHeader::parse(&bytes).is_err());
        prop_assert!(Footer::parse(&bytes).is_err());
        prop_assert!(StreamDirectory::parse(&bytes).is_err());
        prop_assert!(Footer::directories(&bytes).is_err());
    }
}
