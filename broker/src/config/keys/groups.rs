//! Groups and their committed offsets.

use super::{Key, Kind, int, key, long};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "group.initial.rebalance.delay.ms",
        "3000",
        int(0),
        "How long a new group waits for more members before its first rebalance.",
    ),
    key(
        "group.max.session.timeout.ms",
        "1800000",
        int(0),
        "The maximum session timeout of a group member.",
    ),
    key(
        "group.max.size",
        "2147483647",
        int(1),
        "The maximum number of members of a group.",
    ),
    key(
        "group.min.session.timeout.ms",
        "6000",
        int(0),
        "The minimum session timeout of a group member.",
    ),
    key(
        "offset.metadata.max.bytes",
        "4096",
        int(0),
        "The maximum size of the metadata of a committed offset.",
    ),
    key(
        "offsets.retention.check.interval.ms",
        "600000",
        long(1),
        "How often the broker checks for expired committed offsets.",
    ),
    key(
        "offsets.retention.minutes",
        "10080",
        int(1),
        "How long the committed offsets of an empty group are kept, in minutes.",
    ),
    key(
        "offsets.topic.num.partitions",
        "50",
        int(1),
        "The number of partitions of __consumer_offsets.",
    ),
    key(
        "offsets.topic.replication.factor",
        "1",
        Kind::Int {
            min: 1,
            max: 32_767,
        },
        "The replication factor of __consumer_offsets.",
    ),
];
