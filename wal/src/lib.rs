#![doc = include_str!("../DESIGN.md")]

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, StreamOffset, WalPosition};

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

/// Finds the WAL of a node, of whatever kind. The duties of a WAL are numbered on the three traits of its life: as it is
/// found, read and open. `conformance.rs` has a test for each.
///
/// - **P1** Until it is opened the log stays as it was found, however often it is read and sealed: a start that is refused
///   is refused again, for the same reason (D2).
/// - **P2** [`WalFactory::read`] refuses what can't be trusted, and metadata that it can tell is not the log's: older than
///   the log, or of another one.
#[async_trait]
pub trait WalFactory: Debug + Send + Sync + 'static {
    /// Reads what a start finds of the WAL and holds it against the metadata, before the node registers: `registered` is
    /// the last epoch that it registered, 0 for none, and `floor` the floor as committed.
    ///
    /// # Errors
    /// [`WalError::Damaged`] where it can't be trusted or is not what the metadata knows (D1, D2).
    async fn read(
        &self,
        registered: NodeEpoch,
        floor: WalPosition,
    ) -> Result<Box<dyn ReadWal>, WalError>;
}

/// A WAL as it was read; nothing writes to it before it is opened.
///
/// - **P3** [`ReadWal::seal`] gives back all that the epoch acknowledged above the floor, as it was handed over, in that
///   order, each batch once; what was appended and not acknowledged may follow. It gives nothing of another epoch.
/// - **P4** [`ReadWal::open`] refuses an epoch that wrote to the log before.
#[async_trait]
pub trait ReadWal: Debug + Send + Sync + 'static {
    /// Ends a fenced epoch of this node and says what it holds from the floor on: the floor of an image that has applied
    /// the fence, so that it is final (E7, W7).
    ///
    /// # Errors
    /// [`WalError::Damaged`] where it lacks what follows the floor (D2).
    async fn seal(&self, fenced: NodeEpoch, floor: WalPosition) -> Result<SealedWal, WalError>;
    /// Opens it for a new epoch, after every former epoch of this node is closed (E3).
    ///
    /// # Errors
    /// [`WalError::Damaged`] where it was opened for this epoch or a later one (D2).
    async fn open(
        self: Box<Self>,
        epoch: NodeEpoch,
        sink: Arc<dyn ConfirmedSink>,
    ) -> Result<Arc<dyn WriteAheadLog>, WalError>;
}

/// What a sealed epoch left above the floor: how its streams get it back depends on where it lies. (Of an object WAL it
/// will be a range of objects that is registered as it is, W9.)
pub enum SealedWal {
    /// Nothing: all of it was uploaded, or nothing was written.
    Empty,
    /// Group commits that only this node can read: it uploads them, in windows (D3).
    Replay {
        /// Bytes of the log that they take together.
        bytes: u64,
        /// The group commits, in the order of the log.
        groups: BoxStream<'static, Result<ReplayedGroup, WalError>>,
    },
}

impl Debug for SealedWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Replay { bytes, .. } => write!(f, "Replay of {bytes} bytes"),
        }
    }
}

/// A group commit that was read back.
#[derive(Debug)]
pub struct ReplayedGroup {
    /// Bytes of the log that it takes.
    pub bytes: u64,
    /// Its batches, in the order in which they were appended; all end at one position.
    pub batches: Vec<ConfirmedBatch>,
}

/// Takes what became durable: the log cache.
pub trait ConfirmedSink: Debug + Send + Sync + 'static {
    /// Takes the batches of one or several group commits, in the order of the log. One call at a time, on the writer's
    /// thread or task: it never blocks for long.
    fn confirmed(&self, batches: Vec<ConfirmedBatch>);
}

/// An open WAL.
///
/// What it refuses:
/// - **P5** Every refusal is given by [`WriteAheadLog::reserve`]: at once what can never fit, and anything after the end.
///   [`WriteAheadLog::check`] tells the refusal that every reservation gets now. An append is never refused (A1): the
///   receipt of one after the end says so.
/// - **P6** What a permit holds, memory and room, is promised to nothing else until it is dropped; its parts hold together
///   what the whole did.
/// - **P7** A reservation waits behind those of its own [`Share`] alone.
///
/// What it acknowledges:
/// - **P8** Batches become durable, and are handed over, in the order of appends, each once. Positions go up, over epochs
///   too; the batches of one group commit share theirs, and a group is never parted.
/// - **P9** Nothing is acknowledged before it and all before it are durable and the sink has taken them: what is
///   acknowledged can be read (I1, I2, W2).
/// - **P10** When the log ends by an error nothing more is acknowledged or handed over, whatever becomes of it below: each
///   receipt of what was not acknowledged resolves with [`WalError::Ended`], and [`WriteAheadLog::ended`] with the error.
///
/// What is dropped, closed and let go of:
/// - **P11** A reservation that is dropped while it waits holds nothing and is in no other's way. A receipt, a wait for it
///   or a shutdown that is dropped cancels nothing.
/// - **P12** After a [`WriteAheadLog::shutdown`] all that was appended before is durable, handed over and acknowledged, and
///   the log has ended without an error; one more changes nothing.
/// - **P13** [`WriteAheadLog::trim`] gives back the room of what lies below the floor, and touches nothing above it. A floor
///   below an earlier one changes nothing.
/// - **P14** A batch that was handed over holds at least its bytes of the budget that the log reserves memory from, until it
///   is dropped, whatever is trimmed; the log itself holds none in the end.
#[async_trait]
pub trait WriteAheadLog: Debug + Send + Sync + 'static {
    /// Waits for memory and room in the log for a whole request (M1).
    ///
    /// # Errors
    /// Every refusal there is: too large for ever, no room and none to come, ended (A1).
    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, WalError>;
    /// What [`WriteAheadLog::reserve`] gives of [`Share::Common`] where it need not wait: `None` where others wait (P7),
    /// where memory or room is missing, and where the reservation is refused.
    fn try_reserve(&self, bytes: u64) -> Option<AppendPermit>;
    /// Whether anything is taken now.
    ///
    /// # Errors
    /// Why not: [`WalError::Full`] or [`WalError::Ended`].
    fn check(&self) -> Result<(), WalError>;
    /// Appends one batch; never waits, never refuses (A1). The caller keeps the order of each stream. What the batch takes
    /// beyond its permit, which is to hold [`record_bytes`], is taken past every bound.
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
    /// Says that nothing below `floor` is needed as WAL any more: it is let go of soon, not durably. Never waits.
    fn trim(&self, floor: WalPosition);
    /// Resolves when the log has ended, with the error it ended by: none where it was closed.
    async fn ended(&self) -> Option<WalError>;
    /// Makes what was appended durable, then closes the log.
    ///
    /// # Errors
    /// What the log ended by before that was done.
    async fn shutdown(&self) -> Result<(), WalError>;
}
