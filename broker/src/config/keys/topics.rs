//! Topics: how they are created and deleted.

use super::{Key, Kind, int, key};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "auto.create.topics.enable",
        "true",
        Kind::Bool,
        "Whether a topic is created automatically when a client first asks for it.",
    ),
    key(
        "default.replication.factor",
        "1",
        int(1),
        "The replication factor of a topic that is created without one.",
    ),
    key(
        "delete.topic.enable",
        "true",
        Kind::Bool,
        "Whether topics can be deleted.",
    ),
    key(
        "min.insync.replicas",
        "1",
        int(1),
        "Has no effect: the write-ahead log makes every record durable before it is acknowledged.",
    ),
    key(
        "num.partitions",
        "1",
        int(1),
        "The number of partitions of a topic that is created without one.",
    ),
];
