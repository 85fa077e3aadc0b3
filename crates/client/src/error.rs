//! The errors between a client and a broker.

use std::io;

use highwater_protocol::{ApiKey, DecodeError, EncodeError};

/// The reason why a call has no answer. After any of these except [`Error::Refused`], [`Error::Version`] and
/// [`Error::Encode`] the connection can't be used any more, and the outcome of requests without an answer is unknown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection could not be opened, or broke.
    #[error("connection failed")]
    Connection(#[from] io::Error),
    /// The broker closed the connection instead of answering.
    #[error("connection is closed by the broker")]
    Closed,
    /// Connecting, sending or waiting for an answer took longer than [`crate::Options::timeout`].
    #[error("broker does not answer in time")]
    Late,
    /// An earlier request was sent only in part, because its caller gave up waiting or sending failed.
    #[error("an earlier request was sent in part")]
    Torn,
    /// A text or a list of the request is too long for its field; nothing was sent.
    #[error("request cannot be encoded")]
    Encode(#[from] EncodeError),
    /// The answer is longer than [`crate::Options::answer_bytes_max`] allows, or its length is invalid.
    #[error("answer has a length out of bounds bytes={0}")]
    Length(i32),
    /// The answer does not follow the schema.
    #[error("answer cannot be read")]
    Decode(#[from] DecodeError),
    /// The answer belongs to another request.
    #[error("answer is to another request correlation_id={found} expected={expected}")]
    Order {
        /// The correlation id of the request whose answer is next.
        expected: i32,
        /// The correlation id in the answer.
        found: i32,
    },
    /// The broker serves no version of this API that the caller can use.
    #[error("broker serves no usable version api={}", .0.name())]
    Version(ApiKey),
    /// The answer has an error code of Kafka's.
    #[error("broker refuses api={} code={code}", .api.name())]
    Refused {
        /// The API that was called.
        api: ApiKey,
        /// Kafka's error code.
        code: i16,
    },
    /// The answer lacks a requested part, such as the one partition of a produce request.
    #[error("answer lacks what was asked for api={}", .0.name())]
    Incomplete(ApiKey),
}
