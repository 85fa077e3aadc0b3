//! Maps our errors to Kafka's error codes. No other place knows both.

use highwater_kraft_meta::{MetadataStore, ProposeError, Rejection, VotersError};
use highwater_partition_log::{AppendError, ReadError};
use highwater_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use highwater_protocol::{ErrorCode, StrBytes, text_that_fits};
use highwater_s3stream::StreamError;

/// The message of INVALID_REQUEST in Kafka's `Errors`.
pub(crate) const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or \
    the message was sent to an incompatible broker. See the broker logs for more details.";

/// A refusal, as a response reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// The message for people.
    pub message: Option<String>,
    /// The bad records, by their index in the batch (KIP-467).
    pub records: Vec<(i32, String)>,
}

impl Refusal {
    /// A refusal with a message.
    #[must_use]
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
            records: Vec::new(),
        }
    }

    /// The message as a field of a response. It may quote long texts, so it is cut to fit.
    #[must_use]
    pub(crate) fn text(&self) -> Option<StrBytes> {
        self.message.as_deref().map(text_that_fits)
    }

    /// The bad records as a field of a response.
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

/// The refusal of a change of the voters, as in Kafka's `AddVoterHandler` and `RemoveVoterHandler`.
pub(crate) fn from_voters(error: &VotersError) -> Refusal {
    let code = match error {
        VotersError::Duplicate(_) => ErrorCode::DuplicateVoter,
        VotersError::NotFound(_) => ErrorCode::VoterNotFound,
        VotersError::Invalid(_) => ErrorCode::InvalidRequest,
        VotersError::Unavailable(_) => ErrorCode::RequestTimedOut,
    };
    Refusal::new(code, error.to_string())
}

/// Refuses a request that names another cluster.
pub(crate) fn check_cluster(
    metadata: &dyn MetadataStore,
    named: Option<&str>,
) -> Result<(), Refusal> {
    let own = metadata.image().cluster().to_string();
    match named {
        Some(named) if named != own => Err(Refusal::new(
            ErrorCode::InconsistentClusterId,
            format!("The given id \"{named}\" doesn't match the cluster id \"{own}\""),
        )),
        _ => Ok(()),
    }
}

/// The refusal of an append.
pub(crate) fn from_append(error: &AppendError) -> Refusal {
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
        AppendError::HandingOver => (ErrorCode::NotLeaderOrFollower, Vec::new()),
    };
    // As Kafka, with a message only if single records are bad (KIP-467) or nothing can be read; otherwise clients have
    // their own texts.
    let in_words = !records.is_empty() || matches!(error, AppendError::Unreadable(_));
    let message = in_words.then(|| error.to_string());
    Refusal {
        code,
        message,
        records,
    }
}

/// The refusal of a read.
pub(crate) fn from_read(error: &ReadError) -> Refusal {
    match error {
        ReadError::OutOfRange { .. } => {
            Refusal::new(ErrorCode::OffsetOutOfRange, error.to_string())
        }
        ReadError::NotDeletable => Refusal::new(ErrorCode::PolicyViolation, error.to_string()),
        ReadError::Corrupt(_) => Refusal::new(ErrorCode::CorruptMessage, error.to_string()),
        ReadError::Stream(StreamError::OutOfRange { .. }) => ErrorCode::OffsetOutOfRange.into(),
        ReadError::Stream(stream) => from_stream(stream),
        ReadError::NeedsObjects => ErrorCode::KafkaStorageError.into(),
    }
}

/// The refusal of an operation on a stream.
pub(crate) fn from_stream(error: &StreamError) -> Refusal {
    let code = match error {
        StreamError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        StreamError::NotHeld { .. } | StreamError::Fenced { .. } | StreamError::Gap { .. } => {
            ErrorCode::NotLeaderOrFollower
        }
        StreamError::NotUnderstood { .. } => ErrorCode::UnknownServerError,
        StreamError::Wal(highwater_wal::WalError::TooLarge(_)) => ErrorCode::MessageTooLarge,
        StreamError::Wal(
            highwater_wal::WalError::Ended
            | highwater_wal::WalError::Fenced { .. }
            | highwater_wal::WalError::Late { .. },
        ) => ErrorCode::NotLeaderOrFollower,
        StreamError::Damaged { .. } => ErrorCode::CorruptMessage,
        StreamError::Unavailable { .. } | StreamError::Wal(_) | StreamError::Storage(_) => {
            ErrorCode::KafkaStorageError
        }
    };
    // A lack of room is logged once, where it begins (D3).
    let is_said = matches!(error, StreamError::Wal(highwater_wal::WalError::Full));
    let is_ours = code == ErrorCode::CorruptMessage || code == ErrorCode::KafkaStorageError;
    if is_ours && !is_said {
        tracing::warn!(%error, "stream cannot be read or written");
    }
    Refusal::new(code, error.to_string())
}

/// The refusal of a change of the metadata.
pub(crate) fn from_proposal(error: &ProposeError) -> Refusal {
    match error {
        ProposeError::Unavailable(_) => Refusal::new(ErrorCode::RequestTimedOut, error.to_string()),
        ProposeError::TooLarge(_) => Refusal::new(ErrorCode::PolicyViolation, error.to_string()),
        ProposeError::Rejected(rejection) => from_rejection(rejection),
    }
}

/// The refusal of a command, or of a part of it.
pub(crate) fn from_rejection(rejection: &Rejection) -> Refusal {
    let code = match rejection {
        Rejection::TopicExists => ErrorCode::TopicAlreadyExists,
        Rejection::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        Rejection::UnknownStream(_)
        | Rejection::Fenced(_)
        | Rejection::Unclosed(_)
        | Rejection::InSession(_)
        | Rejection::NotHeld { .. }
        | Rejection::Gap { .. } => ErrorCode::NotLeaderOrFollower,
        Rejection::UnknownNode(_) => ErrorCode::BrokerIdNotRegistered,
        Rejection::Changed => ErrorCode::RequestTimedOut,
        Rejection::OlderNode { .. } => ErrorCode::InvalidUpdateVersion,
        Rejection::IdOfController(_)
        | Rejection::OldProgram(_)
        | Rejection::OtherDirectory { .. }
        | Rejection::NotUnderstood => ErrorCode::UnknownServerError,
    };
    Refusal::new(code, rejection.to_string())
}
