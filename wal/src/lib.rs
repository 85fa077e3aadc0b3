#![doc = include_str!("../DESIGN.md")]

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use highwater_runtime::BytePermit;
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, StreamId, StreamOffset, Timestamp, WalPosition,
};
use tokio::sync::watch;

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod disk;
mod error;

pub use error::WalError;

/// Bytes of a batch that the log writes itself: base offset, length, leader epoch (outside Kafka's CRC).
pub const HEAD_BYTES: usize = 16;

/// One record batch on its way into the log. The WAL copies `head` and `tail`, once.
#[derive(Debug, Clone)]
pub struct StreamBatch {
    /// Offsets it takes: last offset delta + 1; at least 1.
    pub count: u32,
    /// Its largest timestamp, or -1.
    pub max_timestamp: Timestamp,
    /// The first bytes as stored.
    pub head: [u8; HEAD_BYTES],
    /// The rest, as the client sent it.
    pub tail: Bytes,
    /// The CRC-32 (IEEE) of `tail`, made when it was checked: what the log and the objects say of these bytes is made of
    /// it, so that memory that changes in between is found.
    pub tail_crc: u32,
    /// What the layer above folds into its state (F1); opaque, at most 64 bytes.
    pub delta: Bytes,
    /// Whether the stream rolls before this batch (F6).
    pub roll: bool,
    /// The broker's clock when it was appended: what its roll falls back to where records have no time (F6).
    pub append_time: Timestamp,
}

/// A batch that the WAL holds durably, or that it gave back on recovery.
#[derive(Debug)]
pub struct ConfirmedBatch {
    /// Its stream.
    pub stream: StreamId,
    /// The leader epoch it was appended under.
    pub leader_epoch: LeaderEpoch,
    /// Its first offset.
    pub base: StreamOffset,
    /// Offsets it takes.
    pub count: u32,
    /// Its largest timestamp, or -1.
    pub max_timestamp: Timestamp,
    /// The layer above's delta (F1).
    pub delta: Bytes,
    /// Whether the stream rolls before it (F6).
    pub roll: bool,
    /// The broker's clock when it was appended.
    pub append_time: Timestamp,
    /// The whole batch: a slice of the group-commit buffer.
    pub bytes: Bytes,
    /// The CRC-32 (IEEE) of `bytes` after the first [`HEAD_BYTES`].
    pub tail_crc: u32,
    /// The WAL position just after it: trimming to here forgets it.
    pub end: WalPosition,
    /// The memory it holds (M1); of a permit of [`WriteAheadLog::reserve`].
    pub permit: BytePermit,
}

/// Takes what became durable: the log cache.
pub trait ConfirmedSink: Debug + Send + Sync + 'static {
    /// Takes the batches of one sync, in WAL order, before any receipt of them resolves (so who was acknowledged can
    /// read it). Called on the writer's thread, one call at a time; never blocks for long.
    fn confirmed(&self, batches: Vec<ConfirmedBatch>);
}

/// Finds a node's WAL.
#[async_trait]
pub trait WalFactory: Debug + Send + Sync + 'static {
    /// Reads what a start finds of the WAL and holds it against the metadata, before the node registers: `registered` is
    /// the last epoch that it registered, 0 for none, and `floor` the floor as committed. Changes neither, so that what is
    /// refused is refused again, for the same reason.
    ///
    /// # Errors
    /// [`WalError::Damaged`] where it can't be trusted or is not what the metadata knows (D1, D2).
    async fn read(
        &self,
        node: NodeId,
        registered: NodeEpoch,
        floor: WalPosition,
    ) -> Result<Box<dyn ReadWal>, WalError>;
}

/// A WAL as it was read; nothing writes to it before it is opened.
#[async_trait]
pub trait ReadWal: Debug + Send + Sync + 'static {
    /// Ends the epochs before `epoch`, which the node has registered since, and says what they hold from the floor on.
    ///
    /// # Errors
    /// [`WalError::Damaged`] where it was opened for this epoch or a later one (D2).
    async fn seal(&self, epoch: NodeEpoch) -> Result<SealedWal, WalError>;
    /// Opens it for a new epoch, after every former epoch of this node is closed (E3).
    ///
    /// # Errors
    /// As [`ReadWal::seal`].
    async fn open(
        self: Box<Self>,
        epoch: NodeEpoch,
        sink: Arc<dyn ConfirmedSink>,
    ) -> Result<Arc<dyn WriteAheadLog>, WalError>;
}

/// What a sealed epoch left.
pub enum SealedWal {
    /// Disk WAL: the batches from the floor to the end, in order, for the node itself to upload in windows (D3).
    Replay {
        /// Bytes of the log from the floor to the end.
        bytes: u64,
        /// What they hold.
        batches: BoxStream<'static, Result<ConfirmedBatch, WalError>>,
    },
}

impl Debug for SealedWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replay { bytes, .. } => write!(f, "Replay of {bytes} bytes"),
        }
    }
}

/// Out of which part of memory and room an append is reserved (M2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// What everybody shares, in turn.
    Common,
    /// The reserve too, in a line of its own: coordinators, which go on while produce waits for the store.
    Reserve,
    /// Past every bound and at once, refused only where the epoch ended: what a coordinator has decided already, beyond what
    /// it reserved for it. Where the disk has no room, what is appended with it waits in the log, and all that follows it.
    Unbounded,
}

/// An open WAL.
#[async_trait]
pub trait WriteAheadLog: Debug + Send + Sync + 'static {
    /// Waits for memory and room in the log for a whole request (M1). Cancellation safe.
    ///
    /// # Errors
    /// Every refusal there is: too large for ever, disk full, fenced, closed (A1).
    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, WalError>;
    /// Whether anything is taken now.
    ///
    /// # Errors
    /// Why not: [`WalError::Full`] or [`WalError::Ended`].
    fn check(&self) -> Result<(), WalError>;
    /// Appends one batch; never waits, never refuses (A1). The caller keeps the order of each stream.
    ///
    /// # Panics
    /// When the permit holds less than [`record_bytes`].
    fn append(
        &self,
        permit: AppendPermit,
        stream: StreamId,
        epoch: LeaderEpoch,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt;
    /// How much of the log is taken.
    fn room(&self) -> Room;
    /// The position below which everything is durable.
    fn confirmed(&self) -> WalPosition;
    /// Forgets what lies below `floor`.
    async fn trim(&self, floor: WalPosition) -> Result<(), WalError>;
    /// Resolves when the log has ended, with the error it ended by: none where it was closed.
    async fn ended(&self) -> Option<WalError>;
    /// Makes what was appended durable, then closes the log: later reserves are refused.
    async fn shutdown(&self) -> Result<(), WalError>;
}

/// Bytes of memory and log that a batch needs: what [`AppendPermit`] must hold for it.
#[must_use]
pub const fn record_bytes(batch_bytes: usize) -> u64 {
    batch_bytes as u64 + 192
}

/// What a log holds and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes that are needed or reserved.
    pub used: u64,
    /// Bytes there are; 0 for a log without a bound.
    pub limit: u64,
}

impl Room {
    /// Whether a quarter of it is taken: it is time to let go of something.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.limit > 0 && self.used >= self.limit / 4
    }
}

/// Room for one or more batches.
#[derive(Debug)]
#[must_use]
pub struct AppendPermit {
    /// The memory.
    pub memory: BytePermit,
    /// The room in the log's ring.
    pub room: BytePermit,
}

impl AppendPermit {
    /// Bytes that may be appended with it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.memory.bytes().min(self.room.bytes())
    }

    /// Takes out the part for one batch (M1).
    ///
    /// # Panics
    /// When less is left.
    pub fn split(&mut self, bytes: u64) -> Self {
        Self {
            memory: self.memory.split(bytes),
            room: self.room.split(bytes),
        }
    }
}

/// How far the log is durable, as its waiters see it: by tickets, which number group commits from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// Every group commit up to this one is durable.
    UpTo(u64),
    /// The epoch ended (an fsync failed, or it was fenced, or closed) after this one.
    Ended(u64),
}

/// A promise about one appended batch. Dropping it cancels nothing.
#[must_use]
#[derive(Debug, Clone)]
pub struct AppendReceipt {
    /// The group commit that the batch is in.
    pub ticket: u64,
    /// The log's one watermark.
    pub confirmed: watch::Receiver<Confirmed>,
}

impl AppendReceipt {
    /// Waits until the batch is durable. Cancellation safe.
    ///
    /// # Errors
    /// [`WalError::Ended`] when the log ended before: the batch may or may not be durable.
    pub async fn wait(&mut self) -> Result<(), WalError> {
        let ticket = self.ticket;
        let reached = self.confirmed.wait_for(|confirmed| match confirmed {
            Confirmed::UpTo(up_to) => *up_to >= ticket,
            Confirmed::Ended(_) => true,
        });
        match reached.await.as_deref() {
            Ok(Confirmed::UpTo(_)) => Ok(()),
            Ok(Confirmed::Ended(up_to)) if *up_to >= ticket => Ok(()),
            Ok(Confirmed::Ended(_)) | Err(_) => Err(WalError::Ended),
        }
    }

    /// Whether the batch is durable already.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        match *self.confirmed.borrow() {
            Confirmed::UpTo(up_to) | Confirmed::Ended(up_to) => up_to >= self.ticket,
        }
    }
}
