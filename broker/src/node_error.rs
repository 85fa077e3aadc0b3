//! The reasons for which a node doesn't start or stop, or can't go on.

use highwater_kraft_meta::{ProposeError, Rejection, VotersError};
use highwater_object_storage::OpenError;
use highwater_s3stream::StreamError;
use highwater_types::{NodeEpoch, NodeId, Uuid};
use highwater_wal::WalError;

/// Why a node can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeEnd {
    /// Its node epoch was fenced: the controllers did not hear from it for too long, or the node was started elsewhere.
    /// It may start again as a new epoch (W11).
    #[error("the node epoch was fenced: {0}")]
    Fenced(String),
    /// Another reason, for people.
    #[error("{0}")]
    Failed(String),
}

/// Why a node does not start or stop. Each reason names the setting, path or address concerned.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another process uses the data directory.
    #[error(
        "highwater.data.dir: {0} is in use by another process: stop that process, or use another directory"
    )]
    InUse(String),
    /// No node has used the data directory, so that it has no metadata.
    #[error(
        "highwater.data.dir: no node has used {0}: name the data directory of a controller, with that node's configuration"
    )]
    NotUsed(String),
    /// The data directory is another program's, for instance Apache Kafka's.
    #[error("highwater.data.dir: {0} was not written by Highwater: use another directory")]
    Foreign(String),
    /// The node has no object store but its own data directory, and is one of several.
    #[error(
        "highwater.object.storage: it is not set, and the nodes of a cluster need one object store: set it to \
         s3://bucket/prefix, or to file:///path if all nodes are on this machine, and give all nodes the same"
    )]
    OwnStore,
    /// The data directory belongs to another object store.
    #[error(
        "the data directory {dir} keeps its objects in {remembered}, not in {given}: set \
         highwater.object.storage={remembered}, or use another data directory"
    )]
    OtherStore {
        /// The data directory.
        dir: String,
        /// The store that it remembers.
        remembered: String,
        /// The store that the configuration names.
        given: String,
    },
    /// The node's write-ahead log is in another data directory, and is not recovered from there yet (D2).
    #[error(
        "highwater.data.dir: {dir} is not the data directory of node {node}: node epoch {epoch}, which is not closed, has \
         its write-ahead log in the directory whose meta.properties says directory.id={recorded}, and this one's id is \
         {given}: start the node with that directory, or see what is lost with it by `highwater give-up --node {node} \
         --epoch {epoch}`"
    )]
    OtherDirectory {
        /// The data directory of this start.
        dir: String,
        /// The node.
        node: NodeId,
        /// Its last epoch on a disk WAL that is not closed.
        epoch: NodeEpoch,
        /// The id of the data directory with which that epoch registered.
        recorded: Uuid,
        /// The id of this start's.
        given: Uuid,
    },
    /// The data directory has the id of another node's, whose log is not closed (D2).
    #[error(
        "highwater.data.dir: {dir} is the data directory of node {owner}, or a copy of it, and not of node {node}: what node \
         {owner} has acknowledged may be in its write-ahead log alone. Give node {node} a directory of its own. If node \
         {owner} is gone for good, `highwater give-up --node {owner} --epoch {epoch}` says what is lost with its log"
    )]
    OfOtherNode {
        /// The data directory of this start.
        dir: String,
        /// The node that starts.
        node: NodeId,
        /// The other node.
        owner: NodeId,
        /// That node's last epoch on a disk WAL that is not closed.
        epoch: NodeEpoch,
    },
    /// The data directory is a copy of one in which a process runs, and its write-ahead log lacks what that process writes
    /// (E2).
    #[error(
        "highwater.data.dir: {dir} is a copy of the data directory of node {node}, whose process was heard as node epoch {epoch} \
         while this start waited, and lacks what that process writes: stop this start for good, or give it a node.id and a \
         directory of its own. If no other process runs with this node.id, start it again: the controllers were away"
    )]
    Copied {
        /// The data directory of this start.
        dir: String,
        /// The node.
        node: NodeId,
        /// The epoch that is heard.
        epoch: NodeEpoch,
    },
    /// Another directory has taken the place of the one that this process has locked, or none has (E2).
    #[error(
        "highwater.data.dir: {dir} is not the directory any more that this process has locked: it was moved, deleted or \
         replaced while the process ran. Put it back, and start the process again"
    )]
    Replaced {
        /// The path.
        dir: String,
    },
    /// The node's write-ahead log is missing or damaged, and has records of an epoch that is not closed (D2, D4).
    #[error(
        "the write-ahead log of node epoch {epoch} of node {node} cannot be recovered here: if another process runs with \
         this node.id, it has the log; otherwise bring the log back, or see what is lost with it by \
         `highwater give-up --node {node} --epoch {epoch}`"
    )]
    LogLost {
        /// The node.
        node: NodeId,
        /// Its last epoch on a disk WAL that is not closed.
        epoch: NodeEpoch,
        /// The reason.
        #[source]
        source: WalError,
    },
    /// The epoch is not the node's last one on a disk WAL that is not closed, so that nothing of it can be given up.
    #[error(
        "node epoch {epoch} of node {node} cannot be given up: {}",
        match last {
            Some(last) => format!("the last one whose log is in a data directory is {last}"),
            None => "no log of the node is in a data directory alone".to_owned(),
        }
    )]
    NothingToGiveUp {
        /// The node.
        node: NodeId,
        /// The epoch that was asked for.
        epoch: NodeEpoch,
        /// The epoch that could be given up.
        last: Option<NodeEpoch>,
    },
    /// The node of an epoch that is to be given up was heard within its session.
    #[error(
        "node epoch {epoch} of node {node} cannot be given up, because the controllers hear from the node: stop it first \
         (the epoch {})",
        match is_fenced {
            true => "was fenced, and is not closed",
            false => "was not fenced, and nothing has changed",
        }
    )]
    Lives {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: NodeEpoch,
        /// Whether the first of the two steps was done.
        is_fenced: bool,
    },
    /// The metadata refuses one of the two steps by which an epoch is given up.
    #[error("node epoch {epoch} of node {node} is not given up, because it could not be {step}")]
    GiveUp {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: NodeEpoch,
        /// What was to be done with it.
        step: &'static str,
        /// The refusal, or that there was no answer.
        #[source]
        source: ProposeError,
    },
    /// The configuration names no controller.
    #[error(
        "the configuration names no controller to ask: give that of a node with controller.quorum.bootstrap.servers or \
         controller.quorum.voters. A node without either is a cluster by itself, and has no other broker or controller"
    )]
    NoControllers,
    /// None of the controllers that the configuration names answers.
    #[error(
        "no active controller can be asked within {seconds} s at {addresses}: check that controllers run there, and that \
         controller.quorum.bootstrap.servers or controller.quorum.voters has their addresses"
    )]
    NoAnswer {
        /// The addresses that were asked.
        addresses: String,
        /// The time that they had.
        seconds: u64,
    },
    /// The active controller does not say which controllers there are.
    #[error("the controllers do not say which of them have a vote: {0}")]
    NoQuorum(String),
    /// A controller can't get a vote, or has none to lose.
    #[error("nothing is changed for controller {node}: {why}")]
    NoVoter {
        /// The controller.
        node: NodeId,
        /// The reason, and the way out.
        why: String,
    },
    /// The active controller did not change the voters.
    #[error("the voters are not changed")]
    Voters(#[from] VotersError),
    /// There is no such broker.
    #[error("there is no broker with the id {0}")]
    NotRegistered(NodeId),
    /// The metadata refuses to change the duty of a broker.
    #[error("the duty of broker {node} is not changed")]
    Duty {
        /// The broker.
        node: NodeId,
        /// The refusal, or that there was no answer.
        #[source]
        source: ProposeError,
    },
    /// A directory can't be used.
    #[error("highwater.data.dir: cannot use {path}")]
    Io {
        /// The directory.
        path: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// The node can't listen on an address.
    #[error("{setting}: cannot listen on {address}")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// A listener, or the calls to controllers, can't be put on TLS.
    #[error(
        "listener.security.protocol.map: {listener} is on SSL, and its certificates cannot be used"
    )]
    Tls {
        /// The listener.
        listener: String,
        /// The file or the setting, and what is wrong with it.
        #[source]
        source: highwater_tls::Error,
    },
    /// The machine gives no thread to Raft and heartbeats.
    #[error("cannot start the runtime of the metadata")]
    Control(#[source] std::io::Error),
    /// The object store can't be used, or can't be trusted.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The metadata does not open.
    #[error(transparent)]
    Metadata(#[from] highwater_kraft_meta::OpenError),
    /// The metadata does not accept a command of the start.
    #[error("the metadata refuses to let the node start")]
    Propose(#[from] ProposeError),
    /// The write-ahead log does not open.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The write-ahead log cannot be recovered: the metadata may be older than the log (D2), or the object store fails.
    #[error("cannot recover the write-ahead log {path}")]
    Recover {
        /// Its directory.
        path: String,
        /// The reason.
        #[source]
        source: StreamError,
    },
    /// Records cannot be uploaded.
    #[error("records cannot be uploaded")]
    Stream(#[from] StreamError),
    /// A node that was fenced can't start again, or need not.
    #[error("{0}")]
    Ended(String),
    /// Metrics cannot be set up.
    #[error("metrics: {0}")]
    Metrics(String),
}

impl NodeError {
    /// Whether a start failed because the controllers or the object store gave no answer. Another start may succeed.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Propose(error) => matches!(error, ProposeError::Unavailable(_)),
            Self::Storage(error) => match error {
                OpenError::Unreachable { .. } | OpenError::InUse { .. } => true,
                OpenError::Io { source, .. } => highwater_io::is_full(source),
                _ => false,
            },
            Self::Recover { source, .. } | Self::Stream(source) => matches!(
                source,
                StreamError::Unavailable { .. }
                    | StreamError::Storage(_)
                    | StreamError::Wal(WalError::Unavailable { .. })
            ),
            Self::Wal(error) => matches!(error, WalError::Unavailable { .. }),
            // no file descriptor is free
            Self::Io { source, .. } => highwater_io::is_full(source),
            _ => false,
        }
    }

    /// Whether the epoch that a start has registered was fenced before the start was over. Another start may succeed.
    #[must_use]
    pub fn is_fence(&self) -> bool {
        match self {
            Self::Propose(ProposeError::Rejected(rejection)) => {
                matches!(rejection, Rejection::Fenced(_))
            }
            Self::Recover { source, .. } | Self::Stream(source) => {
                matches!(source, StreamError::Fenced { .. })
            }
            Self::Wal(error) => matches!(error, WalError::Fenced { .. }),
            _ => false,
        }
    }
}
