//! Groups and their offsets.

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
        "The longest session timeout a group member may ask for.",
    ),
    key(
        "group.max.size",
        "2147483647",
        int(1),
        "The most members of one group.",
    ),
    key(
        "group.min.session.timeout.ms",
        "6000",
        int(0),
        "The shortest session timeout a group member may ask for.",
    ),
    key(
        "offset.metadata.max.bytes",
        "4096",
        int(0),
        "The most metadata stored with a committed offset.",
    ),
    key(
        "offsets.retention.check.interval.ms",
        "600000",
        long(1),
        "How often expired committed offsets are looked for.",
    ),
    key(
        "offsets.retention.minutes",
        "10080",
        int(1),
        "How long the offsets of an empty group are kept.",
    ),
    key(
        "offsets.topic.num.partitions",
        "50",
        int(1),
        "The partitions of __consumer_offsets.",
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
