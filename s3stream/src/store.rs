//! The streams of a node over one WAL and one object store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::stream::BoxStream;
use highwater_object_storage::ObjectStorage;
use highwater_runtime::{ByteBudget, TaskKind, Tasks};
use highwater_types::limits::UPLOADS_IN_FLIGHT_MAX;
use highwater_types::{
    ClusterId, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, Uuid, WalPosition,
};
use highwater_wal::{ConfirmedBatch, ConfirmedSink, SealedWal, Share, WalError, WriteAheadLog};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::backlog::{Backlog, Durable};
use crate::held_back::HeldBack;
use crate::pressure::UploadStatus;
use crate::read::ObjectReader;
use crate::stream::ObjectStream;
use crate::{
    AppendPermit, DeltaFold, OpenStream, Opened, RecoveryStatus, StreamError, StreamMetadata,
    StreamStore,
};
use crate::{metrics, opening, upload};

/// When and how much is uploaded.
#[derive(Debug, Clone)]
pub struct Config {
    /// The longest time a batch waits for its upload. Default: 10 s.
    pub upload_interval: Duration,
    /// Bytes that are uploaded at once when they have gathered. Default: 64 MiB.
    pub upload_bytes: u64,
    /// Bytes of blocks read back that are kept.
    pub block_cache_bytes: u64,
    /// The time within which a full store has room again for what is condemned (G1): a recovery waits for that much longer
    /// than while the store fails otherwise (D3).
    pub room_within: Duration,
}

/// What a store is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The object store.
    pub storage: Arc<dyn ObjectStorage>,
    /// The metadata.
    pub metadata: Arc<dyn StreamMetadata>,
    /// What deltas mean.
    pub fold: Arc<dyn DeltaFold>,
    /// Where tasks run.
    pub tasks: Tasks,
    /// The log cache's budget: the one that the WAL reserves from.
    pub memory: ByteBudget,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: NodeEpoch,
    /// Sixteen random bytes of this process: whether an object that is there is its own (U2).
    pub nonce: Uuid,
    /// The floor of the node's WAL, as last committed when it registered.
    pub floor: WalPosition,
}

/// Streams on objects.
#[derive(Debug, Clone)]
pub struct ObjectStreamStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) parts: Parts,
    pub(crate) metadata: Arc<dyn StreamMetadata>,
    pub(crate) reader: ObjectReader,
    pub(crate) streams: RwLock<BTreeMap<StreamId, Arc<ObjectStream>>>,
    pub(crate) wal: OnceLock<Arc<dyn WriteAheadLog>>,
    recovery: Mutex<RecoveryStatus>,
    /// Held while a sync's batches are handed out, and while an upload cuts: the cut is a prefix of the WAL.
    pub(crate) backlog: Mutex<Backlog>,
    pub(crate) held_back: Mutex<HeldBack>,
    /// Why the node epoch has to end (A1, U3).
    pub(crate) failed: watch::Sender<Option<String>>,
    pub(crate) wake_upload: Notify,
    pub(crate) next_upload: AtomicU64,
    /// The number of the last upload that was committed.
    pub(crate) committed_upload: AtomicU64,
    /// Held by the one upload that goes on; the object that it has begun, which the last upload of a stop goes on with.
    pub(crate) uploading: tokio::sync::Mutex<Option<upload::Begun>>,
    /// The WAL's floor, as last committed.
    pub(crate) committed_floor: Mutex<WalPosition>,
    /// Whether the last put found the object store full (D3).
    pub(crate) store_full: watch::Sender<bool>,
    /// What may be evicted, oldest first: stream, end offset.
    pub(crate) evictable: Mutex<std::collections::VecDeque<(StreamId, StreamOffset)>>,
}

impl Shared {
    pub(crate) fn wal(&self) -> &Arc<dyn WriteAheadLog> {
        self.wal
            .get()
            .expect("the WAL is attached before a stream is opened")
    }

    /// Whether what is uploaded is a former epoch's: until the WAL of this one is attached.
    pub(crate) fn is_recovering(&self) -> bool {
        self.wal.get().is_none()
    }

    pub(crate) fn recovery(&self) -> MutexGuard<'_, RecoveryStatus> {
        self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stream(&self, id: StreamId) -> Option<Arc<ObjectStream>> {
        self.streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(crate) fn committed_floor(&self) -> WalPosition {
        let floor = self.committed_floor.lock();
        *floor.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_committed_floor(&self, floor: WalPosition) {
        let committed = self.committed_floor.lock();
        *committed.unwrap_or_else(PoisonError::into_inner) = floor;
    }

    /// Evicts uploaded batches, oldest first, until at most `bytes` are held.
    pub(crate) fn evict_to(&self, bytes: u64) {
        while self.parts.memory.used() > bytes {
            let next = self
                .evictable
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some((stream, end)) = next else { return };
            if let Some(stream) = self.stream(stream) {
                stream.lock().cache.evict(end);
            }
        }
    }
}

/// How long a stop waits for its last upload.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What the WAL hands its batches to; the WAL does not keep the store alive.
#[derive(Debug)]
struct Sink(Weak<Shared>);

impl ConfirmedSink for Sink {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let (object_bytes, now) = (shared.object_bytes(), Instant::now());
        let mut backlog = shared.backlog();
        let mut by_stream: BTreeMap<StreamId, Vec<ConfirmedBatch>> = BTreeMap::new();
        for batch in batches {
            let durable = Durable {
                end: batch.end,
                bytes: batch.bytes.len() as u64,
                memory: batch.memory.bytes(),
            };
            backlog.add(durable, object_bytes, now);
            by_stream.entry(batch.stream).or_default().push(batch);
        }
        for (id, batches) in by_stream {
            // the batches of a stream that was deleted are let go
            if let Some(stream) = shared.stream(id) {
                stream.confirm(batches);
            }
        }
        drop(backlog);
        if shared.is_upload_due() {
            shared.wake_upload.notify_one();
        }
    }
}

impl ObjectStreamStore {
    /// A store without streams. Call [`Self::recover`], then [`Self::attach`], then open streams.
    #[must_use]
    pub fn new(config: Config, parts: Parts) -> Self {
        let storage = Arc::clone(&parts.storage);
        let reader = ObjectReader::new(storage, config.block_cache_bytes, parts.tasks.clone());
        let metadata = Arc::clone(&parts.metadata);
        let committed_floor = Mutex::new(parts.floor);
        Self {
            shared: Arc::new(Shared {
                config,
                parts,
                metadata,
                reader,
                streams: RwLock::default(),
                wal: OnceLock::new(),
                recovery: Mutex::default(),
                backlog: Mutex::default(),
                held_back: Mutex::default(),
                failed: watch::Sender::new(None),
                wake_upload: Notify::new(),
                next_upload: AtomicU64::new(0),
                committed_upload: AtomicU64::new(0),
                uploading: tokio::sync::Mutex::default(),
                committed_floor,
                store_full: watch::Sender::new(false),
                evictable: Mutex::default(),
            }),
        }
    }

    /// What the WAL is to hand its durable batches to.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn ConfirmedSink> {
        Arc::new(Sink(Arc::downgrade(&self.shared)))
    }

    /// Uploads what a former epoch's WAL holds, in windows that fit the memory limit (D3); answers how many batches were
    /// uploaded of all that were recovered. It waits a minute for a store or a metadata that takes nothing, and for a full
    /// store [`Config::room_within`] longer (D3).
    ///
    /// # Errors
    /// [`StreamError`]: the start refuses.
    pub async fn recover(&self, sealed: SealedWal) -> Result<u64, StreamError> {
        upload::recover(&self.shared, sealed).await
    }

    /// How far [`Self::recover`] is.
    #[must_use]
    pub fn recovery(&self) -> RecoveryStatus {
        *self.shared.recovery()
    }

    /// Takes the WAL of this epoch and starts uploading in the background.
    ///
    /// # Panics
    /// When there is one already.
    pub fn attach(&self, wal: Arc<dyn WriteAheadLog>) {
        assert!(self.shared.wal.set(wal).is_ok(), "one WAL for each epoch");
        let shared = Arc::clone(&self.shared);
        self.shared
            .parts
            .tasks
            .spawn(TaskKind::Upload, upload::run(shared));
    }

    /// Resolves, with the reason, when the metadata refused for good what this epoch wrote: the epoch has to end (A1, U3).
    pub async fn failed(&self) -> String {
        self.shared.failed().await
    }

    /// How far uploads are behind.
    #[must_use]
    pub fn uploads(&self) -> UploadStatus {
        self.shared.upload_status()
    }

    /// Sets the gauges of [`crate::metrics`] to what is so now.
    pub fn sample(&self) {
        metrics::set(&self.uploads());
    }

    /// Whether the WAL takes anything now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_wal(&self) -> Result<(), WalError> {
        self.shared.wal().check()
    }

    /// Resolves when the WAL has ended, with the error it ended by: nothing more becomes durable.
    pub async fn ended(&self) -> Option<WalError> {
        self.shared.wal().ended().await
    }

    /// Bytes held and the limit of each of its caches, by name.
    #[must_use]
    pub fn memory(&self) -> [(&'static str, u64, u64); 2] {
        let log = &self.shared.parts.memory;
        let blocks = self.shared.reader.cached_bytes();
        let blocks_max = self.shared.config.block_cache_bytes;
        [
            ("log_cache", log.used(), log.limit()),
            ("block_cache", blocks, blocks_max),
        ]
    }

    /// Takes a stream's start as the metadata has it: the request that asked for a trim may
    /// have been given up, or its answer lost.
    pub fn trimmed(&self, id: StreamId, start: StreamOffset) {
        let streams = &self.shared.streams;
        let streams = streams.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(&id) {
            stream.trimmed(start);
        }
    }

    /// Lets go of a stream that was deleted; what is cached of it is dropped, and watchers of its bounds are woken.
    pub fn forget(&self, id: StreamId) {
        let gone = self
            .shared
            .streams
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        if let Some(stream) = gone {
            stream.tell();
        }
    }

    /// Uploads everything, so that a clean stop leaves nothing to replay, and ends the WAL. A store that does not take it
    /// within ten seconds is not waited for: the WAL has what was not uploaded.
    ///
    /// # Errors
    /// [`StreamError`]; the WAL has what was not uploaded.
    pub async fn shutdown(&self) -> Result<(), StreamError> {
        let wal = self.shared.wal();
        let is_refused = self.shared.failed.borrow().is_some();
        let last = async {
            // what was refused for good is refused again, and leaves another object behind
            match is_refused {
                true => Ok(()),
                false => upload::all(&self.shared).await,
            }
        };
        let uploaded = timeout(STOP_MAX, last).await;
        let uploaded = uploaded.unwrap_or_else(|_elapsed| {
            tracing::warn!("stopped without a last upload: the next start does it");
            Ok(())
        });
        let ended = wal.shutdown().await.map_err(StreamError::Wal);
        // streams and store hold each other, and so does what was begun
        if let Ok(mut begun) = self.shared.uploading.try_lock() {
            *begun = None;
        }
        self.shared
            .streams
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        ended?;
        uploaded
    }
}

impl StreamStore for ObjectStreamStore {
    fn open(&self, asked: Vec<OpenStream>, slots: &Arc<Semaphore>) -> BoxStream<'static, Opened> {
        opening::open(Arc::clone(&self.shared), asked, Arc::clone(slots))
    }

    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, StreamError> {
        self.shared.reserve(bytes, share).await
    }
}

impl Shared {
    /// The next number. Uploads go one at a time, and one that fails for good is the last (A1): what the metadata takes,
    /// and condemns when it closes the epoch (U2, U5).
    ///
    /// # Panics
    /// When more is in flight than the metadata reckons with.
    pub(crate) fn next_object(&self) -> ObjectId {
        let number = self.next_upload.fetch_add(1, Ordering::Relaxed) + 1;
        let committed = self.committed_upload.load(Ordering::Relaxed);
        assert!(
            number - committed <= UPLOADS_IN_FLIGHT_MAX,
            "uploads in flight are bounded (U2)"
        );
        ObjectId {
            node: self.parts.node,
            epoch: self.parts.epoch,
            kind: ObjectKind::Upload,
            number,
        }
    }
}
