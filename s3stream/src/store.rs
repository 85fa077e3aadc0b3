//! The streams of a node over one WAL and one object store.
//!
//! [`ObjectStreamStore`] puts the parts together and owns none of their state: [`Uploads`] bring batches into objects,
//! [`Streams`] know which streams are open, and `opening` opens streams. The parts hold each other in one direction
//! only (the uploads hold the streams, a stream holds the log, and the log holds a weak reference to the uploads), so
//! dropping the store and its streams frees everything, once its tasks have ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use highwater_runtime::{ByteBudget, TaskKind, Tasks};
use highwater_types::{StreamId, StreamOffset};
use highwater_wal::{ConfirmedSink, SealedWal, Share, WalError, WriteAheadLog};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::attached_wal::AttachedWal;
use crate::opening::{self, Opener};
use crate::read::ObjectReader;
use crate::stream::StreamPorts;
use crate::streams::Streams;
use crate::upload::{DurableBatches, Recovered, RecoveryStatus, UploadStatus, Uploads};
use crate::{
    AppendPermit, Config, FetchLimit, HandingOver, OpenStream, Opened, Ports, StreamError,
    StreamStore, Writer, metrics,
};

/// How long a stop waits for its last upload (A5).
const UPLOAD_MAX: Duration = Duration::from_secs(10);
/// How long it waits if the store did not take what was put before: enough for an attempt, because it may be back.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// A store of streams on objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectStreamStore {
    uploads: Arc<Uploads>,
    streams: Arc<Streams>,
    /// The ports of the streams that are opened.
    ports: StreamPorts,
    tasks: Tasks,
    /// The log cache's budget.
    memory: ByteBudget,
    block_cache_bytes: u64,
}

impl ObjectStreamStore {
    /// Makes a store without streams. Call [`Self::recover`], then [`Self::attach`], then open streams.
    #[must_use]
    pub fn new(config: Config, ports: Ports, writer: Writer) -> Self {
        let (storage, tasks) = (Arc::clone(&ports.storage), ports.tasks.clone());
        let block_cache_bytes = config.block_cache_bytes;
        let wal = AttachedWal::default();
        let streams = Arc::<Streams>::default();
        let uploads = Uploads::new(config, &ports, writer, Arc::clone(&streams), wal.clone());
        Self {
            uploads: Arc::new(uploads),
            streams,
            ports: StreamPorts {
                wal,
                metadata: ports.metadata,
                reader: ObjectReader::new(storage, block_cache_bytes, tasks),
            },
            tasks: ports.tasks,
            memory: ports.memory,
            block_cache_bytes,
        }
    }

    /// The port by which the WAL hands over durable batches before it acknowledges them.
    #[must_use]
    pub fn durable_batches(&self) -> Arc<dyn ConfirmedSink> {
        Arc::new(DurableBatches::to(&self.uploads))
    }

    /// Uploads the batches in a former epoch's WAL, in windows that fit the memory limit (D3), or indexes them where
    /// they lie (W9). It waits a minute for a store or a metadata that accepts nothing, and [`Config::room_within`]
    /// longer for a full store.
    ///
    /// # Errors
    /// [`StreamError`], with which the start ends.
    pub async fn recover(&self, sealed: SealedWal) -> Result<Recovered, StreamError> {
        self.uploads.recover(sealed).await
    }

    /// The progress of [`Self::recover`].
    #[must_use]
    pub fn recovery(&self) -> RecoveryStatus {
        self.uploads.recovery()
    }

    /// Attaches the WAL of this epoch, and starts uploading in the background.
    ///
    /// # Panics
    /// When a WAL is attached already.
    pub fn attach(&self, wal: Arc<dyn WriteAheadLog>) {
        self.ports.wal.attach(wal);
        let uploads = Arc::clone(&self.uploads);
        self.tasks.spawn(TaskKind::Upload, uploads.run());
    }

    /// Waits until the metadata has refused for good what this epoch wrote, and returns the reason: the epoch has to
    /// end (A1, U3).
    pub async fn failed(&self) -> String {
        self.uploads.failed().await
    }

    /// Ends the node epoch, because it was fenced; `reason` says how that was learnt. Nothing more is acknowledged or
    /// uploaded (W11).
    pub fn fence(&self, reason: &str) {
        self.uploads.fence(reason);
    }

    /// Looks once whether another process has sealed the log, and fences it if so.
    pub async fn look_for_seal(&self) {
        self.ports.wal.get().look_for_seal().await;
    }

    /// How far uploads are behind.
    #[must_use]
    pub fn uploads(&self) -> UploadStatus {
        self.uploads.status()
    }

    /// Sets the gauges of [`crate::metrics`] to the present values.
    pub fn sample(&self) {
        metrics::set(&self.uploads());
    }

    /// Checks that the WAL accepts appends.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn check_wal(&self) -> Result<(), WalError> {
        self.ports.wal.get().check()
    }

    /// Waits until the WAL has ended, after which nothing becomes durable, and returns its error.
    pub async fn ended(&self) -> Option<WalError> {
        self.ports.wal.get().ended().await
    }

    /// The bytes used and the limit of each cache, by name.
    #[must_use]
    pub fn memory(&self) -> [(&'static str, u64, u64); 2] {
        let log = &self.memory;
        let blocks = self.ports.reader.cached_bytes();
        let [of_log, of_blocks] = metrics::CACHES;
        [
            (of_log, log.used(), log.limit()),
            (of_blocks, blocks, self.block_cache_bytes),
        ]
    }

    /// Takes over a stream's start from the metadata: the request that trimmed the stream may have been dropped, or its
    /// answer lost.
    pub fn trimmed(&self, id: StreamId, start: StreamOffset) {
        if let Some(stream) = self.streams.get(id) {
            stream.trimmed(start);
        }
    }

    /// Removes a deleted stream: drops its cached batches, and wakes the watchers of its bounds.
    pub fn forget(&self, id: StreamId) {
        if let Some(stream) = self.streams.remove(id) {
            stream.tell();
        }
    }

    /// Wakes the watchers of a stream's bounds, whose partition was closed. A stream that was handed over is removed; any
    /// other stays until it is deleted or opened again, so that its batches are uploaded (C2).
    pub fn wake(&self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.is_closed() {
            self.streams.remove(id);
        }
        stream.tell();
    }

    /// Whether a stream is there and closed.
    #[cfg(test)]
    pub(crate) fn is_closed(&self, id: StreamId) -> bool {
        let stream = self.streams.get(id);
        stream.is_some_and(|stream| stream.is_closed())
    }

    /// Prepares to hand streams over to other nodes, while they are still written: uploads what they have, and then keeps
    /// other uploads back. Once the caller has stopped all appends to them, [`HandingOver::finish`] closes them (C1, C2).
    /// Cancellation safe.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::Unavailable`] if uploads fail just now, so that a hand-over would keep writers
    /// waiting.
    pub async fn begin_hand_over(&self, ids: &[StreamId]) -> Result<HandingOver, StreamError> {
        self.uploads.begin_hand_over(ids).await
    }

    /// Reads whole batches from the one that holds `from` on, from objects alone, of a stream that need not be open here.
    /// `limit.before` is at most the committed end in this node's image. The work does not grow with the claims before.
    /// Returns nothing if there is no batch before that end, or none that the limit allows.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::Unavailable`] if no claim holds the offset.
    pub async fn read_objects(
        &self,
        id: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
    ) -> Result<Vec<Bytes>, StreamError> {
        let (reader, metadata) = (&self.ports.reader, &*self.ports.metadata);
        reader.read(metadata, id, from, limit).await
    }

    /// Ends the WAL, at a deadline at the latest, and uploads what is durable, so that a clean stop leaves nothing to replay.
    /// If the store does not accept it within ten seconds, the batches remain in the WAL. A fenced epoch uploads nothing:
    /// its batches are recovered from the WAL. Afterwards nothing more is acknowledged, whatever the result is (A5).
    ///
    /// # Errors
    /// [`StreamError`]; batches that were not uploaded are in the WAL.
    pub async fn shutdown(&self, wal_deadline: Option<Instant>) -> Result<(), StreamError> {
        let wal = self.ports.wal.get();
        let ended = wal.shutdown(wal_deadline).await;
        if let Some(Some(WalError::Fenced { reason })) = wal.ended().now_or_never() {
            self.fence(&reason);
        }
        // a log that is late and has no thread is in the store
        let is_log_away = matches!(ended, Err(WalError::Late { is_writing: false }));
        let within = match is_log_away || self.uploads.status().failing.is_some() {
            true => ATTEMPT_MAX,
            false => UPLOAD_MAX,
        };
        let uploaded = timeout(within, self.uploads.finish()).await;
        let uploaded = uploaded.unwrap_or_else(|_elapsed| {
            tracing::warn!(
                "stopped without a last upload: what is not uploaded is in the write-ahead log"
            );
            Ok(())
        });
        match ended {
            Ok(()) | Err(WalError::Fenced { .. }) => uploaded,
            Err(error) => Err(StreamError::Wal(error)),
        }
    }
}

impl StreamStore for ObjectStreamStore {
    fn open(&self, asked: Vec<OpenStream>, slots: &Arc<Semaphore>) -> BoxStream<'static, Opened> {
        let opener = Opener {
            ports: self.ports.clone(),
            streams: Arc::clone(&self.streams),
            uploads: Arc::clone(&self.uploads),
        };
        opening::open(opener, asked, Arc::clone(slots))
    }

    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, StreamError> {
        self.uploads.reserve(bytes, share).await
    }
}
