//! Errors of streams.

use highwater_object_storage::StorageError;
use highwater_types::{NodeEpoch, StreamId, StreamOffset};
use highwater_wal::WalError;

/// The reason why a stream refused a call or failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The offset lies below the start or above the end. The caller is at fault.
    #[error("offset out of range stream_id={stream} offset={offset}")]
    OutOfRange {
        /// The stream.
        stream: StreamId,
        /// The offset.
        offset: StreamOffset,
    },
    /// The metadata refused the stream: it does not exist, or another leader epoch holds it. When opening one of many
    /// streams, look again later. When a commit is refused so, the metadata has lost its end (D2), which is fatal.
    #[error("not held by this node epoch stream_id={stream} reason={reason}")]
    NotHeld {
        /// The stream.
        stream: StreamId,
        /// The rejection.
        reason: String,
    },
    /// The metadata refused the command, because the node epoch is not open any more (E6). This is fatal for the node
    /// epoch.
    #[error("node epoch is not open node_epoch={epoch}")]
    Fenced {
        /// The node epoch.
        epoch: NodeEpoch,
    },
    /// The metadata refused a commit, because records before a claim are missing (U3). This is fatal for the node
    /// epoch.
    #[error("claim leaves a gap stream_id={stream} committed_end={committed} offset={first}")]
    Gap {
        /// The stream.
        stream: StreamId,
        /// The committed end, where the claim had to begin.
        committed: StreamOffset,
        /// The offset at which the claim begins.
        first: StreamOffset,
    },
    /// The metadata refused a command that no state accepts, or that comes too late: a repeat would be refused again.
    /// This is fatal for the node epoch.
    #[error("the metadata does not understand reason={reason}")]
    NotUnderstood {
        /// The rejection.
        reason: String,
    },
    /// The metadata can't be reached, or the image lags behind; the outcome is unknown. Retry (U6).
    #[error("metadata unavailable reason={reason}")]
    Unavailable {
        /// The reason.
        reason: String,
    },
    /// The WAL refused; see its error.
    #[error("the write-ahead log refused: {0}")]
    Wal(#[source] WalError),
    /// The object store failed. Retry.
    #[error("object storage failed: {0}")]
    Storage(#[source] StorageError),
    /// An object that the metadata names is damaged, or lacks records of its claim (I9). This is fatal for the range.
    #[error("damaged object object_key={key} reason={reason}")]
    Damaged {
        /// The object's key.
        key: String,
        /// The damage.
        reason: String,
    },
}
