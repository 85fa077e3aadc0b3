//! Errors of streams.

use highwater_object_storage::StorageError;
use highwater_types::{StreamId, StreamOffset};
use highwater_wal::WalError;

/// Why a stream refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Below the start or above the end. The caller's fault.
    #[error("offset out of range stream_id={stream} offset={offset}")]
    OutOfRange {
        /// The stream.
        stream: StreamId,
        /// What was asked for.
        offset: StreamOffset,
    },
    /// The metadata refused: no such stream, another epoch holds it, the node's epoch is fenced. The caller looks again.
    #[error("not held by this node epoch stream_id={stream} reason={reason}")]
    NotHeld {
        /// The stream.
        stream: StreamId,
        /// The rejection.
        reason: String,
    },
    /// The metadata or the image is behind or away; outcome unknown. Retry (U6).
    #[error("metadata unavailable reason={reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The WAL refused. See there.
    #[error("the write-ahead log refused: {0}")]
    Wal(#[source] WalError),
    /// The store failed. Retry.
    #[error("object storage failed: {0}")]
    Storage(#[source] StorageError),
    /// An object that the metadata names is damaged or lacks what the claim says (I9). Fatal for the range.
    #[error("damaged object object_key={key} reason={reason}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong.
        reason: String,
    },
}
