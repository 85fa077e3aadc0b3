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
#[cfg(feature = "fixture")]
pub mod fixture;
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
pub use upload::{HandingOver, Recovered, RecoveryStatus, SealedClaims, UploadStatus};

/// The bounds of a stream: `start <= confirmed <= next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamBounds {
    /// The first offset, Kafka's log start offset.
    pub start: StreamOffset,
    /// The offset after the last durable one: the high watermark.
    pub confirmed: StreamOffset,
    /// The offset after the last appended one: the log end offset.
    pub next: StreamOffset,
}

/// The bounds on one read.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimit {
    /// Whole batches are returned up to this many bytes.
    pub bytes: usize,
    /// Batches are returned whose base offset is below this.
    pub before: StreamOffset,
    /// Whether the first batch is returned as a whole even if it is larger.
    pub at_least_one: bool,
}

/// The result of a read from the log cache.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Whole batches.
    pub batches: Vec<Bytes>,
    /// Whether the next batch is in the cache too, and only the byte limit kept it back.
    pub is_cut: bool,
}

/// The folded meaning of deltas (F2, F3).
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// The state after the last delta; empty if there is none.
    pub checkpoint: Bytes,
    /// The entries to keep beside the data, each with its last offset (an aborted transaction stands beside its
    /// marker).
    pub entries: Vec<Entry>,
    /// The first offset of the oldest transaction that is open after the last delta.
    pub open_from: Option<StreamOffset>,
}

/// An entry that is kept beside the data (F3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The offset of the marker that it stands beside.
    pub at: StreamOffset,
    /// The content, which is opaque here.
    pub body: Bytes,
}

/// Interprets deltas. `partition-log` implements it, as a pure function.
pub trait DeltaFold: Debug + Send + Sync + 'static {
    /// Folds deltas, each with the offsets of its batch, onto a checkpoint, which is empty if there is none. State that
    /// was last touched before a time is left out. Returns `None` if a delta or the checkpoint has an unknown version.
    /// Deterministic.
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
    /// The stream.
    pub id: StreamId,
    /// The leader epoch under which it is opened (E5).
    pub epoch: LeaderEpoch,
    /// Topic id and partition, by which objects describe themselves (I10); opaque here.
    pub label: Bytes,
    /// Whether clients of other streams wait for this one. Such a stream is opened before others, and none of them
    /// holds it up (F4).
    pub is_urgent: bool,
}

/// An open stream, and the data from which its state is rebuilt, read from indexes only (F4).
#[derive(Debug)]
pub struct OpenedStream {
    /// The stream.
    pub stream: Arc<dyn Stream>,
    /// The newest checkpoint, and the offset at which it stands.
    pub checkpoint: Option<(StreamOffset, Bytes)>,
    /// The deltas after the checkpoint.
    pub deltas: Vec<(StreamRange, Bytes)>,
    /// Every entry whose data is not trimmed.
    pub entries: Vec<Entry>,
    /// The rolls of the stream, oldest first (F6).
    pub rolls: Vec<Roll>,
    /// The last offsets that were lost with a log that was given up (D5). A read has to begin behind them, because the next
    /// batch may be in the log cache alone. Empty if none were.
    pub lost: StreamRange,
}

/// The result for one of the streams that were to be opened, with its index in the request.
pub type Opened = (usize, Result<OpenedStream, StreamError>);

/// The streams of a node.
pub trait StreamStore: Debug + Send + Sync + 'static {
    /// Opens streams, many in one metadata command. Each result comes when its stream is open, with its index in the
    /// request. At most as many openings as there are slots are under way at once, besides those that wait for an
    /// object store that does not answer (F4). Two openings of one stream must not overlap. A stream that is open is
    /// closed first, once everything appended to it is uploaded (C2), and its former handle then takes no append.
    fn open(&self, streams: Vec<OpenStream>, slots: &Arc<Semaphore>) -> BoxStream<'static, Opened>;
    /// Reserves room for a whole request (M1): see [`highwater_wal::WriteAheadLog::reserve`].
    fn reserve(
        &self,
        bytes: u64,
        share: Share,
    ) -> impl Future<Output = Result<AppendPermit, StreamError>> + Send;
}

/// One open stream.
#[async_trait]
pub trait Stream: Debug + Send + Sync + 'static {
    /// Appends a batch at `base`, which must be `bounds().next`; the caller holds the partition's lock. This never
    /// waits and never refuses (A1).
    ///
    /// # Panics
    /// When `base` is not next, or the stream was opened again since then.
    fn append(
        &self,
        permit: AppendPermit,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> AppendReceipt;
    /// Whole durable batches from the one that holds `from` on, if the log cache has them; contiguous batches are one
    /// slice. Returns `None` when objects have to be read, and no batches at the tail.
    fn fetch_cached(&self, from: StreamOffset, limit: FetchLimit) -> Option<Fetched>;
    /// Reads like [`Stream::fetch_cached`], but from objects too where necessary. A cold read continues if the caller
    /// is dropped.
    async fn fetch(&self, from: StreamOffset, limit: FetchLimit)
    -> Result<Vec<Bytes>, StreamError>;
    /// The base offset of the first batch that ends after `from` and whose largest timestamp is `at` or later.
    async fn offset_for_time(
        &self,
        from: StreamOffset,
        at: Timestamp,
    ) -> Result<Option<StreamOffset>, StreamError>;
    /// The largest timestamp in the stream, and the base offset of the first batch that has it.
    async fn max_timestamp(&self) -> Result<Option<(Timestamp, StreamOffset)>, StreamError>;
    /// Moves the start up. The move is durable in the metadata before this returns; unreferenced objects are deleted
    /// later.
    async fn trim(&self, start: StreamOffset) -> Result<(), StreamError>;
    /// Lets the next checkpoint leave out state last touched before a time; it then has about so many bytes (F5).
    fn forget_state(&self, before: Timestamp, left_bytes: usize);
    /// The rolls, oldest first. The last one is the active roll, which is kept as a whole even if all its records are
    /// deleted, until the stream rolls or is opened again. Every other roll is dropped with its last record.
    fn rolls(&self) -> Vec<Roll>;
    /// Whether the batches from an offset on have at least so many bytes, by the sizes of rolls. The work grows with those
    /// rolls alone.
    fn has_bytes(&self, from: StreamOffset, bytes: u64) -> bool {
        rolls::has_bytes(&self.rolls(), from, bytes)
    }
    /// Its bounds.
    fn bounds(&self) -> StreamBounds;
    /// Observes the bounds: it changes whenever `confirmed` or `start` does, and when the stream ends.
    fn watch_bounds(&self) -> tokio::sync::watch::Receiver<StreamBounds>;
}

/// A claim, by which the metadata records where a stream's data is (U4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The offsets that it accounts for; empty for a checkpoint that stands alone.
    pub range: StreamRange,
    /// The object with the records, or `None` for a range without records.
    pub object: Option<ObjectId>,
    /// The blocks of the stream in that object, as a range of bytes. If it is an index object, they lie in WAL objects,
    /// and the range begins at 0 and is as long as they are (W9).
    pub part: Range<u64>,
    /// The largest timestamp in it, or -1.
    pub max_timestamp: Timestamp,
    /// The claim's parts of rolls, in order (F6). They are reported with the commit: the metadata adds them to the
    /// stream's rolls, and the claims that it returns have none.
    pub rolls: Vec<RollPart>,
    /// The first offset of the oldest transaction open at the claim's end (F3).
    pub open_from: Option<StreamOffset>,
    /// The bytes of the checkpoint at `range.end`, if there is one (F2). An empty checkpoint is in no object.
    pub checkpoint_bytes: Option<u64>,
    /// The leader epoch of its batches; a claim never covers two leaderships (C2).
    pub leader_epoch: LeaderEpoch,
}

/// The data from which a stream is opened, beside its bounds (F4). Its size grows with the claims after the checkpoint
/// and with the rolls, but not with all claims.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The newest claim whose object has a checkpoint (F5).
    pub checkpoint: Option<Claim>,
    /// The claims after that one, in order.
    pub claims: Vec<Claim>,
    /// The rolls of the stream, oldest first (F6).
    pub rolls: Vec<Roll>,
    /// The last offsets that were lost with a log that was given up (D5). Empty if none were.
    pub lost: StreamRange,
}

/// The commit of one uploaded object (U3).
#[derive(Debug, Clone)]
pub struct ObjectCommit {
    /// The node epoch that uploads. The commit is refused if it is not open (E6), or, in a recovery, is not this
    /// node's.
    pub epoch: NodeEpoch,
    /// The object.
    pub object: ObjectId,
    /// The object's size in bytes.
    pub object_bytes: u64,
    /// Its claims, one for each stream.
    pub claims: Vec<(StreamId, Claim)>,
    /// The WAL position below which nothing is needed any more.
    pub floor: WalPosition,
    /// The lowest upload number still in flight (U5).
    pub lowest_in_flight: u64,
    /// The position up to which the WAL is confirmed (D2).
    pub confirmed: WalPosition,
    /// Whether the batches are those of a former epoch of this node, read back from its WAL.
    pub recovering: bool,
    /// The streams that are closed, so that other nodes may open them: all their claims are in this commit and in earlier
    /// ones (C2).
    pub handed_over: Vec<HandedOver>,
}

/// A stream that is closed for a planned move (C1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// The stream.
    pub stream: StreamId,
    /// The leader epoch under which it was open.
    pub epoch: LeaderEpoch,
    /// The offset after the last batch that was ever appended under it.
    pub end: StreamOffset,
}

/// The answer to a commit.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// The streams whose claims were dropped as a whole, because the stream is deleted or no longer held.
    pub dropped: Vec<StreamId>,
    /// The index of the commit in the metadata's log, for [`StreamMetadata::seen`].
    pub at: LogIndex,
}

/// The port to the metadata, implemented by the broker on `kraft-meta`.
#[async_trait]
pub trait StreamMetadata: Debug + Send + Sync + 'static {
    /// Opens streams under their leader epochs in one command; returns the start and committed end of each, in order.
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError>;
    /// Commits an upload, stream by stream (U3). A repeat gets the first answer.
    async fn commit(&self, commit: ObjectCommit) -> Result<Committed, StreamError>;
    /// Waits until this node's own image includes that index (U6).
    async fn seen(&self, at: LogIndex) -> Result<(), StreamError>;
    /// The first claims that overlap a range, at most `max` of them, in offset order, from this node's own image.
    async fn locate(
        &self,
        id: StreamId,
        range: StreamRange,
        max: usize,
    ) -> Result<Vec<Claim>, StreamError>;
    /// The first claim in offset order that overlaps a range and whose largest timestamp is `at` or later.
    async fn locate_time(
        &self,
        id: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<Claim>, StreamError>;
    /// The data from which a stream is opened, from the image (F4); empty for a stream that does not exist.
    async fn recorded(&self, id: StreamId) -> Result<Recorded, StreamError>;
    /// Moves up the start of a stream that this node epoch holds under a leader epoch, and condemns objects that become
    /// unreferenced (U4, G1). Idempotent.
    async fn trim(
        &self,
        id: StreamId,
        epoch: LeaderEpoch,
        start: StreamOffset,
    ) -> Result<(), StreamError>;
    /// Topic id and partition of a stream, by which objects describe themselves (I10); empty if the stream does not
    /// exist.
    async fn label(&self, id: StreamId) -> Result<Bytes, StreamError>;
    /// The leader epochs of a stream, each with its first offset, oldest first (E5); empty if the stream does not
    /// exist.
    async fn leader_epochs(
        &self,
        id: StreamId,
    ) -> Result<Vec<(LeaderEpoch, StreamOffset)>, StreamError>;
}
