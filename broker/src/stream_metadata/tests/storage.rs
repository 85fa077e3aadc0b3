//! A node's storage without its broker, with a disk that fails or an image that lags.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
use highwater_kraft_meta::RaftMetadata;
use highwater_kraft_meta::command::{CreateTopic, RegisterNode, Replicas, WalKind};
use highwater_object_storage::{LocalStorage, Metered, RequestCounts};
use highwater_partition_log::KafkaDeltaFold;
use highwater_runtime::{ByteBudget, SeededRng, Tasks};
use highwater_s3stream::{
    AppendReceipt, Config, DeltaFold, FetchLimit, ObjectStreamStore, OpenStream, OpenedStream,
    Ports, Stream, StreamBatch, StreamStore, Writer, record_bytes,
};
use highwater_types::{NodeEpoch, NodeId, Uuid, WalPosition};
use highwater_wal::disk::DiskWalFactory;
use highwater_wal::{Known, Share, WalFactory};
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::fixture;

pub(super) const NODE: NodeId = NodeId(1);
const BATCH_BYTES: usize = 256 << 10;
pub(super) const NEVER: Duration = Duration::from_secs(3600);

/// The metadata of a node whose image lags: until `goes_on` is set, it shows no claim that was committed.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) inner: KraftStreamMetadata,
    pub(super) goes_on: watch::Sender<bool>,
    pub(super) commits: watch::Sender<u64>,
    /// The lookups by time that have begun, and below it the number that may end.
    pub(super) lookups: watch::Sender<u64>,
    pub(super) lookups_max: watch::Sender<u64>,
    /// The number of claims that the metadata has returned.
    pub(super) claims: AtomicUsize,
}

impl Behind {
    fn tell(&self, claims: usize) {
        self.claims.fetch_add(claims, Ordering::SeqCst);
    }
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
        let claims = match goes_on {
            true => self.inner.locate(id, range, max).await?,
            false => Vec::new(),
        };
        self.tell(claims.len());
        Ok(claims)
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

    async fn recorded(&self, id: StreamId) -> Result<Recorded, StreamError> {
        let recorded = self.inner.recorded(id).await?;
        self.tell(recorded.claims.len());
        Ok(recorded)
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
pub(super) struct Storage {
    pub(super) dir: tempfile::TempDir,
    pub(super) metadata: Arc<RaftMetadata>,
    pub(super) objects: Arc<LocalStorage>,
    pub(super) epoch: NodeEpoch,
    /// The faults of the log's disk.
    pub(super) faults: Arc<Faults>,
    pub(super) fold: Arc<dyn DeltaFold>,
    /// The requests to the object store.
    pub(super) counts: Arc<RequestCounts>,
}

impl Storage {
    /// Starts with one topic of one partition, which this node leads.
    pub(super) async fn start() -> Self {
        Self::start_on(WalKind::Disk).await
    }

    pub(super) async fn start_on(wal: WalKind) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = highwater_kraft_meta::Config {
            dir: dir.path().join("metadata"),
            node: NODE,
            cluster: Uuid([7; 16]),
            seed: 1,
            new_log_seed: [8; 16],
            new_directory_id: Uuid([8; 16]),
            snapshot_entries: 5000,
            snapshot_bytes: 1 << 20,
        };
        let opened = RaftMetadata::open(config, Arc::new(RealDevice), &RealThreads).await;
        let metadata = Arc::new(opened.expect("opens"));
        let register = RegisterNode {
            directory: Vec::new(),
            place: String::new(),
            node: NODE.0,
            incarnation: vec![1],
            endpoints: Vec::new(),
            wal: wal.into(),
            after: 0,
            rack: String::new(),
            metadata_version: 0,
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
        fixture::lead(&*metadata, NodeEpoch(at.0)).await;
        let root = dir.path().join("objects");
        let objects =
            LocalStorage::open(Arc::new(RealDevice), &root, &SeededRng::from_seed(1)).await;
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

    pub(super) fn port(&self) -> KraftStreamMetadata {
        let metadata: Arc<dyn MetadataStore> = Arc::<RaftMetadata>::clone(&self.metadata);
        KraftStreamMetadata {
            metadata,
            epoch: self.epoch,
        }
    }

    pub(super) fn behind(&self) -> Arc<Behind> {
        Arc::new(Behind {
            inner: self.port(),
            goes_on: watch::Sender::new(false),
            commits: watch::Sender::new(0),
            lookups: watch::Sender::new(0),
            lookups_max: watch::Sender::new(u64::MAX),
            claims: AtomicUsize::new(0),
        })
    }

    /// Makes streams without a log, which can be read only.
    pub(super) fn reader(
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
        let ports = Ports {
            storage: Arc::new(Metered::new(objects, Arc::clone(&self.counts))),
            metadata,
            fold: Arc::clone(&self.fold),
            tasks: Tasks::default(),
            memory: memory.clone(),
        };
        let writer = Writer {
            cluster: Uuid([7; 16]),
            node: NODE,
            epoch: self.epoch,
            nonce: Uuid([9; 16]),
            floor: WalPosition::default(),
        };
        (ObjectStreamStore::new(config, ports, writer), memory)
    }

    pub(super) async fn streams(
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
        let read = factory.read(Known::default());
        let read = read.await.expect("reads");
        let wal = read.open(self.epoch, streams.durable_batches()).await;
        streams.attach(wal.expect("opens"));
        streams
    }

    pub(super) async fn stream(&self, streams: &ObjectStreamStore) -> Arc<dyn Stream> {
        self.opened(streams).await.stream
    }

    pub(super) async fn opened(&self, streams: &ObjectStreamStore) -> OpenedStream {
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
        opened.expect("opens")
    }

    pub(super) fn committed_end(image: &highwater_kraft_meta::MetadataImage) -> StreamOffset {
        let stream = image.topic("t").map(|topic| topic.partitions[0].stream);
        let stream = stream.and_then(|stream| image.stream(stream));
        stream.map_or(0, |stream| stream.committed_end)
    }
}

pub(super) async fn propose(metadata: &RaftMetadata, action: Action) -> (LogIndex, Outcome) {
    metadata.propose(action.into()).await.expect("is taken")
}

pub(super) fn batch(base: StreamOffset) -> StreamBatch {
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

pub(super) async fn append(
    streams: &ObjectStreamStore,
    stream: &dyn Stream,
    base: StreamOffset,
) -> AppendReceipt {
    let permit = streams
        .reserve(record_bytes(16 + BATCH_BYTES), Share::Common)
        .await;
    stream.append(permit.expect("there is room"), base, &batch(base))
}

/// Reads one batch; returns its bytes.
pub(super) async fn read(
    stream: &dyn Stream,
    offset: StreamOffset,
) -> Result<Vec<u8>, StreamError> {
    let limit = FetchLimit {
        bytes: 1,
        before: StreamOffset::MAX,
        at_least_one: true,
    };
    let found = stream.fetch(offset, limit).await?.concat();
    assert!(found.is_empty() || found.len() == 16 + BATCH_BYTES);
    Ok(found.first().copied().into_iter().collect())
}
