//! Errors of the WAL.

use highwater_runtime::TooLarge;

/// Why the WAL refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The request can never fit. The caller's fault.
    #[error("larger than the log can ever take")]
    TooLarge(#[source] TooLarge),
    /// There is no room: the disk is full, and so are ring and memory (D3). Retry later.
    #[error("no room in the write-ahead log")]
    Full,
    /// The epoch ended: closed, fenced, or an fsync failed. Fatal for this incarnation.
    #[error("the write-ahead log has ended")]
    Ended,
    /// The node epoch was fenced: another process has a key of it, usually its seal (W3, W7), or the metadata says so.
    /// Fatal for this epoch; the node may start again as a new one (W11).
    #[error("the node epoch of the write-ahead log was fenced reason={reason}")]
    Fenced {
        /// How this was learnt.
        reason: String,
    },
    /// The log was shut down, and what was appended did not become durable in time. None of that was acknowledged; what
    /// the log has of it is found when its epoch is sealed. Fatal for this incarnation.
    #[error("the write-ahead log was shut down before all of it was durable")]
    Late {
        /// Whether a thread may still write to the files of the log. Nothing else may open them before the process ends.
        is_writing: bool,
    },
    /// The log can't be trusted (D1, D2). Fatal: the start is refused.
    #[error("the write-ahead log is damaged reason={reason} path={path}")]
    Damaged {
        /// What is wrong.
        reason: String,
        /// Where.
        path: String,
    },
    /// The object store has answered nothing useful for as long as a start waits (D3). A later start may succeed.
    #[error(
        "the object store does not give access to the write-ahead log reason={reason} path={path}"
    )]
    Unavailable {
        /// The last failure.
        reason: String,
        /// The object, or the prefix of objects.
        path: String,
    },
    /// The machine's answer. Fatal.
    #[error("the write-ahead log cannot be read or written path={path}")]
    Io {
        /// The file or directory.
        path: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
}
