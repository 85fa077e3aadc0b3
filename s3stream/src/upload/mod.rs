//! Uploads from the log cache to objects (rules U1 to U3, U6).
//!
//! [`Uploads`] owns an upload from the moment a batch is durable until its object is committed: the backlog of batches
//! that are not uploaded, the numbers of objects, the upload that is under way, the committed floor, the write-ahead
//! log with the requests that wait for its room, and the recovery of the former log. It does not own the batches, which
//! lie in the cache of their stream, nor their eviction ([`Evictions`]), nor the map of open streams ([`Streams`]).
//!
//! Each file begins with its part of this. [`backlog`], [`plan`], [`numbers`] and [`held_back`] decide without I/O, and
//! the others carry out the decisions.

mod backlog;
mod begun;
mod commit;
mod hand_over;
mod held_back;
mod numbers;
mod outage;
mod plan;
mod put;
mod recover;
mod room;
mod run;
mod seal;
mod status;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use highwater_object_format::{ObjectHeader, SummedBytes};
use highwater_object_storage::ObjectStorage;
use highwater_runtime::{ByteBudget, reasons};
use highwater_types::{ObjectId, ObjectKind, StreamId, WalPosition};
use highwater_wal::{ConfirmedBatch, ConfirmedSink, HEAD_BYTES};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::backlog::{Backlog, Durable};
use self::begun::Begun;
pub use self::hand_over::HandingOver;
use self::held_back::HeldBack;
use self::numbers::Numbers;
use self::outage::Outage;
pub use self::recover::{Recovered, RecoveryStatus};
pub use self::seal::SealedClaims;
pub use self::status::UploadStatus;
use crate::attached_wal::AttachedWal;
use crate::evictions::Evictions;
use crate::streams::Streams;
use crate::{Config, DeltaFold, Ports, StreamError, StreamMetadata, Writer};

/// The uploads of one node epoch.
#[derive(Debug)]
pub(crate) struct Uploads {
    config: Config,
    storage: Arc<dyn ObjectStorage>,
    metadata: Arc<dyn StreamMetadata>,
    fold: Arc<dyn DeltaFold>,
    writer: Writer,
    memory: ByteBudget,
    streams: Arc<Streams>,
    evictions: Evictions,
    wal: AttachedWal,
    /// Locked while a sync's batches are handed out and while an upload cuts, so that the cut is a prefix of the WAL.
    backlog: Mutex<Backlog>,
    held_back: Mutex<HeldBack>,
    /// The number of hand-overs that wait until their streams are uploaded.
    moving: AtomicUsize,
    outage: Mutex<Outage>,
    /// Wakes the loop before its interval ends.
    wake: Notify,
    numbers: Numbers,
    /// The number of the last index object (W9).
    last_index: AtomicU64,
    /// Locked by the upload that is under way. The object that it has begun stays here if its task is aborted, so that
    /// the last upload of a stop continues with it (U2).
    under_way: Arc<tokio::sync::Mutex<Option<Begun>>>,
    /// The WAL's floor as of the last commit.
    committed_floor: Mutex<WalPosition>,
    /// Whether the last put found the object store full (D3).
    store_full: watch::Sender<bool>,
    /// The reason why the node epoch has to end (A1, U3).
    failed: watch::Sender<Option<String>>,
    recovery: Mutex<RecoveryStatus>,
}

impl Uploads {
    pub(crate) fn new(
        config: Config,
        ports: &Ports,
        writer: Writer,
        streams: Arc<Streams>,
        wal: AttachedWal,
    ) -> Self {
        Self {
            config,
            storage: Arc::clone(&ports.storage),
            metadata: Arc::clone(&ports.metadata),
            fold: Arc::clone(&ports.fold),
            memory: ports.memory.clone(),
            evictions: Evictions::new(ports.memory.clone(), Arc::clone(&streams)),
            streams,
            wal,
            backlog: Mutex::default(),
            held_back: Mutex::default(),
            moving: AtomicUsize::new(0),
            outage: Mutex::default(),
            wake: Notify::new(),
            numbers: Numbers::default(),
            last_index: AtomicU64::new(0),
            under_way: Arc::default(),
            committed_floor: Mutex::new(writer.floor),
            writer,
            store_full: watch::Sender::new(false),
            failed: watch::Sender::new(None),
            recovery: Mutex::default(),
        }
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_back(&self) -> MutexGuard<'_, HeldBack> {
        let held_back = self.held_back.lock();
        held_back.unwrap_or_else(PoisonError::into_inner)
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed_floor(&self) -> WalPosition {
        let floor = self.committed_floor.lock();
        *floor.unwrap_or_else(PoisonError::into_inner)
    }

    fn set_committed_floor(&self, floor: WalPosition) {
        let committed = self.committed_floor.lock();
        *committed.unwrap_or_else(PoisonError::into_inner) = floor;
    }

    /// Whether the log of a former epoch is being uploaded, which is so until the log of this epoch is attached.
    fn is_recovering(&self) -> bool {
        self.wal.try_get().is_none()
    }

    /// The name of the next object (U2).
    ///
    /// # Panics
    /// When more uploads are in flight than the metadata permits.
    fn next_object(&self) -> ObjectId {
        ObjectId {
            node: self.writer.node,
            epoch: self.writer.epoch,
            kind: ObjectKind::Upload,
            number: self.numbers.take(),
        }
    }

    fn header(&self, id: ObjectId) -> ObjectHeader {
        ObjectHeader {
            cluster: self.writer.cluster,
            id,
            nonce: self.writer.nonce,
            rewrite_number: 0,
            floor: self.committed_floor(),
        }
    }

    /// Adds durable batches to the backlog and to their streams, in the order of the log. The backlog stays locked for
    /// both, so that all batches before a cut have reached their streams.
    fn take_durable(&self, batches: Vec<ConfirmedBatch>) {
        let (object_bytes, now) = (self.object_bytes(), Instant::now());
        let mut backlog = self.backlog();
        let mut by_stream: BTreeMap<StreamId, Vec<ConfirmedBatch>> = BTreeMap::new();
        for batch in batches {
            let durable = Durable {
                end: batch.end,
                bytes: batch.bytes.len() as u64,
                memory: batch.memory.bytes(),
                begins_roll: batch.roll,
            };
            backlog.add(durable, object_bytes, now);
            by_stream.entry(batch.stream).or_default().push(batch);
        }
        for (id, batches) in by_stream {
            // the batches of a deleted stream are dropped
            if let Some(stream) = self.streams.get(id) {
                stream.confirm(batches);
            }
        }
        drop(backlog);
        if self.is_due() {
            self.wake.notify_one();
        }
    }

    /// Ends the node epoch because of an error that is final.
    fn end_by(&self, error: &StreamError) {
        match error {
            StreamError::Fenced { .. } => self.fence(&reasons(error)),
            _ => self.fail(reasons(error)),
        }
    }

    /// Ends the node epoch; nothing is reserved any more.
    fn fail(&self, reason: String) {
        self.failed.send_replace(Some(reason));
    }

    /// Ends the node epoch, because it was fenced.
    pub(crate) fn fence(&self, reason: &str) {
        // the log comes first, so that its end tells why the epoch ended
        self.wal.get().fence(reason.to_owned());
        self.fail(reason.to_owned());
    }

    /// Waits until an upload was refused for good, and returns the reason (A1, U3). Cancellation safe.
    pub(crate) async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(reason) = failed.borrow_and_update().clone() {
                return reason;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Hands durable batches to the uploads. The log holds this, which must not keep the uploads alive, since they hold the
/// log.
#[derive(Debug)]
pub(crate) struct DurableBatches(Weak<Uploads>);

impl DurableBatches {
    pub(crate) fn to(uploads: &Arc<Uploads>) -> Self {
        Self(Arc::downgrade(uploads))
    }
}

impl ConfirmedSink for DurableBatches {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        if let Some(uploads) = self.0.upgrade() {
            uploads.take_durable(batches);
        }
    }
}

/// A batch, and the sum that the log was given for it.
fn summed(bytes: Bytes, tail_crc: u32) -> SummedBytes {
    SummedBytes {
        bytes,
        summed_from: HEAD_BYTES,
        crc: tail_crc,
    }
}

#[cfg(test)]
mod tests;
