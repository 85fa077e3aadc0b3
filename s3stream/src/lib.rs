#![doc = include_str!("../DESIGN.md")]

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
pub use highwater_object_format::RollPart;
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, ObjectId, StreamId, StreamOffset, StreamRange, Timestamp,
    WalPosition,
};
pub use highwater_wal::{
    AppendPermit, AppendReceipt, HEAD_BYTES, Share, StreamBatch, record_bytes,
};
use tokio::sync::Semaphore;

mod attached_wal;
mod cache;
mod config;
mod error;
mod evictions;
mod folding;
pub mod metrics;
mod opening;
mod read;
mod rolls;
mod store;
mod stream;
mod streams;
mod upload;

pub use config::{Config, Ports, Writer};
pub use error::StreamError;
pub use rolls::Roll;
pub use store::ObjectStreamStore;
pub use upload::{RecoveryStatus, UploadStatus};

/// What the bounds of a stream are: `start <= confirmed <= next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamBounds {
    /// The first offset that is there.
    pub start: StreamOffset,
    /// Just after the last durable offset: the high watermark.
    pub confirmed: StreamOffset,
    /// Just after the last appended offset: the log end.
    pub next: StreamOffset,
}

/// How much one read returns.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimit {
    /// Whole batches up to this many bytes.
    pub bytes: usize,
    /// Batches whose base offset is below this.
    pub before: StreamOffset,
    /// Whether the first batch is returned whole though it is larger.
    pub at_least_one: bool,
}

/// What a read of the log cache found.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Whole batches.
    pub batches: Vec<Bytes>,
    /// Whether the next batch is there too and only the limit's bytes kept it back.
    pub is_cut: bool,
}

/// The folded meaning of deltas (F2, F3).
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// The state at the end of the last delta; empty for none.
    pub checkpoint: Bytes,
    /// What must be kept beside the data, each with its last offset (an aborted transaction beside its marker).
    pub entries: Vec<Entry>,
    /// First offset of the oldest transaction open at the end.
    pub open_from: Option<StreamOffset>,
}

/// One entry (F3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The offset of the marker it stands beside.
    pub at: StreamOffset,
    /// Opaque.
    pub body: Bytes,
}

/// What deltas mean; `partition-log` knows. Pure.
pub trait DeltaFold: Debug + Send + Sync + 'static {
    /// Folds deltas, each with the offsets of its batch, onto a checkpoint, empty for none. What was last touched before
    /// a time is left out. None where one is of a version that is not known. Deterministic.
    fn fold(
        &self,
        checkpoint: &Bytes,
        deltas: &[(StreamRange, Bytes)],
        before: Timestamp,
    ) -> Option<Folded>;
}

/// A stream to open.
#[derive(Debug, Clone)]
pub struct OpenStream {
    /// Which.
    pub id: StreamId,
    /// The leader epoch it is opened under (E5).
    pub epoch: LeaderEpoch,
    /// Topic id and partition, for objects that describe themselves (I10); opaque.
    pub label: Bytes,
    /// Whether clients of other streams wait for it: it is opened before others, and none of them holds it up (F4).
    pub is_urgent: bool,
}

/// An open stream and what its state is rebuilt from, read from indexes only (F4).
#[derive(Debug)]
pub struct OpenedStream {
    /// The stream.
    pub stream: Arc<dyn Stream>,
    /// The newest checkpoint and the offset it stands at.
    pub checkpoint: Option<(StreamOffset, Bytes)>,
    /// The deltas after the checkpoint.
    pub deltas: Vec<(StreamRange, Bytes)>,
    /// Every entry whose data is still there.
    pub entries: Vec<Entry>,
    /// Where the stream rolled, oldest first (F6).
    pub rolls: Vec<Roll>,
}

/// One of the streams that were asked for, by its place, and what became of it.
pub type Opened = (usize, Result<OpenedStream, StreamError>);

/// The streams of a node.
pub trait StreamStore: Debug + Send + Sync + 'static {
    /// Opens streams, many in one metadata command: each is answered when it is open, by its place among those asked. As
    /// many are under way together as there are slots, and those that wait for what the store does not answer (F4). No two
    /// openings of a stream may overlap. One that is open is closed first, once all that was appended to it is uploaded (C2);
    /// from then on its former handle takes no append.
    fn open(&self, streams: Vec<OpenStream>, slots: &Arc<Semaphore>) -> BoxStream<'static, Opened>;
    /// Room for a whole request (M1): see [`highwater_wal::WriteAheadLog::reserve`].
    fn reserve(
        &self,
        bytes: u64,
        share: Share,
    ) -> impl Future<Output = Result<AppendPermit, StreamError>> + Send;
}

/// One open stream.
#[async_trait]
pub trait Stream: Debug + Send + Sync + 'static {
    /// Appends a batch at `base`, which must be `bounds().next`; the caller holds its partition's lock. Never waits,
    /// never refuses (A1).
    ///
    /// # Panics
    /// When `base` is not next, or the stream was opened again since.
    fn append(
        &self,
        permit: AppendPermit,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt;
    /// Whole durable batches from the one that holds `from`, if the log cache has them; contiguous ones are one slice.
    /// `None` when objects are needed; no batches at the tail.
    fn fetch_cached(&self, from: StreamOffset, limit: FetchLimit) -> Option<Fetched>;
    /// As [`Stream::fetch_cached`], reading objects where needed. A cold read goes on when the caller gives up.
    async fn fetch(&self, from: StreamOffset, limit: FetchLimit)
    -> Result<Vec<Bytes>, StreamError>;
    /// The base offset of the first batch in offset order that ends after `from` and whose largest timestamp is at least
    /// `at`.
    async fn offset_for_time(
        &self,
        from: StreamOffset,
        at: Timestamp,
    ) -> Result<Option<StreamOffset>, StreamError>;
    /// The largest timestamp of what is there and the base offset of the first batch that has it.
    async fn max_timestamp(&self) -> Result<Option<(Timestamp, StreamOffset)>, StreamError>;
    /// Moves the start up, durably in the metadata, before it returns; objects that nothing refers to go later.
    async fn trim(&self, start: StreamOffset) -> Result<(), StreamError>;
    /// State that was last touched before a time is of no use any more, which leaves about so many bytes of a checkpoint:
    /// the next one is without it (F5).
    fn forget_state(&self, before: Timestamp, left_bytes: usize);
    /// The rolls, oldest first; the last is the active one, which is there and whole even where all of it is deleted, until
    /// the stream rolls or is opened anew. Others go with their last record.
    fn rolls(&self) -> Vec<Roll>;
    /// Its bounds.
    fn bounds(&self) -> StreamBounds;
    /// Changes whenever `confirmed` or `start` does; also when the stream ends.
    fn watch_bounds(&self) -> tokio::sync::watch::Receiver<StreamBounds>;
}

/// What the metadata holds of a stream's data (U4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The offsets it accounts for; none for a checkpoint that stands alone.
    pub range: StreamRange,
    /// The object that holds them, `None` for a range without records.
    pub object: Option<ObjectId>,
    /// The stream's part of that object, in bytes: its blocks.
    pub part: Range<u64>,
    /// The largest timestamp in it, or -1.
    pub max_timestamp: Timestamp,
    /// What its object has of each roll, in order (F6). It is told with the commit: the metadata sums it up in the stream's
    /// rolls, and the claims that it hands out have none.
    pub rolls: Vec<RollPart>,
    /// First offset of the oldest transaction open at its end (F3).
    pub open_from: Option<StreamOffset>,
    /// The bytes of the checkpoint at `range.end` that stands in the object (F2), if one does; an empty one stands in none.
    pub checkpoint_bytes: Option<u64>,
    /// The leader epoch of its batches; two leaderships are never one claim (C2).
    pub leader_epoch: LeaderEpoch,
}

/// What a stream is opened from beside its bounds (F4). It grows with what came after the checkpoint and with the rolls that
/// are there, not with the claims.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The newest claim whose object has a checkpoint (F5).
    pub checkpoint: Option<Claim>,
    /// The claims after it, in order.
    pub claims: Vec<Claim>,
    /// Where the stream rolled, oldest first (F6).
    pub rolls: Vec<Roll>,
}

/// The commit of one uploaded object (U3).
#[derive(Debug, Clone)]
pub struct ObjectCommit {
    /// The epoch that uploads; refused when it is not open (E6), or, for recovery, not that of this node.
    pub epoch: NodeEpoch,
    /// The object.
    pub object: ObjectId,
    /// Its bytes.
    pub object_bytes: u64,
    /// Its claims, one for each stream.
    pub claims: Vec<(StreamId, Claim)>,
    /// Below it nothing is needed as WAL any more.
    pub floor: WalPosition,
    /// The lowest upload number still in flight (U5).
    pub lowest_in_flight: u64,
    /// How far the WAL is confirmed (D2).
    pub confirmed: WalPosition,
    /// Whether what is uploaded is of a former epoch of this node, read back from its WAL.
    pub recovering: bool,
}

/// The answer to a commit.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Streams whose claim was dropped whole (deleted, or no longer held).
    pub dropped: Vec<StreamId>,
    /// Where in the metadata's log it stands: [`StreamMetadata::seen`].
    pub at: LogIndex,
}

/// The port to the metadata, implemented by the broker on `kraft-meta`.
#[async_trait]
pub trait StreamMetadata: Debug + Send + Sync + 'static {
    /// Opens streams under their leader epochs in one command; answers start and committed end of each, in order.
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError>;
    /// Commits an upload; applied stream by stream (U3). A repeat gets the first answer.
    async fn commit(&self, commit: ObjectCommit) -> Result<Committed, StreamError>;
    /// Returns when this node's own image has that index (U6).
    async fn seen(&self, at: LogIndex) -> Result<(), StreamError>;
    /// The first claims that overlap a range, at most `max`, in offset order, from this node's own image.
    async fn locate(
        &self,
        id: StreamId,
        range: StreamRange,
        max: usize,
    ) -> Result<Vec<Claim>, StreamError>;
    /// The first claim in offset order that overlaps a range and whose largest timestamp reaches `at`.
    async fn locate_time(
        &self,
        id: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<Claim>, StreamError>;
    /// What a stream is opened from, from the image (F4); nothing of one that is gone.
    async fn recorded(&self, id: StreamId) -> Result<Recorded, StreamError>;
    /// Moves the start of a stream up that this node epoch holds under a leader epoch; condemns what nothing refers to
    /// (U4, G1). Idempotent.
    async fn trim(
        &self,
        id: StreamId,
        epoch: LeaderEpoch,
        start: StreamOffset,
    ) -> Result<(), StreamError>;
    /// Topic id and partition of a stream, for objects that describe themselves (I10); empty for one that is gone.
    async fn label(&self, id: StreamId) -> Result<Bytes, StreamError>;
    /// The leader epochs of a stream, each with its first offset, oldest first (E5); none of one that is gone.
    async fn leader_epochs(
        &self,
        id: StreamId,
    ) -> Result<Vec<(LeaderEpoch, StreamOffset)>, StreamError>;
}
