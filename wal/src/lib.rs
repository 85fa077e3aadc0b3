#![doc = include_str!("../DESIGN.md")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use highwater_object_format::StreamDirectory;
use highwater_types::{LeaderEpoch, NodeEpoch, ObjectId, StreamId, StreamOffset, WalPosition};
use tokio::time::Instant;

mod batch;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod disk;
mod end;
mod error;
pub mod object;
mod receipt;
mod reservation;

pub use batch::{ConfirmedBatch, HEAD_BYTES, StreamBatch};
pub use error::WalError;
pub use receipt::AppendReceipt;
pub use reservation::{AppendPermit, Room, Share, record_bytes};

/// Finds the WAL of a node, whatever its backend is. Three traits number the duties of a WAL, as it is found, read and
/// opened. `conformance.rs` has a test for each duty.
///
/// - **P1** The log stays as it was found until it is opened, however often it is read and sealed. So a start that is
///   refused is refused again, for the same reason (D2).
/// - **P2** [`WalFactory::read`] refuses a log that can't be trusted. It also refuses metadata that provably does not
///   belong to the log, because it is older than the log or belongs to another one.
#[async_trait]
pub trait WalFactory: Debug + Send + Sync + 'static {
    /// Reads the WAL that a start finds and compares it with the metadata, before the node registers.
    ///
    /// # Errors
    /// [`WalError::Damaged`] if the log can't be trusted or differs from what the metadata knows (D1, D2).
    async fn read(&self, known: Known) -> Result<Box<dyn ReadWal>, WalError>;
}

/// What the metadata knows of a node's WAL when the node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The last epoch that the node registered, whatever the kind of its WAL; 0 for none.
    pub registered: NodeEpoch,
    /// The committed floor of the newest epoch on this kind of WAL that is not closed. `None` if there is no such
    /// epoch: then a log that is found holds nothing that is needed (D4), and a missing log is no fault.
    pub floor: Option<WalPosition>,
    /// The highest position up to which that epoch was reported as confirmed, or 0. A log that ends before it is not
    /// whole (D2).
    pub confirmed: WalPosition,
}

/// A WAL that was read. Nothing writes to it before it is opened.
///
/// - **P3** [`ReadWal::seal`] gives back all batches that the epoch acknowledged above the floor: unchanged, each once,
///   and in the order in which they were handed over. Batches that were appended and not acknowledged may follow, and
///   batches of other epochs never do.
/// - **P4** [`ReadWal::open`] refuses an epoch that wrote to the log before.
#[async_trait]
pub trait ReadWal: Debug + Send + Sync + 'static {
    /// The newest leader epoch under which each stream has records above the floor, so that a start can be refused if the
    /// metadata never gave it out (D2). Empty if reading the log did not show it.
    fn leaderships(&self) -> Vec<(StreamId, LeaderEpoch)> {
        Vec::new()
    }
    /// Ends a fenced epoch of this node and gives what it holds above the floor. The floor must come from an image that
    /// has applied the fence, because only then it is final (E7, W7).
    ///
    /// # Errors
    /// [`WalError::Damaged`] if records that follow the floor are missing (D2).
    async fn seal(&self, fenced: NodeEpoch, floor: WalPosition) -> Result<SealedWal, WalError>;
    /// Opens the log for a new epoch, after every former epoch of this node was closed (E3).
    ///
    /// # Errors
    /// [`WalError::Damaged`] if the log was opened for this epoch or a later one before (D2).
    async fn open(
        self: Box<Self>,
        epoch: NodeEpoch,
        sink: Arc<dyn ConfirmedSink>,
    ) -> Result<Arc<dyn WriteAheadLog>, WalError>;
}

/// What a sealed epoch left above the floor. How its streams get it back depends on where it lies.
pub enum SealedWal {
    /// The epoch left nothing: all of it was uploaded, or nothing was written.
    Empty,
    /// The epoch left group commits that only this node can read. The node uploads them in windows (D3).
    Replay {
        /// Bytes of the log that all of them take.
        bytes: u64,
        /// The group commits, in the order of the log.
        groups: BoxStream<'static, Result<ReplayedGroup, WalError>>,
    },
    /// The epoch left objects that every node can read. They are registered as they are (W9).
    Range(SealedRange),
}

/// The objects of a sealed object WAL from the floor to the seal.
#[derive(Debug, Clone)]
pub struct SealedRange {
    /// The position of the seal (W7).
    pub end: WalPosition,
    /// The group commits, in the order of their sequences; none if the epoch wrote nothing above the floor.
    pub objects: Vec<SealedObject>,
}

/// One group commit of a sealed object WAL.
#[derive(Debug, Clone)]
pub struct SealedObject {
    /// Its name, whose number is its sequence.
    pub id: ObjectId,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its directories, one for each leadership of a stream.
    pub directories: Vec<StreamDirectory>,
}

impl Debug for SealedWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Replay { bytes, .. } => write!(f, "Replay of {bytes} bytes"),
            Self::Range(range) => {
                let (objects, end) = (range.objects.len(), range.end);
                write!(f, "Range of {objects} objects before {end}")
            }
        }
    }
}

/// A group commit that was read back.
#[derive(Debug)]
pub struct ReplayedGroup {
    /// Bytes of the log that it takes.
    pub bytes: u64,
    /// Its batches in the order in which they were appended. All have the same end position.
    pub batches: Vec<ConfirmedBatch>,
}

/// Takes the batches that became durable. The log cache implements it.
pub trait ConfirmedSink: Debug + Send + Sync + 'static {
    /// Takes the batches of one or several group commits, in the order of the log. The writer calls it on its own
    /// thread or task, one call at a time, so it must not block for long.
    fn confirmed(&self, batches: Vec<ConfirmedBatch>);
    /// Whether batches may be acknowledged and shown to readers now (D5). While they may not, a log on the node's own disk
    /// holds back what becomes durable; it asks again after each sync, and at each [`WriteAheadLog::confirm`].
    fn may_confirm(&self) -> bool {
        true
    }
}

/// A leadership of a stream, under which batches are appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// The stream.
    pub stream: StreamId,
    /// Its leader epoch.
    pub epoch: LeaderEpoch,
    /// The label that objects give the stream: the topic id and the partition (I10). It is opaque here, and the disk
    /// WAL does not store it.
    pub label: Bytes,
}

/// An open WAL.
///
/// Duties about refusals:
/// - **P5** Only [`WriteAheadLog::reserve`] refuses. It refuses at once whatever can never fit, and everything after
///   the end of the log. [`WriteAheadLog::check`] gives the refusal that every reservation would get now. An append is
///   never refused (A1): if the log has ended, its receipt says so.
/// - **P6** The memory and the room that a permit holds are promised to nothing else until the permit is dropped. The
///   parts of a permit hold together what the whole permit held.
/// - **P7** A reservation waits only behind reservations of its own [`Share`].
///
/// Duties about acknowledgements:
/// - **P8** Batches become durable and are handed over in the order of appends, each once. Positions increase, also
///   over epochs. The batches of one group commit share their position, and a group is never split.
/// - **P9** A batch is acknowledged after it and all batches before it are durable and the sink has taken them. So an
///   acknowledged batch can be read (I1, I2, W2).
/// - **P10** After the log has ended by an error nothing more is acknowledged or handed over, whatever the device still
///   writes. Each receipt that was not acknowledged resolves with [`WalError::Ended`], and [`WriteAheadLog::ended`]
///   resolves with the error.
///
/// Duties about fencing:
/// - **P15** [`WriteAheadLog::fence`] ends the log at once with [`WalError::Fenced`], as P10 says. A batch that was
///   appended before may still become durable, and then belongs to the epoch that is sealed.
///
/// Duties about dropped futures, shutdown, trimming and memory:
/// - **P11** A reservation that is dropped while it waits holds nothing and blocks no other. Dropping a receipt, a wait
///   for a receipt, or a shutdown cancels nothing.
/// - **P12** After a [`WriteAheadLog::shutdown`] that is done before its deadline, all batches that were appended
///   before are durable, handed over and acknowledged, and the log has ended without an error. At the deadline the log
///   ends with [`WalError::Late`], as P10 says; a batch that was appended before may still become durable, and then
///   belongs to the epoch that is sealed. A second shutdown changes nothing. What the sink held back until then is durable,
///   and nothing more.
/// - **P13** [`WriteAheadLog::trim`] gives back the room of batches below the floor, and touches nothing above it. A
///   floor below an earlier one changes nothing.
/// - **P14** A batch that was handed over holds at least its own size of the budget that the log reserves memory from,
///   until the batch is dropped and whatever is trimmed. In the end the log itself holds no memory of that budget.
#[async_trait]
pub trait WriteAheadLog: Debug + Send + Sync + 'static {
    /// Waits for memory and room in the log for a whole request (M1).
    ///
    /// # Errors
    /// Every refusal (A1): the request can never fit, there is no room and none to come, or the log has ended.
    async fn reserve(&self, bytes: u64, share: Share) -> Result<AppendPermit, WalError>;
    /// Reserves of [`Share::Common`] if that needs no wait. `None` if other reservations wait (P7), if memory or room
    /// is missing, or if [`WriteAheadLog::reserve`] would refuse.
    fn try_reserve(&self, bytes: u64) -> Option<AppendPermit>;
    /// Whether the log takes reservations now.
    ///
    /// # Errors
    /// [`WalError::Full`] or [`WalError::Ended`], if it takes none.
    fn check(&self) -> Result<(), WalError>;
    /// Appends one batch. It never waits and never refuses (A1). The caller keeps the order of each stream. The permit
    /// should hold [`record_bytes`]; a batch that needs more takes it past every bound.
    fn append(
        &self,
        permit: AppendPermit,
        of: &Leadership,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt;
    /// Hands over and acknowledges what was held back, if [`ConfirmedSink::may_confirm`] allows it now. Never waits. A log
    /// whose acknowledgement its seal ends holds nothing back (W11).
    fn confirm(&self) {}
    /// How long the oldest batch that was appended and is not durable has waited, where the log knows it; `None` if there
    /// is no such batch.
    fn oldest_append(&self) -> Option<Duration> {
        None
    }
    /// How much of the log's room is used.
    fn room(&self) -> Room;
    /// Says that the WAL is not needed below `floor` any more. The log releases that part soon, but not durably. Never
    /// waits.
    fn trim(&self, floor: WalPosition);
    /// Resolves when the log has ended, with the error that ended it; `None` if it was shut down.
    async fn ended(&self) -> Option<WalError>;
    /// Ends the log, because its node epoch was fenced; `reason` says how that was learnt. Never waits. An end that came
    /// before stays.
    fn fence(&self, reason: String);
    /// Looks once whether another process has sealed the log at the next sequence, and fences it if so. A request that
    /// fails proves nothing. The answer tells that the store is there, too (E8). A log that no other process can seal has
    /// nothing to look at.
    async fn look_for_seal(&self) {}
    /// Makes all appended batches durable, then ends the log; ends it without them at the deadline (A5).
    ///
    /// # Errors
    /// The error that ended the log before all was durable.
    async fn shutdown(&self, deadline: Option<Instant>) -> Result<(), WalError>;
}
