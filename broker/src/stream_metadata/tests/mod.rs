//! Streams on real metadata, a real log and a real store, with a disk that fails or an image that lags.

mod sealed;
mod storage;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_kraft_meta::command::{RegisterNode, WalKind};
use highwater_object_format::ObjectHeader;
use highwater_object_storage::{IoClass, ObjectStorage, RequestKind, layout};
use highwater_s3stream::{DeltaFold, FetchLimit, Folded, StreamStore};
use highwater_types::{ObjectId, ObjectKind, Uuid};
use highwater_wal::{Share, WalError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::storage::{Behind, NEVER, NODE, Storage, append, propose, read};
use super::*;

// U1, A5: a claim on batches that the log then loses, and a floor above the end of the log, would outlive them
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_synced_is_not_uploaded() {
    let storage = Storage::start().await;
    let streams = storage.streams(Arc::new(storage.port()), NEVER).await;
    let stream = storage.stream(&streams).await;
    let first = append(&streams, &*stream, 0).await;
    first.wait().await.expect("is durable");
    storage.faults.syncs_hang.store(true, Ordering::SeqCst);
    let second = append(&streams, &*stream, 1).await;
    // the last upload of a stop, while the second batch hangs
    let mut stopping = JoinSet::new();
    let deadline = Some(Instant::now());
    stopping.spawn(async move { streams.shutdown(deadline).await });
    let mut images = storage.metadata.watch();
    let uploaded = images.wait_for(|image| Storage::committed_end(image) > 0);
    let image = Arc::clone(&*uploaded.await.expect("the metadata lives"));
    assert_eq!(Storage::committed_end(&image), 1);
    assert!(!second.is_durable());
    let stopped = stopping.join_next().await.expect("it was begun");
    let stopped = stopped.expect("does not panic");
    let is_late = matches!(&stopped, Err(StreamError::Wal(WalError::Late { .. })));
    assert!(is_late, "{stopped:?}");
    storage.faults.syncs_hang.store(false, Ordering::SeqCst);
    second.wait().await.expect_err("the log has ended");
}

// U6: a batch that was evicted as soon as its commit is answered could not be read until the image shows its claim
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_stays_cached_until_the_image_shows_its_claim() {
    let storage = Storage::start().await;
    let metadata = storage.behind();
    let port: Arc<dyn StreamMetadata> = Arc::<Behind>::clone(&metadata);
    let streams = storage.streams(port, Duration::from_millis(10)).await;
    let stream = storage.stream(&streams).await;
    for base in 0..4 {
        let receipt = append(&streams, &*stream, base).await;
        receipt.wait().await.expect("is durable");
    }
    let mut commits = metadata.commits.subscribe();
    let committed = commits.wait_for(|commits| *commits > 0).await;
    drop(committed.expect("it uploads"));
    for _ in 0..20 {
        // takes the room of all evictable batches
        drop(
            streams
                .reserve(5 << 19, Share::Common)
                .await
                .expect("there is room"),
        );
        for base in 0..4 {
            let found = read(&*stream, base).await.expect("is there");
            assert_eq!(i64::from(found[0]), base);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    metadata.goes_on.send_replace(true);
    streams.shutdown(None).await.expect("uploads the rest");
    drop((stream, streams));

    // the image of another incarnation lags too: no offset below the committed end reads as empty or out of range
    metadata.goes_on.send_replace(false);
    let port: Arc<dyn StreamMetadata> = Arc::<Behind>::clone(&metadata);
    let (streams, _memory) = storage.reader(port, NEVER);
    let stream = storage.stream(&streams).await;
    assert_eq!(stream.bounds().confirmed, 4);
    let unknown = read(&*stream, 2).await;
    assert!(
        matches!(unknown, Err(StreamError::Unavailable { .. })),
        "{unknown:?}"
    );
    metadata.goes_on.send_replace(true);
    assert_eq!(read(&*stream, 2).await.expect("is there"), [2]);
}

// W5: the header names a committed floor, and not the one that its own commit is to set
#[tokio::test(flavor = "multi_thread")]
async fn an_object_carries_the_floor_that_was_last_committed() {
    let storage = Storage::start().await;
    let interval = Duration::from_millis(10);
    let streams = storage.streams(Arc::new(storage.port()), interval).await;
    let stream = storage.stream(&streams).await;
    let mut images = storage.metadata.watch();
    let mut floors = vec![0];
    for base in 0..3 {
        let receipt = append(&streams, &*stream, base).await;
        receipt.wait().await.expect("is durable");
        let uploaded = images.wait_for(|image| Storage::committed_end(image) > base);
        let image = Arc::clone(&*uploaded.await.expect("the metadata lives"));
        let node = image.node(NODE).expect("is registered");
        floors.push(node.epochs[&storage.epoch].floor.at);
    }
    for (number, floor) in (1..=3).zip(floors) {
        let key = layout::object(ObjectId {
            node: NODE,
            epoch: storage.epoch,
            kind: ObjectKind::Upload,
            number,
        });
        let head = storage.objects.get(&key, 0..200, IoClass::Upload).await;
        let header = ObjectHeader::parse(&head.expect("is there")).expect("is sound");
        assert_eq!(header.floor.at, floor, "of upload {number}");
        assert_eq!(header.nonce, Uuid([9; 16]));
    }
    streams.shutdown(None).await.expect("stops");
}

/// A fold that waits until the test lets it go on, and reports when it has begun.
#[derive(Debug)]
struct HeldFold {
    begins: watch::Sender<bool>,
    goes_on: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl DeltaFold for HeldFold {
    fn fold(&self, _: &Bytes, _: &[(StreamRange, Bytes)], _: Timestamp) -> Option<Folded> {
        self.begins.send_replace(true);
        let goes_on = self.goes_on.lock().expect("one folds");
        goes_on.recv_timeout(Duration::from_secs(30)).ok()?;
        Some(Folded::default())
    }
}

// With 300,000 producers of one topic, the p99 of another topic was 166 ms while their state was folded.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_becomes_durable_and_visible_while_a_checkpoint_is_folded() {
    let mut storage = Storage::start().await;
    let (go_on, goes_on) = std::sync::mpsc::channel();
    let fold = Arc::new(HeldFold {
        begins: watch::Sender::new(false),
        goes_on: Mutex::new(goes_on),
    });
    storage.fold = Arc::<HeldFold>::clone(&fold);
    let port = Arc::new(storage.port());
    let streams = storage.streams(port, Duration::from_millis(1)).await;
    let stream = storage.stream(&streams).await;
    let first = append(&streams, &*stream, 0).await;
    first.wait().await.expect("is durable");
    let mut begins = fold.begins.subscribe();
    drop(begins.wait_for(|begins| *begins).await.expect("it folds"));
    let second = append(&streams, &*stream, 1).await;
    let mut bounds = stream.watch_bounds();
    let visible = async {
        second.wait().await.expect("is durable");
        drop(bounds.wait_for(|bounds| bounds.confirmed == 2).await);
    };
    let visible = tokio::time::timeout(Duration::from_secs(10), visible).await;
    visible.expect("the log's thread waits for no fold");
    // enough for all folds from now on
    for _ in 0..1000 {
        go_on.send(()).expect("the fold lives");
    }
    streams.shutdown(None).await.expect("uploads the rest");
}

// F4: an opening, with producer ids or without, reads no claim that its checkpoint covers, whatever their number
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_opened_from_its_checkpoint_and_its_rolls_alone() {
    let storage = Storage::start().await;
    let port = Arc::new(storage.port());
    let streams = storage.streams(port, Duration::from_millis(1)).await;
    let stream = storage.stream(&streams).await;
    let mut images = storage.metadata.watch();
    for base in 0..4 {
        let receipt = append(&streams, &*stream, base).await;
        receipt.wait().await.expect("is durable");
        let uploaded = images.wait_for(|image| Storage::committed_end(image) > base);
        drop(uploaded.await.expect("the metadata lives"));
    }
    let rolls = stream.rolls();
    streams.shutdown(None).await.expect("stops");
    drop((stream, streams));
    let metadata = storage.behind();
    metadata.goes_on.send_replace(true);
    let port: Arc<dyn StreamMetadata> = Arc::<Behind>::clone(&metadata);
    let (streams, _memory) = storage.reader(port, NEVER);
    let stream = storage.stream(&streams).await;
    assert_eq!(stream.bounds().confirmed, 4);
    assert_eq!(stream.rolls(), rolls);
    assert_eq!(metadata.claims.load(Ordering::SeqCst), 0);
    let gets = storage.counts.snapshot().into_iter();
    let gets = gets.filter(|count| count.kind == RequestKind::Get);
    assert_eq!(gets.map(|count| count.requests).sum::<u64>(), 0);
}

// A1, U3: the uploader ends after some errors and retries after others, so it has to tell them apart
#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_keeps_its_type_through_the_port() {
    let storage = Storage::start().await;
    let port = storage.port();
    let image = storage.metadata.image();
    let partition = &image.topic("t").expect("is there").partitions[0];
    let (stream, held) = (partition.stream, partition.leader_epoch);
    let opened = port.open(&[(stream, held)]).await.expect("is answered");
    assert!(matches!(opened[..], [Ok(_)]), "{opened:?}");
    let another = LeaderEpoch(held.0 + 1);
    let refused = port.open(&[(stream, another)]).await.expect("is answered");
    assert!(
        matches!(refused[..], [Err(StreamError::NotHeld { stream: of, .. })] if of == stream),
        "{refused:?}"
    );
    let commit = |number: u64, range: StreamRange| {
        let object = ObjectId {
            node: NODE,
            epoch: storage.epoch,
            kind: ObjectKind::Upload,
            number,
        };
        let claim = Claim {
            range,
            object: Some(object),
            part: 0..10,
            max_timestamp: -1,
            rolls: Vec::new(),
            open_from: None,
            checkpoint_bytes: None,
            leader_epoch: held,
        };
        port.commit(ObjectCommit {
            epoch: storage.epoch,
            object,
            object_bytes: 10,
            claims: vec![(stream, claim)],
            floor: Default::default(),
            lowest_in_flight: number,
            confirmed: Default::default(),
            recovering: false,
            handed_over: Vec::new(),
        })
    };
    let gap = commit(1, 3..5).await;
    assert!(
        matches!(gap, Err(StreamError::Gap { stream: of, committed: 0, first: 3 }) if of == stream),
        "{gap:?}"
    );
    let far = commit(100, 0..5).await;
    assert!(
        matches!(far, Err(StreamError::NotUnderstood { .. })),
        "{far:?}"
    );
    let register = RegisterNode {
        directory: Vec::new(),
        place: String::new(),
        node: NODE.0,
        incarnation: vec![2],
        endpoints: Vec::new(),
        wal: WalKind::Disk.into(),
        after: storage.epoch.0,
        rack: String::new(),
        metadata_version: 0,
    };
    propose(&storage.metadata, Action::RegisterNode(register)).await;
    let fenced = commit(1, 0..5).await;
    assert!(
        matches!(fenced, Err(StreamError::Fenced { epoch }) if epoch == storage.epoch),
        "{fenced:?}"
    );
}

// When a lookup by time has searched the objects without success, the batch may have moved from the cache into an
// object before the lookup searches the cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_by_time_finds_what_is_evicted_meanwhile() {
    let storage = Storage::start().await;
    let metadata = storage.behind();
    metadata.goes_on.send_replace(true);
    metadata.lookups_max.send_replace(0);
    let port: Arc<dyn StreamMetadata> = Arc::<Behind>::clone(&metadata);
    let streams = storage.streams(port, Duration::from_millis(10)).await;
    let stream = storage.stream(&streams).await;
    let upload_and_evict = async |batches: std::ops::Range<StreamOffset>| {
        for base in batches.clone() {
            let receipt = append(&streams, &*stream, base).await;
            receipt.wait().await.expect("is durable");
        }
        let limit = FetchLimit {
            bytes: 1,
            before: batches.end,
            at_least_one: true,
        };
        while stream.fetch_cached(batches.end - 1, limit).is_some() {
            // takes the room of all evictable batches
            drop(
                streams
                    .reserve(3 << 20, Share::Common)
                    .await
                    .expect("there is room"),
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    upload_and_evict(0..2).await;
    let mut looking = JoinSet::new();
    let looked_at = Arc::clone(&stream);
    looking.spawn(async move { looked_at.offset_for_time(0, 3).await });
    let mut lookups = metadata.lookups.subscribe();
    let begun = lookups.wait_for(|lookups| *lookups == 1).await;
    drop(begun.expect("it looks into objects"));
    upload_and_evict(2..4).await;
    metadata.lookups_max.send_replace(u64::MAX);
    let found = looking.join_next().await.expect("it was begun");
    assert_eq!(found.expect("ends").expect("looks"), Some(3));
    streams.shutdown(None).await.expect("stops");
}
