//! Why a log refuses a request: one variant for each of Kafka's outcomes.

use highwater_protocol::records::{BatchError, RecordError};
use highwater_s3stream::StreamError;

/// Why a batch is refused. The log has not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A control batch of a client, or a record count that contradicts the offsets: `INVALID_RECORD`.
    #[error("{reason}")]
    InvalidRecord {
        /// What is wrong, for people.
        reason: String,
        /// Each invalid record's index in the batch, and what is wrong with it.
        records: Vec<(i32, String)>,
    },
    /// The records are not exactly one whole batch: `INVALID_RECORD`.
    #[error("a produce request must have exactly one record batch for each partition")]
    NotOneBatch,
    /// Timestamps are out of bounds: `INVALID_TIMESTAMP`.
    #[error("{reason}")]
    InvalidTimestamp {
        /// What is wrong, for people.
        reason: String,
        /// Each invalid record's index in the batch, and what is wrong with it.
        records: Vec<(i32, String)>,
    },
    /// The checksum is wrong, or the records can't be decompressed: `CORRUPT_MESSAGE`.
    #[error("{0}")]
    Corrupt(String),
    /// A length or a magic byte that no batch has: `CORRUPT_MESSAGE`. The text is Kafka's.
    #[error("{0}")]
    Unreadable(String),
    /// A record format before v2: `INVALID_RECORD`, as in Kafka's `ProduceRequest.validateRecords`.
    #[error("record formats v0 and v1 are no longer supported (KIP-724)")]
    OldFormat,
    /// Zstandard in a produce request below version 7: `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error("zstd compression needs Produce version 7 or higher")]
    ZstdTooEarly,
    /// The batch is larger than `max.message.bytes`: `MESSAGE_TOO_LARGE`.
    #[error("the batch has {bytes} bytes, which is more than max.message.bytes={limit}")]
    TooLarge {
        /// The size of the batch.
        bytes: usize,
        /// The limit.
        limit: i64,
    },
    /// The batch is larger than `segment.bytes`: `RECORD_LIST_TOO_LARGE`.
    #[error("the batch has {bytes} bytes, which is more than segment.bytes={limit}")]
    OverSegment {
        /// The size of the batch.
        bytes: usize,
        /// The limit.
        limit: i64,
    },
    /// The sequence neither follows the producer's last one nor repeats a known batch:
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("out of order sequence number {sequence} of producer {producer}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer id.
        producer: i64,
        /// The batch's first sequence.
        sequence: i32,
        /// The sequence that would have followed.
        expected: i32,
    },
    /// The producer epoch is older than the known one: `INVALID_PRODUCER_EPOCH`.
    #[error("epoch {epoch} of producer {producer} is older than its current epoch {held}")]
    OldProducerEpoch {
        /// The producer id.
        producer: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The known epoch.
        held: i16,
    },
    /// The partition is being handed over to another broker (C1): `NOT_LEADER_OR_FOLLOWER`.
    #[error("the partition is being handed over to another broker")]
    HandingOver,
    /// A transactional batch: `INVALID_TXN_STATE`. Transactions are not supported yet.
    #[error("transactions are not supported by this version")]
    Transactional,
}

impl AppendError {
    /// The refusal of a batch that is wrong as a whole.
    pub(crate) fn invalid(reason: &str) -> Self {
        Self::InvalidRecord {
            reason: reason.to_owned(),
            records: Vec::new(),
        }
    }

    /// Records that can't be decompressed are corrupt; records that decompress to something malformed are invalid.
    pub(crate) fn from_records(error: &RecordError) -> Self {
        match error {
            RecordError::Malformed(_) => Self::invalid(&error.to_string()),
            RecordError::Batch(error) => Self::from_batch(error),
            RecordError::Compression(error) => Self::Corrupt(error.to_string()),
        }
    }

    /// The refusal of bytes that are no batch.
    pub(crate) fn from_batch(error: &BatchError) -> Self {
        match error {
            BatchError::Magic(0 | 1) => Self::OldFormat,
            BatchError::Magic(magic) => {
                Self::Unreadable(format!("Invalid magic found in record: {magic}"))
            }
            BatchError::Length(length) => Self::Unreadable(format!(
                "Record size {length} is less than the minimum record overhead (14)"
            )),
            BatchError::Truncated(_) => Self::NotOneBatch,
            BatchError::Crc { .. } | BatchError::Codec(_) => Self::Corrupt(error.to_string()),
        }
    }
}

/// The reason why a read is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log start or above the log end: `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is out of range")]
    OutOfRange {
        /// The requested offset.
        offset: i64,
    },
    /// The records are not in memory: the caller repeats the read as a cold one.
    #[error("the read needs objects")]
    NeedsObjects,
    /// `cleanup.policy` has no `delete`: `POLICY_VIOLATION`.
    #[error("records can be deleted only if cleanup.policy includes delete")]
    NotDeletable,
    /// The stream could not be read or trimmed: `KAFKA_STORAGE_ERROR`, which clients retry.
    #[error("the stream cannot be read")]
    Stream(#[source] StreamError),
    /// Stored records can't be decoded (I9): `CORRUPT_MESSAGE`.
    #[error("stored records cannot be read: {0}")]
    Corrupt(String),
}
