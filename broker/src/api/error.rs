//! From our errors to Kafka's: the only place that knows both.

use highwater_kraft_meta::{ProposeError, Rejection};
use highwater_partition_log::{AppendError, ReadError};
use highwater_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use highwater_protocol::{ErrorCode, StrBytes, text_that_fits};
use highwater_s3stream::StreamError;

/// What Kafka's `Errors` says of INVALID_REQUEST.
pub(crate) const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or \
    the message was sent to an incompatible broker. See the broker logs for more details.";

/// Why something is refused, as an answer says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For people.
    pub message: Option<String>,
    /// Bad records by their place in the batch (KIP-467).
    pub records: Vec<(i32, String)>,
}

impl Refusal {
    /// A refusal that says why.
    #[must_use]
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
            records: Vec::new(),
        }
    }

    /// The message as an answer's field: what it quotes may make it too long, so it is cut to fit.
    #[must_use]
    pub(crate) fn text(&self) -> Option<StrBytes> {
        self.message.as_deref().map(text_that_fits)
    }

    /// The bad records as an answer's field.
    #[must_use]
    pub(crate) fn record_errors(&self) -> Vec<BatchIndexAndErrorMessage> {
        let one = |(index, message): &(i32, String)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(text_that_fits(message.as_str())),
        };
        self.records.iter().map(one).collect()
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            records: Vec::new(),
        }
    }
}

/// Of an append.
pub(crate) fn of_append(error: &AppendError) -> Refusal {
    let (code, records) = match error {
        AppendError::InvalidRecord { records, .. } => (ErrorCode::InvalidRecord, records.clone()),
        AppendError::InvalidTimestamp { records, .. } => {
            (ErrorCode::InvalidTimestamp, records.clone())
        }
        AppendError::Corrupt(_) | AppendError::Unreadable(_) => {
            (ErrorCode::CorruptMessage, Vec::new())
        }
        AppendError::NotOneBatch | AppendError::OldFormat => (ErrorCode::InvalidRecord, Vec::new()),
        AppendError::ZstdTooEarly => (ErrorCode::UnsupportedCompressionType, Vec::new()),
        AppendError::TooLarge { .. } => (ErrorCode::MessageTooLarge, Vec::new()),
        AppendError::OverSegment { .. } => (ErrorCode::RecordListTooLarge, Vec::new()),
        AppendError::OutOfOrderSequence { .. } => (ErrorCode::OutOfOrderSequenceNumber, Vec::new()),
        AppendError::OldProducerEpoch { .. } => (ErrorCode::InvalidProducerEpoch, Vec::new()),
        AppendError::Transactional => (ErrorCode::InvalidTxnState, Vec::new()),
    };
    // as Kafka: in words only where single records are bad (KIP-467) or nothing can be read; else a client has its own
    let in_words = !records.is_empty() || matches!(error, AppendError::Unreadable(_));
    let message = in_words.then(|| error.to_string());
    Refusal {
        code,
        message,
        records,
    }
}

/// Of a read.
pub(crate) fn of_read(error: &ReadError) -> Refusal {
    match error {
        ReadError::OutOfRange { .. } => {
            Refusal::new(ErrorCode::OffsetOutOfRange, error.to_string())
        }
        ReadError::NotDeletable => Refusal::new(ErrorCode::PolicyViolation, error.to_string()),
        ReadError::Corrupt(_) => Refusal::new(ErrorCode::CorruptMessage, error.to_string()),
        ReadError::Stream(StreamError::OutOfRange { .. }) => ErrorCode::OffsetOutOfRange.into(),
        ReadError::Stream(stream) => of_stream(stream),
        ReadError::NeedsObjects => ErrorCode::KafkaStorageError.into(),
    }
}

/// Of a stream.
pub(crate) fn of_stream(error: &StreamError) -> Refusal {
    let code = match error {
        StreamError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        StreamError::NotHeld { .. } | StreamError::Fenced { .. } | StreamError::Gap { .. } => {
            ErrorCode::NotLeaderOrFollower
        }
        StreamError::NotUnderstood { .. } => ErrorCode::UnknownServerError,
        StreamError::Wal(highwater_wal::WalError::TooLarge(_)) => ErrorCode::MessageTooLarge,
        StreamError::Wal(highwater_wal::WalError::Ended) => ErrorCode::NotLeaderOrFollower,
        StreamError::Damaged { .. } => ErrorCode::CorruptMessage,
        StreamError::Unavailable { .. } | StreamError::Wal(_) | StreamError::Storage(_) => {
            ErrorCode::KafkaStorageError
        }
    };
    // that there is no room is said once, where it begins (D3)
    let is_said = matches!(error, StreamError::Wal(highwater_wal::WalError::Full));
    let is_ours = code == ErrorCode::CorruptMessage || code == ErrorCode::KafkaStorageError;
    if is_ours && !is_said {
        tracing::warn!(%error, "a stream cannot be read or written");
    }
    Refusal::new(code, error.to_string())
}

/// Of a proposal.
pub(crate) fn of_propose(error: &ProposeError) -> Refusal {
    match error {
        ProposeError::Unavailable(_) => Refusal::new(ErrorCode::RequestTimedOut, error.to_string()),
        ProposeError::Rejected(rejection) => {
            let code = match rejection {
                Rejection::TopicExists => ErrorCode::TopicAlreadyExists,
                Rejection::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
                Rejection::UnknownStream(_)
                | Rejection::Fenced(_)
                | Rejection::Unclosed(_)
                | Rejection::NotHeld { .. }
                | Rejection::Gap { .. } => ErrorCode::NotLeaderOrFollower,
                Rejection::Changed => ErrorCode::RequestTimedOut,
                Rejection::NotUnderstood => ErrorCode::UnknownServerError,
            };
            Refusal::new(code, rejection.to_string())
        }
    }
}
