//! Errors of streams.

use highwater_object_storage::StorageError;
use highwater_types::{NodeEpoch, StreamId, StreamOffset};
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
    /// The metadata refused: no such stream, or another leader epoch holds it. For one of many streams the caller looks
    /// again; a commit that is refused so is of metadata that lost its end (D2), and is fatal.
    #[error("not held by this node epoch stream_id={stream} reason={reason}")]
    NotHeld {
        /// The stream.
        stream: StreamId,
        /// The rejection.
        reason: String,
    },
    /// The metadata refused: the node epoch is not open any more (E6). Fatal for the node epoch.
    #[error("node epoch is not open node_epoch={epoch}")]
    Fenced {
        /// The epoch.
        epoch: NodeEpoch,
    },
    /// The metadata refused a commit: records before a claim are missing (U3). Fatal for the node epoch.
    #[error("claim leaves a gap stream_id={stream} committed_end={committed} offset={first}")]
    Gap {
        /// The stream.
        stream: StreamId,
        /// Where the claim had to begin.
        committed: StreamOffset,
        /// Where it begins.
        first: StreamOffset,
    },
    /// The metadata refused a command that no state of it can take, or that it has passed: the same again is refused
    /// again. Fatal for the node epoch.
    #[error("the metadata does not understand reason={reason}")]
    NotUnderstood {
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
