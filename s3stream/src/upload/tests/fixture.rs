//! A store and a metadata that fail on demand, and a stream on both.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
use highwater_object_storage::{
    Failure, Hooked, MemoryStorage, ObjectEntry, ObjectKey, Operation, Plan, Request,
};
use highwater_runtime::Tasks;
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, NodeId, StreamOffset, StreamRange, Timestamp, Uuid,
};
use highwater_wal::disk::DiskWalFactory;
use highwater_wal::{AppendReceipt, Known, Share, StreamBatch, WalFactory, record_bytes};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::{
    Claim, Committed, Folded, ObjectCommit, ObjectStreamStore, OpenStream, Recorded, Stream,
    StreamBounds, StreamError,
};

pub(super) const NODE: NodeId = NodeId(1);
pub(super) const EPOCH: NodeEpoch = NodeEpoch(5);
pub(super) const STREAM: StreamId = StreamId(7);
pub(super) const OURS: Uuid = Uuid([9; 16]);
pub(super) const NEVER: Duration = Duration::from_secs(1_000_000);

/// A metadata that answers commits from a list, and accepts them when the list is empty.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) answers: Mutex<VecDeque<StreamError>>,
    pub(super) asked: Mutex<Vec<ObjectCommit>>,
    pub(super) end: watch::Sender<StreamOffset>,
}

impl Metadata {
    pub(super) fn asked(&self) -> Vec<ObjectCommit> {
        self.asked.lock().expect("is whole").clone()
    }

    pub(super) async fn is_committed_to(&self, end: StreamOffset) {
        let mut committed = self.end.subscribe();
        let reached = timeout(NEVER, committed.wait_for(|committed| *committed >= end)).await;
        drop(reached.expect("is uploaded").expect("lives"));
    }
}

#[async_trait]
impl StreamMetadata for Metadata {
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError> {
        let end = *self.end.borrow();
        let bounds = StreamBounds {
            start: 0,
            confirmed: end,
            next: end,
        };
        Ok(streams.iter().map(|_| Ok(bounds)).collect())
    }

    async fn commit(&self, commit: ObjectCommit) -> Result<Committed, StreamError> {
        self.asked.lock().expect("is whole").push(commit.clone());
        if let Some(refused) = self.answers.lock().expect("is whole").pop_front() {
            return Err(refused);
        }
        for (_, claim) in commit.claims {
            self.end.send_modify(|end| {
                assert_eq!(*end, claim.range.start, "I4");
                *end = claim.range.end;
            });
        }
        Ok(Committed::default())
    }

    async fn seen(&self, _: LogIndex) -> Result<(), StreamError> {
        Ok(())
    }

    async fn locate(
        &self,
        _: StreamId,
        _: Range<StreamOffset>,
        _: usize,
    ) -> Result<Vec<Claim>, StreamError> {
        Ok(Vec::new())
    }

    async fn locate_time(
        &self,
        _: StreamId,
        _: Range<StreamOffset>,
        _: Timestamp,
    ) -> Result<Option<Claim>, StreamError> {
        Ok(None)
    }

    async fn recorded(&self, _: StreamId) -> Result<Recorded, StreamError> {
        Ok(Recorded::default())
    }

    async fn trim(&self, _: StreamId, _: LeaderEpoch, _: StreamOffset) -> Result<(), StreamError> {
        Ok(())
    }

    async fn leader_epochs(
        &self,
        _: StreamId,
    ) -> Result<Vec<(LeaderEpoch, StreamOffset)>, StreamError> {
        Ok(Vec::new())
    }

    async fn label(&self, _: StreamId) -> Result<Bytes, StreamError> {
        Ok(Bytes::new())
    }
}

#[derive(Debug)]
struct NoFold;

impl DeltaFold for NoFold {
    fn fold(&self, _: &Bytes, _: &[(StreamRange, Bytes)], _: Timestamp) -> Option<Folded> {
        None
    }
}

/// The reasons for which a store accepts nothing.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) is_away: AtomicBool,
    pub(super) is_full: AtomicBool,
}

impl Trouble {
    fn plan(&self, request: &Request<'_>) -> Plan {
        match request.operation {
            Operation::Put { .. } if self.is_away.load(Ordering::SeqCst) => {
                Plan::fail(Failure::Failed("the store is away"))
            }
            Operation::Put { .. } if self.is_full.load(Ordering::SeqCst) => {
                Plan::fail(Failure::Full)
            }
            _ => Plan::pass(),
        }
    }
}

pub(super) async fn objects(store: &Hooked) -> Vec<ObjectEntry> {
    let listed = store.inner().list(&ObjectKey::new("data"), None);
    let listed: Vec<_> = listed.collect().await;
    listed
        .into_iter()
        .map(|entry| entry.expect("lists"))
        .collect()
}

/// A node with one open stream.
pub(super) struct Node {
    pub(super) metadata: Arc<Metadata>,
    pub(super) store: Arc<Hooked>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) streams: ObjectStreamStore,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) tasks: Tasks,
    /// The faults of the log's device.
    pub(super) faults: Arc<Faults>,
    _dir: tempfile::TempDir,
}

pub(super) struct Limits {
    pub(super) memory: u64,
    pub(super) wal: u64,
    pub(super) upload: u64,
    pub(super) interval: Duration,
    pub(super) room_within: Duration,
}

pub(super) const LIMITS: Limits = Limits {
    memory: 64 << 20,
    wal: 64 << 20,
    upload: 64 << 20,
    interval: Duration::from_millis(10),
    room_within: NEVER,
};

/// The parts that a start has before it opens its log.
pub(super) struct Starting {
    pub(super) metadata: Arc<Metadata>,
    pub(super) store: Arc<Hooked>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) streams: ObjectStreamStore,
    tasks: Tasks,
    memory: ByteBudget,
}

impl Starting {
    pub(super) fn new(limits: &Limits) -> Self {
        let (metadata, trouble) = (Arc::<Metadata>::default(), Arc::<Trouble>::default());
        let troubled = Arc::clone(&trouble);
        let store = Arc::new(Hooked::new(
            Arc::<MemoryStorage>::default(),
            move |request| troubled.plan(request),
        ));
        let (memory, tasks) = (ByteBudget::new(limits.memory), Tasks::default());
        let config = Config {
            upload_interval: limits.interval,
            upload_bytes: limits.upload,
            block_cache_bytes: 4 << 20,
            room_within: limits.room_within,
        };
        let ports = Ports {
            storage: Arc::<Hooked>::clone(&store),
            metadata: Arc::<Metadata>::clone(&metadata),
            fold: Arc::new(NoFold),
            tasks: tasks.clone(),
            memory: memory.clone(),
        };
        let writer = Writer {
            cluster: Uuid([7; 16]),
            node: NODE,
            epoch: EPOCH,
            nonce: OURS,
            floor: WalPosition::default(),
        };
        let streams = ObjectStreamStore::new(config, ports, writer);
        Self {
            metadata,
            store,
            trouble,
            streams,
            tasks,
            memory,
        }
    }
}

impl Node {
    pub(super) async fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let Starting {
            metadata,
            store,
            trouble,
            streams,
            tasks,
            memory,
        } = Starting::new(&limits);
        let wal = highwater_wal::disk::Config {
            dir: dir.path().join("wal"),
            bytes_max: limits.wal,
            new_seed: [7; 16],
        };
        let faults = Arc::<Faults>::default();
        let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults));
        let factory = DiskWalFactory::new(Arc::new(device), Arc::new(RealThreads), wal, memory);
        let read = factory.read(Known::default());
        let read = read.await.expect("reads");
        let wal = read.open(EPOCH, streams.durable_batches()).await;
        streams.attach(wal.expect("opens"));
        let stream = open(&streams, LeaderEpoch(0)).await.expect("opens");
        Self {
            metadata,
            store,
            trouble,
            stream,
            streams,
            tasks,
            faults,
            _dir: dir,
        }
    }

    /// Opens the node's stream again.
    pub(super) async fn open(&self, epoch: LeaderEpoch) -> Result<Arc<dyn Stream>, StreamError> {
        open(&self.streams, epoch).await
    }

    /// Appends a batch and waits until it is durable, like a client with one request in flight.
    pub(super) async fn append(&self, base: StreamOffset, bytes: usize) {
        let receipt = self.begin_append(base, bytes).await;
        receipt.wait().await.expect("is durable");
    }

    /// Appends a batch.
    pub(super) async fn begin_append(&self, base: StreamOffset, bytes: usize) -> AppendReceipt {
        let tail = Bytes::from(vec![1; bytes]);
        let batch = StreamBatch {
            count: 1,
            max_timestamp: base,
            append_time: base,
            head: [1; 16],
            tail_crc: crc32fast::hash(&tail),
            tail,
            delta: Bytes::new(),
            roll: false,
        };
        let permit = self
            .streams
            .reserve(record_bytes(16 + bytes), Share::Common)
            .await;
        self.stream.append(permit.expect("has room"), base, &batch)
    }
}

async fn open(
    streams: &ObjectStreamStore,
    epoch: LeaderEpoch,
) -> Result<Arc<dyn Stream>, StreamError> {
    let open = OpenStream {
        id: STREAM,
        epoch,
        label: Bytes::new(),
        is_urgent: false,
    };
    let mut opened = streams.open(vec![open], &Arc::new(Semaphore::new(1)));
    let (_, opened) = opened.next().await.expect("one");
    opened.map(|opened| opened.stream)
}

pub(super) fn away() -> StreamError {
    StreamError::Unavailable {
        reason: "the disk is full".to_owned(),
    }
}
