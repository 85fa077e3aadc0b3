//! Every kind of background task.

/// A kind of background task; its name appears in logs. [`Tasks::stop`](crate::Tasks::stop) stops tasks in the order of
/// this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// Accepts connections of one listener for clients.
    Listener,
    /// Serves one client connection.
    Connection,
    /// Does the periodic work on partitions: retention, expiry of producers.
    Housekeeping,
    /// Measures how much work each partition takes, for the balance of leaderships.
    Load,
    /// Opens and closes coordinators as their partitions are opened and closed.
    CoordinatorOpener,
    /// Drives one coordinator partition: loading, timers.
    Coordinator,
    /// Opens and closes partitions as the metadata image demands.
    PartitionOpener,
    /// Hands partitions over to other brokers as the metadata image demands.
    HandOver,
    /// Uploads cached batches and commits them.
    Upload,
    /// Reads blocks of objects for the requests that wait for them.
    ColdRead,
    /// Plans which blocks are read ahead of a consumer that replays.
    Readahead,
    /// Seals the logs of fenced node epochs, so that live brokers can take their partitions over.
    Takeover,
    /// Tells the active controller that this broker lives. It and the kinds after it work until the last upload of a stop
    /// is done.
    Heartbeats,
    /// Puts the group commits of the object WAL.
    WalWriter,
    /// Deletes objects of the object WAL that are not needed any more.
    WalTrimmer,
    /// Follows the metadata of the controllers. It and the kinds after it do not end with the node epoch of the broker.
    MetadataObserver,
    /// Deletes condemned objects while this node is the active controller.
    Reaper,
    /// Sweeps the prefixes of closed object WALs while this node is the active controller.
    Sweeper,
    /// Fences brokers whose session is over, or which alone don't reach the store, while this node is the active controller.
    Fencer,
    /// Gives partitions without a leader to live brokers while this node is the active controller.
    Assigner,
    /// Asks leaders to hand partitions over, so that load spreads, while this node is the active controller.
    Mover,
    /// Accepts connections of one listener for other nodes, until the last upload is done.
    NodeListener,
    /// Serves one connection of another node.
    NodeConnection,
    /// Serves health and metrics over HTTP.
    AdminHttp,
    /// Fetches credentials for the object store before those in use expire.
    Credentials,
    /// Reads keys and certificates of TLS anew when they change.
    Certificates,
}

/// What follows when a task returns before the process stops. A panic always ends the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterReturn {
    /// The node ends, because it can't do its work without the task.
    NodeEnds,
    /// Nothing: the work of the task is done, or the thing that it served is gone.
    NodeGoesOn,
}

impl TaskKind {
    /// What follows when a task of this kind returns before the process stops.
    #[must_use]
    pub fn after_return(self) -> AfterReturn {
        match self {
            Self::Listener
            | Self::NodeListener
            | Self::AdminHttp
            | Self::Housekeeping
            | Self::Load
            | Self::CoordinatorOpener
            | Self::PartitionOpener
            | Self::HandOver
            | Self::Upload
            | Self::MetadataObserver
            | Self::Reaper
            | Self::Fencer
            | Self::Assigner
            | Self::Mover
            | Self::Takeover
            | Self::Heartbeats
            | Self::Sweeper
            | Self::Certificates => AfterReturn::NodeEnds,
            Self::Connection
            | Self::NodeConnection
            | Self::Coordinator
            | Self::WalWriter
            | Self::WalTrimmer
            | Self::ColdRead
            | Self::Readahead
            | Self::Credentials => AfterReturn::NodeGoesOn,
        }
    }
}
