//! A start that registers the sealed range of an object WAL (W8, W9).

use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_object_format::{
    BatchEntry, Footer, HEADER_BYTES, ObjectHeader, ObjectWriter, StreamDirectory, WrittenObject,
};
use highwater_object_storage::{IoClass, ObjectKey, PutMode, layout};
use highwater_types::{LeaderEpoch, NodeEpoch, ObjectId, ObjectKind, StreamOffset, Uuid};
use highwater_wal::{SealedObject, SealedRange, SealedWal};

use super::fixture::{EPOCH, LIMITS, NODE, STREAM, Starting};
use super::*;
use crate::{Claim, Recovered, SealedClaims, StreamError};

const SEALED: NodeEpoch = NodeEpoch(3);

fn header(id: ObjectId, nonce: Uuid) -> ObjectHeader {
    ObjectHeader {
        cluster: Uuid([7; 16]),
        id,
        nonce,
        rewrite_number: 0,
        floor: WalPosition::default(),
    }
}

/// A WAL object with one batch of ten records of each stream. The first batch of all begins a roll.
fn object(sequence: u64, streams: &[(StreamId, StreamOffset)]) -> SealedObject {
    let id = ObjectId {
        node: NODE,
        epoch: SEALED,
        kind: ObjectKind::Wal,
        number: sequence,
    };
    let mut writer = ObjectWriter::new(&header(id, Uuid([1; 16])));
    for (stream, base) in streams {
        writer.begin_stream(*stream, Bytes::new(), LeaderEpoch(2), *base);
        let batch = BatchEntry {
            base: *base,
            count: 10,
            bytes: 100,
            max_timestamp: base + 9,
        };
        let body = Bytes::from(vec![1; 100]);
        writer.push_batch(batch, Bytes::new(), *base == 0, 1000, body.into());
        writer.end_stream(None, Vec::new(), None, Vec::new());
    }
    let WrittenObject { bytes, parts, .. } = writer.finish();
    let directories = parts.into_iter().map(|part| part.directory);
    SealedObject {
        id,
        bytes,
        directories: directories.collect(),
    }
}

fn range(objects: Vec<SealedObject>) -> SealedWal {
    let (epoch, at) = (SEALED, 9);
    SealedWal::Range(SealedRange {
        end: WalPosition { epoch, at },
        objects,
    })
}

fn index(number: u64) -> ObjectKey {
    layout::object(ObjectId {
        node: NODE,
        epoch: EPOCH,
        kind: ObjectKind::Index,
        number,
    })
}

async fn recover(node: &Starting, sealed: SealedWal) -> Result<SealedClaims, StreamError> {
    match node.streams.recover(sealed).await? {
        Recovered::Sealed(sealed) => Ok(sealed),
        Recovered::Uploaded => panic!("an object WAL is not uploaded"),
    }
}

/// The directories of the index object.
async fn directories(node: &Starting, key: &ObjectKey) -> Vec<StreamDirectory> {
    let whole = node.store.get(key, 0..u64::MAX, IoClass::ColdRead).await;
    let whole = whole.expect("is there");
    let part = |position: u64, bytes: u32| {
        let from = usize::try_from(position).expect("small");
        whole.slice(from..from + usize::try_from(bytes).expect("small"))
    };
    let footer = Footer::parse(&whole).expect("is sound");
    let entries = Footer::directories(&part(footer.position, footer.bytes)).expect("is sound");
    let read = entries
        .iter()
        .map(|entry| part(entry.position, entry.bytes));
    read.map(|bytes| StreamDirectory::parse(&bytes).expect("is sound"))
        .collect()
}

// W8, W9: one claim for each stream, on the index; no batch is read or copied, and nothing is committed
#[tokio::test(start_paused = true)]
async fn a_sealed_range_becomes_an_index_and_a_claim_for_each_stream() {
    let node = Starting::new(&LIMITS);
    let other = StreamId(8);
    let objects = vec![
        object(5, &[(STREAM, 20)]),
        object(6, &[(STREAM, 30), (other, 0)]),
        object(7, &[(STREAM, 40)]),
    ];
    let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
    // a put that fails is tried again
    node.trouble.is_away.store(true, Ordering::SeqCst);
    let heals = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        node.trouble.is_away.store(false, Ordering::SeqCst);
    };
    let (sealed, ()) = tokio::join!(recover(&node, range(objects)), heals);
    let sealed = sealed.expect("is indexed");
    assert_eq!((sealed.at.epoch, sealed.at.at), (SEALED, 9));
    let written = directories(&node, &index(1)).await;
    let sources: Vec<_> = written[0]
        .sources
        .iter()
        .map(|source| source.object.number)
        .collect();
    assert_eq!(sources, [5, 6, 7]);
    let claims: Vec<_> = sealed
        .claims
        .iter()
        .map(|(stream, claim)| (*stream, claim.range.clone(), claim.object))
        .collect();
    assert_eq!(
        claims,
        [(STREAM, 20..50, sealed.index), (other, 0..10, sealed.index)]
    );
    let first: &Claim = &sealed.claims[0].1;
    assert_eq!(
        (first.max_timestamp, first.leader_epoch),
        (49, LeaderEpoch(2))
    );
    assert_eq!(
        first.rolls.len(),
        1,
        "F6: the roll goes on over all of them"
    );
    assert_eq!((first.rolls[0].begins, first.rolls[0].bytes), (false, 300));
    let (key, all) = (index(1), IoClass::ColdRead);
    let length = node
        .store
        .get_suffix(&key, 1, all)
        .await
        .expect("is there")
        .1;
    assert_eq!(sealed.bytes, bytes + length);
    assert_eq!(node.metadata.asked().len(), 0);
    let recovery = node.streams.recovery();
    assert_eq!((recovery.bytes, recovery.bytes_total), (bytes, bytes));
    // the next epoch that is closed has another number
    let next = recover(&node, range(vec![object(0, &[(STREAM, 0)])])).await;
    assert_eq!(next.expect("is indexed").index.map(|id| id.number), Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_left_nothing_has_a_seal_and_no_index() {
    let node = Starting::new(&LIMITS);
    let sealed = recover(&node, range(Vec::new())).await.expect("is closed");
    assert_eq!((sealed.at.at, sealed.index, sealed.bytes), (9, None, 0));
    assert!(sealed.claims.is_empty());
}

// I4: acknowledged records are missing
#[tokio::test(start_paused = true)]
async fn a_sealed_range_with_a_gap_is_refused_with_the_key_of_the_object_after_it() {
    let node = Starting::new(&LIMITS);
    let objects = vec![object(5, &[(STREAM, 20)]), object(6, &[(STREAM, 31)])];
    let refused = recover(&node, range(objects)).await.expect_err("a gap");
    let key = layout::object(object(6, &[]).id).to_string();
    assert!(
        matches!(&refused, StreamError::Damaged { key: of, .. } if *of == key),
        "{refused}"
    );
}

// U2: the answer to a put was lost, or another process has the epoch
#[tokio::test(start_paused = true)]
async fn an_index_that_exists_is_ours_or_ends_the_start() {
    for (nonce, is_ours) in [(fixture::OURS, true), (Uuid([8; 16]), false)] {
        let node = Starting::new(&LIMITS);
        let id = ObjectId {
            node: NODE,
            epoch: EPOCH,
            kind: ObjectKind::Index,
            number: 1,
        };
        let body = ObjectWriter::new(&header(id, nonce)).finish().body;
        assert!(body.concat().len() > HEADER_BYTES);
        let (key, mode) = (index(1), PutMode::IfAbsent);
        let put = node.store.put(&key, body, mode, IoClass::Upload);
        put.await.expect("puts");
        let sealed = recover(&node, range(vec![object(5, &[(STREAM, 20)])])).await;
        assert_eq!(sealed.is_ok(), is_ours, "{sealed:?}");
    }
}
