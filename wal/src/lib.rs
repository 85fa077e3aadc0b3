#![doc = include_str!("../DESIGN.md")]

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId, StreamOffset, WalPosition};

mod batch;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod disk;
mod error;
mod receipt;
mod reservation;

pub use batch::{ConfirmedBatch, HEAD_BYTES, StreamBatch};
pub use error::WalError;
pub use receipt::AppendReceipt;
pub use reservation::{AppendPermit, Room, Share, record_bytes};

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
