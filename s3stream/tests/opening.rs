//! Opening streams asks an object store that takes its time for many things at once, and not for too many.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use highwater_object_format::{BatchEntry, ObjectHeader, ObjectWriter};
use highwater_object_storage::{
    IoClass, MemoryStorage, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode,
    StorageError, layout,
};
use highwater_runtime::{ByteBudget, Tasks};
use highwater_s3stream::{
    Claim, Committed, Config, DeltaFold, Folded, ObjectCommit, ObjectStreamStore, OpenStream,
    Parts, StreamBounds, StreamError, StreamMetadata, StreamStore,
};
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset,
    StreamRange, Timestamp, Uuid, WalPosition,
};
use tokio::sync::Semaphore;

const STREAMS: u64 = 40;
const SLOTS: usize = 16;
const CLAIMS: u64 = 8;
const REQUEST: Duration = Duration::from_millis(10);

/// A store whose reads take a while, some of them for ever; it counts those that it is asked for at the same time.
#[derive(Debug, Default)]
struct Slow {
    stalled: Vec<ObjectKey>,
    inner: MemoryStorage,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl ObjectStorage for Slow {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        self.inner.put(key, body, mode, class).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        self.inner.get(key, range, class).await
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(REQUEST).await;
        if self.stalled.contains(key) {
            std::future::pending::<()>().await;
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.inner.get_suffix(key, bytes, class).await
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        self.inner.list(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.inner.delete(keys).await
    }
}

/// Metadata that only knows claims.
#[derive(Debug)]
struct Known(BTreeMap<StreamId, Vec<Claim>>);

#[async_trait]
impl StreamMetadata for Known {
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError> {
        let end = StreamOffset::try_from(CLAIMS).expect("few");
        let bounds = StreamBounds {
            start: 0,
            confirmed: end,
            next: end,
        };
        Ok(streams.iter().map(|_| Ok(bounds)).collect())
    }

    async fn commit(&self, _: ObjectCommit) -> Result<Committed, StreamError> {
        Ok(Committed::default())
    }

    async fn seen(&self, _: LogIndex) -> Result<(), StreamError> {
        Ok(())
    }

    async fn locate(
        &self,
        id: StreamId,
        _: StreamRange,
        max: usize,
    ) -> Result<Vec<Claim>, StreamError> {
        Ok(self.0[&id].iter().take(max).cloned().collect())
    }

    async fn locate_time(
        &self,
        _: StreamId,
        _: StreamRange,
        _: Timestamp,
    ) -> Result<Option<Claim>, StreamError> {
        Ok(None)
    }

    async fn checkpoint(&self, _: StreamId) -> Result<Option<Claim>, StreamError> {
        Ok(None)
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

    async fn condemned(&self) -> Result<Vec<ObjectId>, StreamError> {
        Ok(Vec::new())
    }

    async fn deleted(&self, _: &[ObjectId]) -> Result<(), StreamError> {
        Ok(())
    }
}

#[derive(Debug)]
struct NoFold;

impl DeltaFold for NoFold {
    fn fold(&self, _: &Bytes, _: &[(StreamRange, Bytes)], _: Timestamp) -> Option<Folded> {
        None
    }
}

fn id_of(stream: u64, at: u64) -> ObjectId {
    ObjectId {
        node: NodeId(1),
        epoch: NodeEpoch(1),
        kind: ObjectKind::Upload,
        number: stream * CLAIMS + at,
    }
}

/// An object with one batch of a stream at an offset, whose delta is the offset.
async fn object(store: &Slow, stream: u64, at: u64) -> Claim {
    let id = id_of(stream, at);
    let mut writer = ObjectWriter::new(&ObjectHeader {
        cluster: Uuid([1; 16]),
        id,
        nonce: Uuid([2; 16]),
        rewrite_number: 0,
        floor: WalPosition::default(),
    });
    let base = StreamOffset::try_from(at).expect("few");
    writer.begin_stream(StreamId(stream), Bytes::new(), LeaderEpoch(1), base);
    let batch = BatchEntry {
        base,
        count: 1,
        bytes: 3,
        max_timestamp: -1,
    };
    let delta = Bytes::copy_from_slice(&at.to_be_bytes());
    writer.push_batch(batch, delta, false, 0, Bytes::from_static(b"abc").into());
    writer.end_stream(None, Vec::new(), None, Vec::new());
    let written = writer.finish();
    let key = layout::object(id);
    let put = store.put(&key, written.body, PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    Claim {
        range: base..base + 1,
        object: Some(id),
        part: written.parts[0].blocks.clone(),
        max_timestamp: -1,
        rolls: Vec::new(),
        open_from: None,
        checkpoint_bytes: None,
        leader_epoch: LeaderEpoch(1),
    }
}

/// Streams of eight claims each, in a store of them.
async fn streams_of(storage: &Arc<Slow>) -> (ObjectStreamStore, Vec<OpenStream>) {
    let mut known = BTreeMap::new();
    for stream in 0..STREAMS {
        let mut claims = Vec::new();
        for at in 0..CLAIMS {
            claims.push(object(storage, stream, at).await);
        }
        known.insert(StreamId(stream), claims);
    }
    let config = Config {
        upload_interval: Duration::from_secs(10),
        upload_bytes: 1 << 20,
        block_cache_bytes: 32 << 20,
        grace: Duration::from_secs(60),
    };
    let parts = Parts {
        storage: Arc::<Slow>::clone(storage),
        metadata: Arc::new(Known(known)),
        fold: Arc::new(NoFold),
        tasks: Tasks::default(),
        memory: ByteBudget::new(1 << 20),
        cluster: Uuid([1; 16]),
        node: NodeId(1),
        epoch: NodeEpoch(2),
        nonce: Uuid([2; 16]),
        floor: WalPosition::default(),
    };
    let asked = (0..STREAMS).map(|id| OpenStream {
        id: StreamId(id),
        epoch: LeaderEpoch(1),
        label: Bytes::new(),
    });
    (ObjectStreamStore::new(config, parts), asked.collect())
}

#[tokio::test(start_paused = true)]
async fn streams_are_opened_many_at_a_time_and_not_all() {
    let storage = Arc::new(Slow::default());
    let (streams, asked) = streams_of(&storage).await;
    let slots = Arc::new(Semaphore::new(SLOTS));
    let begin = tokio::time::Instant::now();
    let opened: Vec<_> = streams.open(asked, &slots).collect().await;
    let took = begin.elapsed();
    let deltas: Vec<u64> = (0..CLAIMS).collect();
    let mut places = BTreeSet::new();
    for (at, stream) in opened {
        places.insert(at);
        let stream = stream.expect("opens");
        let found = stream.deltas.iter();
        let found = found.map(|(_, delta)| u64::from_be_bytes(delta[..].try_into().expect("8")));
        assert_eq!(found.collect::<Vec<_>>(), deltas, "in order");
    }
    assert_eq!(places.len() as u64, STREAMS, "each once");
    // of the 320 requests
    assert!(took < REQUEST * 20, "{took:?}");
    let most = storage.most.load(Ordering::SeqCst);
    assert!((32..=64).contains(&most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_reads_stall_holds_up_no_other() {
    // more than there are slots
    let stalled = 3..23;
    let storage = Arc::new(Slow {
        stalled: stalled
            .clone()
            .map(|stream| layout::object(id_of(stream, 5)))
            .collect(),
        ..Slow::default()
    });
    let (streams, asked) = streams_of(&storage).await;
    let mut opening = streams.open(asked, &Arc::new(Semaphore::new(SLOTS)));
    let mut open = BTreeSet::new();
    while let Ok(next) = tokio::time::timeout(REQUEST * 1000, opening.next()).await {
        let (at, opened) = next.expect("some are left");
        assert!(opened.is_ok(), "{opened:?}");
        open.insert(at as u64);
    }
    let others = (0..STREAMS).filter(|stream| !stalled.contains(stream));
    assert_eq!(open, others.collect());
}
