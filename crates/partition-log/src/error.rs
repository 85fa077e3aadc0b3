//! Why a log refuses; one variant for each of Kafka's outcomes.

use highwater_s3stream::StreamError;

/// Why a batch is refused. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A control batch, a count that is no count: Kafka's `INVALID_RECORD`.
    #[error("{reason}")]
    InvalidRecord {
        /// For people.
        reason: String,
        /// Each bad record by its place in the batch, and why.
        records: Vec<(i32, String)>,
    },
    /// Not exactly one whole batch: `INVALID_RECORD`.
    #[error("a produce request holds exactly one record batch for each partition")]
    NotOneBatch,
    /// Timestamps out of bounds: `INVALID_TIMESTAMP`.
    #[error("{reason}")]
    InvalidTimestamp {
        /// For people.
        reason: String,
        /// Each bad record by its place in the batch, and why.
        records: Vec<(i32, String)>,
    },
    /// The checksum or the compressed records are wrong: `CORRUPT_MESSAGE`.
    #[error("{0}")]
    Corrupt(String),
    /// A length or a format that cannot be: `CORRUPT_MESSAGE`, in Kafka's words.
    #[error("{0}")]
    Unreadable(String),
    /// An old format: `INVALID_RECORD`, as `ProduceRequest.validateRecords` says.
    #[error("record format v0 and v1 are not accepted any more (KIP-724)")]
    OldFormat,
    /// Zstandard below produce version 7: `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error("zstd needs produce version 7")]
    ZstdTooEarly,
    /// Over `max.message.bytes`: `MESSAGE_TOO_LARGE`.
    #[error("the batch has {bytes} bytes, and max.message.bytes is {limit}")]
    TooLarge {
        /// The batch.
        bytes: usize,
        /// The limit.
        limit: i64,
    },
    /// Over `segment.bytes`: `RECORD_LIST_TOO_LARGE`.
    #[error("the batch has {bytes} bytes, and segment.bytes is {limit}")]
    OverSegment {
        /// The batch.
        bytes: usize,
        /// The limit.
        limit: i64,
    },
    /// A gap or a repeat that is none: `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("out of order sequence number {sequence} of producer {producer}, {expected} is next")]
    OutOfOrderSequence {
        /// The producer.
        producer: i64,
        /// What it sent.
        sequence: i32,
        /// What was expected.
        expected: i32,
    },
    /// An older producer epoch: `INVALID_PRODUCER_EPOCH`.
    #[error("producer {producer} has epoch {held}, not {epoch}")]
    OldProducerEpoch {
        /// The producer.
        producer: i64,
        /// What it sent.
        epoch: i16,
        /// What is known.
        held: i16,
    },
    /// A transactional batch: `INVALID_TXN_STATE`; transactions are not served yet.
    #[error("transactions are not served by this version")]
    Transactional,
}

/// Why a read is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Below the start or above the end: `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is out of range")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
    },
    /// It is not in memory: ask again with a cold read.
    #[error("objects are needed")]
    NeedsObjects,
    /// `cleanup.policy` has no `delete`: `POLICY_VIOLATION`.
    #[error("records are deleted only where cleanup.policy has delete")]
    NotDeletable,
    /// The stream's error: retriable, `KAFKA_STORAGE_ERROR`.
    #[error("the stream cannot be read")]
    Stream(#[source] StreamError),
    /// What is stored can't be read (I9): `CORRUPT_MESSAGE`.
    #[error("stored records cannot be read: {0}")]
    Corrupt(String),
}
