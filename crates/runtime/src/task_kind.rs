//! Every background task there is.

/// What a background task does; its name in logs. Tasks stop in the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// Accepts connections of one listener.
    Listener,
    /// Serves one client connection.
    Connection,
    /// Serves health and metrics over HTTP.
    AdminHttp,
    /// Retention, producer expiry and other periodic work on partitions.
    Housekeeping,
    /// Opens and closes coordinators as their partitions are opened and closed.
    CoordinatorOpener,
    /// Drives one coordinator partition: timers, loading.
    Coordinator,
    /// Opens and closes partitions as the image says.
    PartitionOpener,
    /// Uploads cached batches and commits them.
    Upload,
    /// Reads blocks of objects, for whoever waits for them.
    ColdRead,
    /// Plans what is read ahead of a consumer that replays.
    Readahead,
    /// Deletes condemned objects while this node is the active controller.
    Reaper,
    /// Fetches credentials for the object store before those at hand expire.
    Credentials,
    /// Tells the controllers that this node lives.
    Heartbeat,
    /// Follows the metadata image.
    Metadata,
}

impl TaskKind {
    /// Whether a task of this kind is there until the process stops: where one returns before that, the node does not do
    /// what it is for. The others return when what they serve is gone.
    #[must_use]
    pub fn runs_until_stopped(self) -> bool {
        match self {
            Self::Listener
            | Self::AdminHttp
            | Self::Housekeeping
            | Self::CoordinatorOpener
            | Self::PartitionOpener
            | Self::Upload
            | Self::Reaper
            | Self::Heartbeat
            | Self::Metadata => true,
            Self::Connection
            | Self::Coordinator
            | Self::ColdRead
            | Self::Readahead
            | Self::Credentials => false,
        }
    }
}
