//! Streams on real metadata, a real log and a real store, whose disk or whose image is behind.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
use highwater_kraft_meta::RaftMetadata;
use highwater_kraft_meta::command::{CreateTopic, RegisterNode, Replicas, WalKind};
use highwater_object_format::ObjectHeader;
use highwater_object_storage::{
    IoClass, LocalStorage, Metered, ObjectStorage, RequestCounts, RequestKind, layout,
};
use highwater_partition_log::KafkaDeltaFold;
use highwater_runtime::{ByteBudget, Tasks};
use highwater_s3stream::{
    AppendReceipt, Config, DeltaFold, FetchLimit, Folded, ObjectStreamStore, OpenStream, Parts,
    Stream, StreamBatch, StreamStore, record_bytes,
};
use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind, Uuid, WalPosition};
use highwater_wal::disk::DiskWalFactory;
use highwater_wal::{Share, WalFactory};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::*;

const NODE: NodeId = NodeId(1);
const BATCH_BYTES: usize = 256 << 10;
const NEVER: Duration = Duration::from_secs(3600);

/// The metadata of a node whose image is behind: until it is let go on, it shows no claim that was committed.
#[derive(Debug)]
struct Behind {
    inner: KraftStreamMetadata,
    goes_on: watch::Sender<bool>,
    commits: watch::Sender<u64>,
    /// How many lookups by time were begun, and how many may end.
    lookups: watch::Sender<u64>,
    lookups_max: watch::Sender<u64>,
}

#[async_trait]
impl StreamMetadata for Behind {
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError> {
        self.inner.open(streams).await
    }

    async fn commit(&self, commit: ObjectCommit) -> Result<Committed, StreamError> {
        let committed = self.inner.commit(commit).await;
        self.commits.send_modify(|commits| *commits += 1);
        committed
    }

    async fn seen(&self, at: LogIndex) -> Result<(), StreamError> {
        let mut goes_on = self.goes_on.subscribe();
        drop(goes_on.wait_for(|goes_on| *goes_on).await);
        self.inner.seen(at).await
    }

    async fn locate(
        &self,
        id: StreamId,
        range: StreamRange,
        max: usize,
    ) -> Result<Vec<Claim>, StreamError> {
        let goes_on = *self.goes_on.borrow();
        match goes_on {
            true => self.inner.locate(id, range, max).await,
            false => Ok(Vec::new()),
        }
    }

    async fn locate_time(
        &self,
        id: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<Claim>, StreamError> {
        self.lookups.send_modify(|lookups| *lookups += 1);
        let number = *self.lookups.borrow();
        let mut max = self.lookups_max.subscribe();
        drop(max.wait_for(|max| number <= *max).await);
        self.inner.locate_time(id, range, at).await
    }

    async fn checkpoint(&self, id: StreamId) -> Result<Option<Claim>, StreamError> {
        self.inner.checkpoint(id).await
    }

    async fn trim(
        &self,
        id: StreamId,
        epoch: LeaderEpoch,
        start: StreamOffset,
    ) -> Result<(), StreamError> {
        self.inner.trim(id, epoch, start).await
    }

    async fn label(&self, id: StreamId) -> Result<Bytes, StreamError> {
        self.inner.label(id).await
    }

    async fn leader_epochs(
        &self,
        id: StreamId,
    ) -> Result<Vec<(LeaderEpoch, StreamOffset)>, StreamError> {
        self.inner.leader_epochs(id).await
    }
}

/// A node's storage without its broker.
struct Storage {
    dir: tempfile::TempDir,
    metadata: Arc<RaftMetadata>,
    objects: Arc<LocalStorage>,
    epoch: NodeEpoch,
    /// Of the log's disk.
    faults: Arc<Faults>,
    fold: Arc<dyn DeltaFold>,
    /// Requests to the object store.
    counts: Arc<RequestCounts>,
}

impl Storage {
    /// One topic of one partition, which this node leads.
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = highwater_kraft_meta::Config {
            dir: dir.path().join("metadata"),
            node: NODE,
            cluster: Uuid([7; 16]),
            seed: 1,
            new_log_seed: [8; 16],
            snapshot_entries: 5000,
            snapshot_bytes: 1 << 20,
        };
        let opened = RaftMetadata::open(config, Arc::new(RealDevice), &RealThreads).await;
        let metadata = Arc::new(opened.expect("opens"));
        let register = RegisterNode {
            node: NODE.0,
            incarnation: vec![1],
            endpoints: Vec::new(),
            wal: WalKind::Disk.into(),
            after: 0,
        };
        let (at, _) = propose(&metadata, Action::RegisterNode(register)).await;
        let topic = CreateTopic {
            name: "t".to_owned(),
            id: vec![9; 16],
            partitions: vec![Replicas {
                nodes: vec![NODE.0],
            }],
            ..CreateTopic::default()
        };
        propose(&metadata, Action::CreateTopic(topic)).await;
        let root = dir.path().join("objects");
        let objects = LocalStorage::open(Arc::new(RealDevice), &root).await;
        Self {
            dir,
            metadata,
            objects: Arc::new(objects.expect("opens")),
            epoch: NodeEpoch(at.0),
            faults: Arc::default(),
            fold: Arc::new(KafkaDeltaFold),
            counts: Arc::default(),
        }
    }

    fn port(&self) -> KraftStreamMetadata {
        let metadata: Arc<dyn MetadataStore> = Arc::<RaftMetadata>::clone(&self.metadata);
        KraftStreamMetadata {
            metadata,
            epoch: self.epoch,
        }
    }

    fn behind(&self) -> Arc<Behind> {
        Arc::new(Behind {
            inner: self.port(),
            goes_on: watch::Sender::new(false),
            commits: watch::Sender::new(0),
            lookups: watch::Sender::new(0),
            lookups_max: watch::Sender::new(u64::MAX),
        })
    }

    /// Streams without a log yet: they can be read.
    fn reader(
        &self,
        metadata: Arc<dyn StreamMetadata>,
        upload_interval: Duration,
    ) -> (ObjectStreamStore, ByteBudget) {
        let memory = ByteBudget::new(4 << 20);
        let config = Config {
            upload_interval,
            upload_bytes: 64 << 20,
            block_cache_bytes: 4 << 20,
            room_within: NEVER,
        };
        let objects = Arc::<LocalStorage>::clone(&self.objects);
        let parts = Parts {
            storage: Arc::new(Metered::new(objects, Arc::clone(&self.counts))),
            metadata,
            fold: Arc::clone(&self.fold),
            tasks: Tasks::default(),
            memory: memory.clone(),
            cluster: Uuid([7; 16]),
            node: NODE,
            epoch: self.epoch,
            nonce: Uuid([9; 16]),
            floor: WalPosition::default(),
        };
        (ObjectStreamStore::new(config, parts), memory)
    }

    async fn streams(
        &self,
        metadata: Arc<dyn StreamMetadata>,
        upload_interval: Duration,
    ) -> ObjectStreamStore {
        let (streams, memory) = self.reader(metadata, upload_interval);
        let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&self.faults));
        let wal = highwater_wal::disk::Config {
            dir: self.dir.path().join("wal"),
            bytes_max: 64 << 20,
            new_seed: [7; 16],
        };
        let factory = DiskWalFactory::new(Arc::new(device), Arc::new(RealThreads), wal, memory);
        let read = factory.read(NodeEpoch(0), WalPosition::default());
        let read = read.await.expect("reads");
        let wal = read.open(self.epoch, streams.sink()).await;
        streams.attach(wal.expect("opens"));
        streams
    }

    async fn stream(&self, streams: &ObjectStreamStore) -> Arc<dyn Stream> {
        let image = self.metadata.image();
        let partition = &image.topic("t").expect("is there").partitions[0];
        let asked = OpenStream {
            id: partition.stream,
            epoch: partition.leader_epoch,
            label: Bytes::new(),
            is_urgent: false,
        };
        let slots = Arc::new(Semaphore::new(1));
        let (_, opened) = streams.open(vec![asked], &slots).next().await.expect("one");
        opened.expect("opens").stream
    }

    fn committed_end(image: &highwater_kraft_meta::MetadataImage) -> StreamOffset {
        let stream = image.topic("t").map(|topic| topic.partitions[0].stream);
        let stream = stream.and_then(|stream| image.stream(stream));
        stream.map_or(0, |stream| stream.committed_end)
    }
}

async fn propose(metadata: &RaftMetadata, action: Action) -> (LogIndex, Outcome) {
    metadata.propose(action.into()).await.expect("is taken")
}

fn batch(base: StreamOffset) -> StreamBatch {
    let fill = u8::try_from(base).expect("few");
    let tail = vec![fill; BATCH_BYTES];
    StreamBatch {
        count: 1,
        max_timestamp: base,
        head: [fill; 16],
        tail_crc: crc32fast::hash(&tail),
        tail: Bytes::from(tail),
        delta: Bytes::new(),
        roll: false,
        append_time: base,
    }
}

async fn append(
    streams: &ObjectStreamStore,
    stream: &dyn Stream,
    base: StreamOffset,
) -> AppendReceipt {
    let permit = streams
        .reserve(record_bytes(16 + BATCH_BYTES), Share::Common)
        .await;
    stream.append(permit.expect("there is room"), base, &batch(base))
}

/// Reads one batch; answers what it is filled with.
async fn read(stream: &dyn Stream, offset: StreamOffset) -> Result<Vec<u8>, StreamError> {
    let limit = FetchLimit {
        bytes: 1,
        before: StreamOffset::MAX,
        at_least_one: true,
    };
    let found = stream.fetch(offset, limit).await?.concat();
    assert!(found.is_empty() || found.len() == 16 + BATCH_BYTES);
    Ok(found.first().copied().into_iter().collect())
}

// U1: a claim of what the log then loses, and a floor above its end, would outlive it
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_synced_is_not_uploaded() {
    let storage = Storage::start().await;
    let streams = storage.streams(Arc::new(storage.port()), NEVER).await;
    let stream = storage.stream(&streams).await;
    let first = append(&streams, &*stream, 0).await;
    first.wait().await.expect("is durable");
    storage.faults.syncs_hang.store(true, Ordering::SeqCst);
    let second = append(&streams, &*stream, 1).await;
    // the upload of a stop, while the second hangs
    let mut stopping = JoinSet::new();
    stopping.spawn(async move { streams.shutdown().await });
    let mut images = storage.metadata.watch();
    let uploaded = images.wait_for(|image| Storage::committed_end(image) > 0);
    let image = Arc::clone(&*uploaded.await.expect("the metadata lives"));
    assert_eq!(Storage::committed_end(&image), 1);
    assert!(!second.is_durable());
    storage.faults.syncs_hang.store(false, Ordering::SeqCst);
    let stopped = stopping.join_next().await.expect("it was begun");
    stopped.expect("ends").expect("stops");
    second.wait().await.expect("is durable");
}

// U6: a batch that is let go of when its commit is answered is nowhere until the image shows its claim
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
        // takes the room of all that may be evicted
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
    streams.shutdown().await.expect("uploads the rest");
    drop((stream, streams));

    // another incarnation's image is behind too: below the committed end nothing is empty, or out of range
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

// W5: the header names a floor that stands, not the one that its own commit is to set
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
    streams.shutdown().await.expect("stops");
}

/// A fold that waits until it is let go on, and says when it began.
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

// 300,000 producers of one topic: another topic's p99 was 166 ms while they were folded
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
    // for whatever is folded from now on
    for _ in 0..1000 {
        go_on.send(()).expect("somebody folds");
    }
    streams.shutdown().await.expect("uploads the rest");
}

// with ids or without: a start reads no directory of what a checkpoint covers
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_producers_without_ids_is_opened_without_reading_an_object() {
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
    streams.shutdown().await.expect("stops");
    drop((stream, streams));
    let (streams, _memory) = storage.reader(Arc::new(storage.port()), NEVER);
    let stream = storage.stream(&streams).await;
    assert_eq!(stream.bounds().confirmed, 4);
    let gets = storage.counts.snapshot().into_iter();
    let gets = gets.filter(|count| count.kind == RequestKind::Get);
    assert_eq!(gets.map(|count| count.requests).sum::<u64>(), 0);
}

// A1, U3: what an uploader must end for is told apart from what it tries again
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
        node: NODE.0,
        incarnation: vec![2],
        endpoints: Vec::new(),
        wal: WalKind::Disk.into(),
        after: storage.epoch.0,
    };
    propose(&storage.metadata, Action::RegisterNode(register)).await;
    let fenced = commit(1, 0..5).await;
    assert!(
        matches!(fenced, Err(StreamError::Fenced { epoch }) if epoch == storage.epoch),
        "{fenced:?}"
    );
}

// what a lookup by time did not find in objects may be in objects, and nowhere else, when it looks into the cache
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
            // takes the room of all that may be evicted
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
    streams.shutdown().await.expect("stops");
}
