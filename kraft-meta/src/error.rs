//! Errors of the metadata.

use crate::command::Rejection;

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state machine refused it: nothing changed.
    #[error("command is refused")]
    Rejected(#[source] Rejection),
    /// No leader, or the answer is lost: outcome unknown. Retry where the command may be repeated.
    #[error("metadata is unavailable reason={0}")]
    Unavailable(String),
}

/// Why the metadata can't be opened. Fatal: the start refuses.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its files can't be read or written, or are damaged.
    #[error("metadata cannot be opened")]
    Log(#[source] highwater_disk_log::LogError),
    /// A file can't be read or written.
    #[error("metadata cannot be opened path={path}")]
    Io {
        /// The file.
        path: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// The snapshot can't be used.
    #[error("metadata cannot be opened path={path}")]
    Snapshot {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: crate::SnapshotError,
    },
    /// What was durable is gone: a file was lost, or is an older copy (D2).
    #[error("metadata lacks what was durable path={path} reason={reason}")]
    Lost {
        /// The file or directory.
        path: String,
        /// What is missing.
        reason: &'static str,
    },
    /// It is of another release's format.
    #[error(
        "the metadata in {path} has format {found}, and this release reads format {expected} alone: start with the \
         release that wrote it, or with an empty data directory and an empty object store"
    )]
    OtherFormat {
        /// Its directory.
        path: String,
        /// The format it has.
        found: String,
        /// The format that is read.
        expected: &'static str,
    },
    /// It is another node's.
    #[error("the metadata in {path} belongs to node.id={voters}, not to node.id={node}")]
    OtherNode {
        /// Its directory.
        path: String,
        /// The node that asks.
        node: highwater_types::NodeId,
        /// The nodes it belongs to.
        voters: String,
    },
    /// The consensus does not start.
    #[error("consensus cannot start reason={0}")]
    Raft(String),
}
