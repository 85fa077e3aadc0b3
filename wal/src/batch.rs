//! A batch on its way into the log, and out of it.

use bytes::Bytes;
use highwater_runtime::BytePermit;
use highwater_types::{LeaderEpoch, StreamId, StreamOffset, Timestamp, WalPosition};

/// Bytes of a batch that the broker writes itself: base offset, length and leader epoch, which Kafka's CRC does not
/// cover.
pub const HEAD_BYTES: usize = 16;

/// One record batch on its way into the log. The WAL copies `head` and `tail`, once.
#[derive(Debug, Clone)]
pub struct StreamBatch {
    /// The number of its offsets: last offset delta + 1, at least 1.
    pub count: u32,
    /// Its largest timestamp, or -1.
    pub max_timestamp: Timestamp,
    /// The first bytes as stored.
    pub head: [u8; HEAD_BYTES],
    /// The rest, as the client sent it.
    pub tail: Bytes,
    /// The CRC-32 (IEEE) of `tail`, computed when the batch was validated. The checksums of the log and of the objects
    /// are derived from it, so they reveal memory that changes in between.
    pub tail_crc: u32,
    /// The delta that the layer above folds into its state (F1); opaque, at most 64 bytes.
    pub delta: Bytes,
    /// Whether the stream rolls before this batch (F6).
    pub roll: bool,
    /// The broker's clock at the append. Its roll uses it if the records have no timestamps (F6).
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
    /// The number of its offsets.
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
    /// The WAL position just after it. A trim to this position releases it.
    pub end: WalPosition,
    /// The memory that was reserved for it (M1), held until the batch is dropped; empty on recovery.
    pub memory: BytePermit,
}
