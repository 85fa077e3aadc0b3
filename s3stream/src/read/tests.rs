//! The requests that reads send to the store. An object has eight blocks of half a mebibyte.

use futures::FutureExt;
use highwater_object_format::{BatchEntry, HEADER_BYTES, ObjectHeader, ObjectWriter, join};
use highwater_object_storage::{
    IoClass, MemoryStorage, Metered, PutMode, RequestCounts, RequestKind, StorageError, layout,
};
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, ObjectKind, Uuid, WalPosition};

use super::loads::FAILED_KEPT;
use super::*;
use crate::fixture::KnownClaims;

const STREAM: StreamId = StreamId(7);
const BLOCK: usize = 512 << 10;
const BLOCKS: usize = 8;
const CACHE_BYTES: u64 = 128 << 20;

struct Store {
    storage: Arc<dyn ObjectStorage>,
    counts: Arc<RequestCounts>,
    claims: Vec<Claim>,
}

impl Store {
    /// Objects that follow each other, with one block for each offset; `damage` changes the bytes of the first object.
    async fn with(objects: u64, damage: impl Fn(&mut Vec<u8>)) -> Self {
        let counts = Arc::new(RequestCounts::default());
        let memory = Arc::new(MemoryStorage::default());
        let storage: Arc<dyn ObjectStorage> = Arc::new(Metered::new(memory, Arc::clone(&counts)));
        let mut claims = Vec::new();
        for number in 0..objects {
            let first = i64::try_from(number).expect("few") * 8;
            let (id, mut body, claim) = object(number, first);
            if number == 0 {
                damage(&mut body);
            }
            let key = layout::object(id);
            let body = vec![Bytes::from(body)];
            let put = storage.put(&key, body, PutMode::IfAbsent, IoClass::Upload);
            put.await.expect("puts");
            claims.push(claim);
        }
        Self {
            storage,
            counts,
            claims,
        }
    }

    fn reader(&self, cache_bytes: u64) -> ObjectReader {
        ObjectReader::new(Arc::clone(&self.storage), cache_bytes, Tasks::default())
    }

    fn gets(&self) -> u64 {
        let counts = self.counts.snapshot();
        let gets = counts.iter().filter(|count| count.kind == RequestKind::Get);
        gets.map(|count| count.requests).sum()
    }

    fn object(&self, at: usize) -> ObjectId {
        self.claims[at].object.expect("it has one")
    }
}

fn id(kind: ObjectKind, number: u64) -> ObjectId {
    ObjectId {
        node: NodeId(1),
        epoch: NodeEpoch(1),
        kind,
        number,
    }
}

fn writer(id: ObjectId) -> ObjectWriter {
    ObjectWriter::new(&ObjectHeader {
        cluster: Uuid([1; 16]),
        id,
        nonce: Uuid::ZERO,
        rewrite_number: 0,
        floor: WalPosition::default(),
    })
}

fn object(number: u64, first: StreamOffset) -> (ObjectId, Vec<u8>, Claim) {
    let id = id(ObjectKind::Upload, number);
    let mut writer = writer(id);
    writer.begin_stream(STREAM, Bytes::new(), LeaderEpoch(1), first);
    let last = first + i64::try_from(BLOCKS).expect("few");
    for base in first..last {
        let batch = BatchEntry {
            base,
            count: 1,
            bytes: u32::try_from(BLOCK).expect("small"),
            max_timestamp: 0,
        };
        let fill = u8::try_from(base).expect("few");
        writer.push_batch(
            batch,
            Bytes::new(),
            false,
            0,
            Bytes::from(vec![fill; BLOCK]).into(),
        );
    }
    writer.end_stream(None, Vec::new(), None, Vec::new());
    let written = writer.finish();
    let claim = Claim {
        range: first..last,
        object: Some(id),
        part: written.parts[0].blocks.clone(),
        max_timestamp: 0,
        rolls: Vec::new(),
        open_from: None,
        checkpoint_bytes: None,
        leader_epoch: LeaderEpoch(1),
    };
    (id, written.body.concat(), claim)
}

async fn needed(
    reader: &ObjectReader,
    store: &Store,
    from: StreamOffset,
    blocks: usize,
) -> Vec<Needed> {
    let limit = FetchLimit {
        bytes: BLOCK * blocks - BLOCK * 3 / 2,
        before: StreamOffset::MAX,
        at_least_one: true,
    };
    let needed = reader.needed(STREAM, from, limit, &store.claims).await;
    needed.expect("finds")
}

/// The blocks that were read, each by its first byte.
async fn get(
    reader: &ObjectReader,
    needed: &[Needed],
    window: u64,
) -> Vec<Result<u8, StreamError>> {
    let mut got = Vec::new();
    for (_, wanted) in reader.begin(STREAM, needed, window) {
        for block in wanted {
            got.push(block.end().await.map(|block| block.body[0]));
        }
    }
    got
}

fn sound(got: Vec<Result<u8, StreamError>>) -> Vec<u8> {
    got.into_iter().map(|block| block.expect("reads")).collect()
}

#[tokio::test]
async fn neighbours_come_with_one_request_each_object_with_its_own() {
    let store = Store::with(2, |_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let needed = needed(&reader, &store, 5, 5).await;
    assert_eq!(store.gets(), 2, "a directory each");
    assert_eq!(sound(get(&reader, &needed, 0).await), [5, 6, 7, 8, 9]);
    assert_eq!(store.gets(), 4);
    assert_eq!(sound(get(&reader, &needed, 0).await), [5, 6, 7, 8, 9]);
    assert_eq!(store.gets(), 4, "nothing is read twice");
}

#[tokio::test]
async fn what_is_read_ahead_comes_with_what_is_needed_and_no_block_comes_twice() {
    let store = Store::with(3, |_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let first = needed(&reader, &store, 1, 2).await;
    assert_eq!(sound(get(&reader, &first, CACHE_BYTES / 4).await), [1, 2]);
    assert_eq!(store.gets(), 2, "a directory, and an extent");
    let claims = store.claims.clone();
    let ahead = reader.begin_ahead(STREAM, 3, 6 << 20, claims);
    ahead.await.expect("begins");
    let all = needed(&reader, &store, 1, 23).await;
    assert_eq!(
        sound(get(&reader, &all, 0).await),
        (1..24).collect::<Vec<_>>()
    );
    assert_eq!(store.gets(), 6, "two directories and extents more");
}

#[tokio::test]
async fn a_first_read_asks_for_no_more_than_it_needs() {
    let store = Store::with(1, |_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let first = needed(&reader, &store, 4, 2).await;
    assert_eq!(sound(get(&reader, &first, 0).await), [4, 5]);
    let counts = store.counts.snapshot();
    let read: u64 = counts
        .iter()
        .filter(|count| count.kind == RequestKind::Get)
        .map(|count| count.bytes)
        .sum();
    assert!(read < 3 << 19, "{read}");
}

#[tokio::test(start_paused = true)]
async fn of_a_bad_block_only_its_own_readers_are_told() {
    // the ranges of the header and of the middle of the fourth block
    let store = Store::with(1, |body| body[HEADER_BYTES + BLOCK * 7 / 2] ^= 1).await;
    let reader = store.reader(CACHE_BYTES);
    let needed = needed(&reader, &store, 0, 8).await;
    let got = get(&reader, &needed, 0).await;
    for (block, got) in got.into_iter().enumerate() {
        match got {
            Err(StreamError::Damaged { .. }) => assert_eq!(block, 3),
            got => assert_eq!(usize::from(got.expect("reads")), block),
        }
    }
    assert_eq!(store.gets(), 2);
    tokio::time::sleep(FAILED_KEPT * 2).await;
    let again = get(&reader, &needed, 0).await;
    assert_eq!(again.iter().filter(|block| block.is_err()).count(), 1);
    assert_eq!(store.gets(), 3, "the bad one is asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_fails_for_all_its_blocks_and_is_made_again() {
    let store = Store::with(1, |_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let needed = needed(&reader, &store, 0, 3).await;
    let key = layout::object(store.object(0));
    store.storage.delete(&[key]).await.expect("deletes");
    for _ in 0..2 {
        let before = store.gets();
        let got = get(&reader, &needed, 0).await;
        let missing = |one: &Result<u8, StreamError>| {
            matches!(
                one,
                Err(StreamError::Storage(StorageError::NotFound { .. }))
            )
        };
        assert!(got.len() == 3 && got.iter().all(missing), "{got:?}");
        assert_eq!(store.gets() - before, 1);
        tokio::time::sleep(FAILED_KEPT * 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_did_not_wait_is_told_of_what_failed_when_he_comes_again() {
    let store = Store::with(2, |body| body[HEADER_BYTES] ^= 1).await;
    let key = layout::object(store.object(1));
    store.storage.delete(&[key]).await.expect("deletes");
    let reader = store.reader(CACHE_BYTES);
    let first = needed(&reader, &store, 0, 2).await;
    let missing = |reader: &ObjectReader| {
        let (reader, claims) = (reader.clone(), store.claims.clone());
        async move {
            let limit = FetchLimit {
                bytes: 1,
                before: StreamOffset::MAX,
                at_least_one: true,
            };
            reader.needed(STREAM, 8, limit, &claims).await
        }
    };
    assert!(get(&reader, &first, 0).now_or_never().is_none());
    assert!(missing(&reader).now_or_never().is_none());
    tokio::time::sleep(FAILED_KEPT / 2).await;
    let before = store.gets();
    let got = get(&reader, &first, 0).now_or_never().expect("is known");
    assert!(
        matches!(got[..], [Err(StreamError::Damaged { .. }), Ok(1)]),
        "{got:?}"
    );
    let got = missing(&reader).now_or_never().expect("is known");
    assert!(matches!(
        got,
        Err(StreamError::Storage(StorageError::NotFound { .. }))
    ));
    assert_eq!(store.gets(), before, "nothing is asked for meanwhile");
    tokio::time::sleep(FAILED_KEPT).await;
    assert!(get(&reader, &first, 0).now_or_never().is_none());
    assert!(missing(&reader).now_or_never().is_none());
}

#[tokio::test]
async fn where_there_is_no_room_nothing_is_read_ahead_and_who_waits_has_his_turn() {
    let store = Store::with(2, |_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let budget = reader.0.blocks.budget();
    let held = budget.try_acquire(budget.limit()).expect("is free");
    let needed = needed(&reader, &store, 0, 2).await;
    let claims = store.claims.clone();
    let ahead = reader.begin_ahead(STREAM, 0, CACHE_BYTES, claims);
    ahead.await.expect("leaves it");
    assert_eq!(store.gets(), 1, "a directory alone");
    let waiting = get(&reader, &needed, 0);
    let release = async {
        tokio::task::yield_now().await;
        assert_eq!(store.gets(), 1, "there is no room yet");
        drop(held);
    };
    let (got, ()) = tokio::join!(waiting, release);
    assert_eq!(sound(got), [0, 1]);
    assert_eq!(store.gets(), 2);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_a_cache_has_no_room_for_is_served_all_the_same() {
    let store = Store::with(1, |_| {}).await;
    let reader = store.reader(1 << 20);
    let needed = needed(&reader, &store, 0, 8).await;
    let all: Vec<u8> = (0..8).collect();
    assert_eq!(sound(get(&reader, &needed, 0).await), all);
    assert_eq!(store.gets(), 9, "a directory, and blocks one by one");
}

// U4: a claim may be without batches; a read goes on after any number of such claims
#[tokio::test]
async fn claims_without_a_batch_are_passed_over_however_many_there_are() {
    let store = Store::with(2, |_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let holds = store.claims[1].clone();
    let begins = holds.range.start - 40;
    let empty = |first| Claim {
        range: first..first + 1,
        object: None,
        ..holds.clone()
    };
    let mut claims: Vec<Claim> = (begins..holds.range.start).map(empty).collect();
    claims.push(holds);
    let known = KnownClaims::new([(STREAM, claims)]);
    let read = async |before, bytes| {
        let limit = FetchLimit {
            bytes,
            before,
            at_least_one: bytes > 0,
        };
        let found = reader.read(&known, STREAM, begins, limit).await;
        let found = found.expect("reads");
        found.iter().map(|bytes| bytes[0]).collect::<Vec<_>>()
    };
    assert_eq!(read(StreamOffset::MAX, BLOCK * 2).await, [8, 9]);
    assert_eq!(read(9, BLOCK * 2).await, [8]);
    assert!(read(8, BLOCK).await.is_empty(), "all below 8 is gone");
    assert!(read(9, 0).await.is_empty(), "there is no room");
}

// U3: the records that were clipped from a claim are in the claim before it
#[tokio::test]
async fn a_batch_that_two_objects_hold_is_read_once() {
    let mut store = Store::with(1, |_| {}).await;
    let (id, body, claim) = object(1, 4);
    let key = layout::object(id);
    let body = vec![Bytes::from(body)];
    let put = store
        .storage
        .put(&key, body, PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    let range = 8..claim.range.end;
    store.claims.push(Claim { range, ..claim });
    let reader = store.reader(CACHE_BYTES);
    let limit = FetchLimit {
        bytes: BLOCK * 20,
        before: StreamOffset::MAX,
        at_least_one: true,
    };
    let known = KnownClaims::new([(STREAM, store.claims.clone())]);
    let found = reader.read(&known, STREAM, 2, limit).await.expect("reads");
    let found: Vec<u8> = found.iter().map(|bytes| bytes[0]).collect();
    assert_eq!(found, (2..12).collect::<Vec<u8>>());
}

/// A sealed range of three WAL objects with two blocks each, and the claim on its index. The timestamp of a batch is its
/// offset; `damage` changes the bytes of the second object.
async fn sealed_range(damage: impl Fn(&mut Vec<u8>)) -> Store {
    let mut store = Store::with(0, |_| {}).await;
    let put = async |id: ObjectId, body: Vec<u8>| {
        let (key, body) = (layout::object(id), vec![Bytes::from(body)]);
        let put = store
            .storage
            .put(&key, body, PutMode::IfAbsent, IoClass::Upload);
        put.await.expect("puts");
    };
    let mut objects = Vec::new();
    for number in 0..3_u8 {
        let id = id(ObjectKind::Wal, number.into());
        let mut writer = writer(id);
        let first = i64::from(number) * 2;
        writer.begin_stream(STREAM, Bytes::new(), LeaderEpoch(1), first);
        for base in first..first + 2 {
            let batch = BatchEntry {
                base,
                count: 1,
                bytes: u32::try_from(BLOCK).expect("small"),
                max_timestamp: base,
            };
            let body = Bytes::from(vec![u8::try_from(base).expect("few"); BLOCK]);
            writer.push_batch(batch, Bytes::new(), false, 0, body.into());
        }
        writer.end_stream(None, Vec::new(), None, Vec::new());
        let written = writer.finish();
        let mut body = written.body.concat();
        if number == 1 {
            damage(&mut body);
        }
        put(id, body).await;
        let directories = written.parts.into_iter().map(|part| part.directory);
        objects.push((id, directories.collect()));
    }
    let index = id(ObjectKind::Index, 1);
    let mut writer = writer(index);
    for directory in join(objects).expect("joins") {
        writer.push_directory(directory);
    }
    let written = writer.finish();
    put(index, written.body.concat()).await;
    let claim = Claim {
        range: 0..6,
        object: Some(index),
        part: written.parts[0].blocks.clone(),
        max_timestamp: 5,
        rolls: Vec::new(),
        open_from: None,
        checkpoint_bytes: None,
        leader_epoch: LeaderEpoch(1),
    };
    store.claims.push(claim);
    store
}

// W9, F4: the index leads to the blocks, and neighbours in one WAL object come with one request
#[tokio::test]
async fn a_sealed_range_is_read_from_its_objects_by_way_of_its_index() {
    let store = sealed_range(|_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let known = KnownClaims::new([(STREAM, store.claims.clone())]);
    let limit = FetchLimit {
        bytes: BLOCK * 20,
        before: StreamOffset::MAX,
        at_least_one: true,
    };
    let all: Vec<u8> = (1..6).collect();
    for _ in 0..2 {
        let found = reader.read(&known, STREAM, 1, limit).await.expect("reads");
        let found: Vec<u8> = found.iter().map(|bytes| bytes[0]).collect();
        assert_eq!(found, all);
    }
    assert_eq!(store.gets(), 4, "the index, and each of three objects once");
    let late = reader.first_at(&known, STREAM, 0..6, 3).await;
    assert_eq!(late.expect("finds"), Some(3));
    let none = reader.first_at(&known, STREAM, 0..6, 6).await;
    assert_eq!(none.expect("looks"), None);
    assert_eq!(store.gets(), 4);
    // the beginning of a sealed range may be in an upload already (U4)
    let mut clipped = store.claims.clone();
    clipped[0].range.start = 3;
    let found = reader
        .read(&KnownClaims::new([(STREAM, clipped)]), STREAM, 3, limit)
        .await;
    let found: Vec<u8> = found.expect("reads").iter().map(|bytes| bytes[0]).collect();
    assert_eq!(found, [3, 4, 5]);
}

#[tokio::test]
async fn a_sealed_range_is_read_ahead_object_by_object() {
    let store = sealed_range(|_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let ahead = reader.begin_ahead(STREAM, 0, 6 << 20, store.claims.clone());
    ahead.await.expect("begins");
    let all = needed(&reader, &store, 0, 8).await;
    let expected: Vec<u8> = (0..6).collect();
    assert_eq!(sound(get(&reader, &all, 6 << 20).await), expected);
    assert_eq!(store.gets(), 4);
}

// I9: the error names the object that is damaged
#[tokio::test]
async fn of_a_damaged_block_in_a_sealed_range_only_its_readers_are_told() {
    let store = sealed_range(|body| body[HEADER_BYTES + BLOCK / 2] ^= 1).await;
    let reader = store.reader(CACHE_BYTES);
    let all = needed(&reader, &store, 0, 8).await;
    let damaged = layout::object(id(ObjectKind::Wal, 1)).to_string();
    for (block, got) in get(&reader, &all, 0).await.into_iter().enumerate() {
        match got {
            Err(StreamError::Damaged { key, .. }) => assert_eq!((block, key), (2, damaged.clone())),
            got => assert_eq!(usize::from(got.expect("reads")), block),
        }
    }
}

// F4, W9: a node opens all streams of a sealed range at the same time
#[tokio::test]
async fn the_directories_of_many_streams_of_an_index_come_with_one_request() {
    let store = sealed_range(|_| {}).await;
    let reader = store.reader(CACHE_BYTES);
    let part = (STREAM, LeaderEpoch(1));
    let directory = reader.directory(store.object(0), part).await;
    let directory = directory.expect("reads");
    let many = id(ObjectKind::Index, 2);
    let mut writer = writer(many);
    for stream in (0..100).map(StreamId) {
        writer.push_directory(StreamDirectory {
            stream,
            entries: vec![(0, Bytes::from(vec![0; 2 << 10]))],
            ..(*directory).clone()
        });
    }
    let (key, body) = (layout::object(many), writer.finish().body);
    let put = store
        .storage
        .put(&key, body, PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    let before = store.gets();
    for stream in (0..100).map(StreamId) {
        let read = reader.directory(many, (stream, LeaderEpoch(1))).await;
        assert_eq!(read.expect("reads").stream, stream);
    }
    assert_eq!(store.gets() - before, 1);
}
