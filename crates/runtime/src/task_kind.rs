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
    /// Deletes condemned objects.
    Reaper,
    /// Tells the controllers that this node lives.
    Heartbeat,
    /// Follows the metadata image.
    Metadata,
}
