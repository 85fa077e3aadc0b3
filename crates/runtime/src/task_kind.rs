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
    /// Reads blocks of objects for the requests that wait for them.
    ColdRead,
    /// Plans what is read ahead of a consumer that replays.
    Readahead,
    /// Deletes condemned objects while this node is the active controller.
    Reaper,
    /// Fetches credentials for the object store before those at hand expire.
    Credentials,
}

impl TaskKind {
    /// Whether a task of this kind runs until the process stops. The node fails when one returns before that, since it
    /// would go on without part of its work. Tasks of the other kinds return when their connection, partition or read is
    /// done.
    #[must_use]
    pub fn runs_until_stopped(self) -> bool {
        match self {
            Self::Listener
            | Self::AdminHttp
            | Self::Housekeeping
            | Self::CoordinatorOpener
            | Self::PartitionOpener
            | Self::Upload
            | Self::Reaper => true,
            Self::Connection
            | Self::Coordinator
            | Self::ColdRead
            | Self::Readahead
            | Self::Credentials => false,
        }
    }
}
