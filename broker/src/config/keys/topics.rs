//! Topics: how they are created and deleted.

use super::{Key, Kind, int, key};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "auto.create.topics.enable",
        "true",
        Kind::Bool,
        "Whether a topic is created when a client first asks for it.",
    ),
    key(
        "default.replication.factor",
        "1",
        int(1),
        "The replication factor of topics created without one.",
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
        "Kept and described; durability is the write-ahead log's.",
    ),
    key(
        "num.partitions",
        "1",
        int(1),
        "The partitions of topics created without a number.",
    ),
];
