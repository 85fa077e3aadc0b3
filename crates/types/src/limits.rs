//! Limits that aren't settings.

/// The largest frame that is read from a socket, in bytes. `socket.request.max.bytes` is at most this.
pub const FRAME_BYTES_MAX: usize = 256 << 20;
/// The largest delta of one batch, in bytes (rule F1).
pub const DELTA_BYTES_MAX: usize = 64;
/// The number of uploads of one node epoch that may be uncommitted (rule U2): the one in progress, and one that was
/// abandoned before its body was complete because the node stopped. The metadata refuses an upload number that is
/// further ahead, and condemns this many numbers when it closes an epoch.
pub const UPLOADS_IN_FLIGHT_MAX: u64 = 2;
/// The number of index objects of one node epoch that may be put and not registered (rule W9): the one of the sealing in
/// progress, and one whose sealing was refused because another sealer was first. The metadata treats their numbers like
/// those of uploads.
pub const INDEXES_IN_FLIGHT_MAX: u64 = 2;
/// The number of batches remembered for each producer (KAFKA-BEHAVIOUR 14).
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// The number of partitions that a topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 100_000;
/// The length of a topic's name, in characters.
pub const TOPIC_NAME_CHARS_MAX: usize = 249;
/// The number of connections to the admin listener.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

const _: () = assert!(DELTA_BYTES_MAX <= u8::MAX as usize);
