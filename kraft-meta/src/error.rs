//! Errors of the metadata.

use crate::command::Rejection;

/// The reason why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state machine refused the command: nothing has changed.
    #[error("command is refused")]
    Rejected(#[source] Rejection),
    /// The command is larger than [`COMMAND_BYTES_MAX`](crate::COMMAND_BYTES_MAX): nothing has changed.
    #[error("command is too large bytes={0} max={max}", max = crate::COMMAND_BYTES_MAX)]
    TooLarge(usize),
    /// There is no leader, or the answer is lost: the outcome is unknown. Retry only a command that may be repeated.
    #[error("metadata is unavailable reason={0}")]
    Unavailable(String),
}

/// The reason why the metadata can't be opened. It is fatal: the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log's files can't be read or written, or are damaged.
    #[error("metadata cannot be opened")]
    Log(#[source] highwater_disk_log::LogError),
    /// A file can't be read or written.
    #[error("metadata cannot be opened path={path}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The snapshot can't be used.
    #[error("metadata cannot be opened path={path}")]
    Snapshot {
        /// The file.
        path: String,
        /// The damage.
        #[source]
        source: crate::SnapshotError,
    },
    /// Durable metadata is missing: a file was lost, or is an older copy (D2).
    #[error("durable metadata is missing path={path} reason={reason}")]
    Lost {
        /// The file or directory.
        path: String,
        /// The missing part.
        reason: &'static str,
    },
    /// The metadata has the format of another release.
    #[error(
        "the metadata in {path} has format {found}, and this release reads format {expected} alone: start with the \
         release that wrote it, or with an empty data directory and an empty object store"
    )]
    OtherFormat {
        /// The metadata's directory.
        path: String,
        /// The format found there.
        found: String,
        /// The format that this release reads.
        expected: &'static str,
    },
    /// The metadata belongs to another node.
    #[error(
        "the metadata in {path} belongs to node.id={voters}, not to node.id={node}: start with the node.id that it has, \
         or with another highwater.data.dir"
    )]
    OtherNode {
        /// The metadata's directory.
        path: String,
        /// The node that was started.
        node: highwater_types::NodeId,
        /// The nodes that the metadata belongs to.
        voters: String,
    },
    /// The configuration names other voters than the configuration of another voter, and no quorum is formed yet.
    #[error(
        "{holder} has the voters {voters}, and this node is configured with the voters {configured}: configure every \
         voter with the same voters until the quorum is formed"
    )]
    OtherVoters {
        /// The other voter.
        holder: String,
        /// Its voters.
        voters: String,
        /// The voters in this node's configuration.
        configured: String,
    },
    /// The consensus library can't start.
    #[error("consensus cannot start reason={0}")]
    Raft(String),
}

/// Why a heartbeat did not begin a session anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// The epoch is not open: nothing of it counts any more (E6).
    #[error("the node epoch is not open")]
    Fenced,
    /// No active controller has answered; the reason.
    #[error("no active controller has answered: {0}")]
    Unavailable(String),
}
