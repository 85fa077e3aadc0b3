//! Every hard bound that is not a setting.

/// The largest frame read from a socket, bytes (`socket.request.max.bytes` is at most this).
pub const FRAME_BYTES_MAX: usize = 256 << 20;
/// The largest delta of one batch, bytes (rule F1).
pub const DELTA_BYTES_MAX: usize = 64;
/// The most uploads of one node epoch that are not committed (rule U2): the one under way, and one that the uploader gave
/// up, when the node stopped, before its body was whole. The metadata refuses a number that is further ahead, and condemns as many when it closes an
/// epoch.
pub const UPLOADS_IN_FLIGHT_MAX: u64 = 2;
/// The batches remembered for each producer (KafkaBehaviour 14).
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// The most partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 100_000;
/// The longest topic name, characters.
pub const TOPIC_NAME_CHARS_MAX: usize = 249;
/// Connections of the admin listener.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

const _: () = assert!(DELTA_BYTES_MAX <= u8::MAX as usize);
