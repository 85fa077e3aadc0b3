//! Logs: what a topic's own configurations override, and what stays of producers.

use super::{
    CLEANUP_POLICIES, COMPRESSION_TYPES, Key, Kind, TIMESTAMP_TYPES, int, key, long, unset,
};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "compression.gzip.level",
        "-1",
        Kind::Int { min: -1, max: 9 },
        "The level of gzip where the broker compresses; -1 is its default.",
    ),
    key(
        "compression.lz4.level",
        "9",
        Kind::Int { min: 1, max: 17 },
        "Kept and described; lz4 has one level here, Kafka's default.",
    ),
    key(
        "compression.type",
        "producer",
        Kind::OneOf(COMPRESSION_TYPES),
        "The codec batches are kept in: others are recompressed; producer keeps what arrives.",
    ),
    key(
        "compression.zstd.level",
        "3",
        Kind::Int {
            min: -131_072,
            max: 22,
        },
        "The level of zstd where the broker compresses.",
    ),
    key(
        "log.cleanup.policy",
        "delete",
        Kind::SomeOf(CLEANUP_POLICIES),
        "What becomes of old records: see cleanup.policy of a topic.",
    ),
    key(
        "log.message.timestamp.after.max.ms",
        "3600000",
        long(0),
        "How far a record's timestamp may lie in the future.",
    ),
    key(
        "log.message.timestamp.before.max.ms",
        "9223372036854775807",
        long(0),
        "How far a record's timestamp may lie in the past.",
    ),
    key(
        "log.message.timestamp.type",
        "CreateTime",
        Kind::OneOf(TIMESTAMP_TYPES),
        "Whether records keep the producer's time or get the broker's.",
    ),
    key(
        "log.retention.bytes",
        "-1",
        long(-1),
        "The most bytes a partition keeps; -1 for no limit.",
    ),
    key(
        "log.retention.check.interval.ms",
        "300000",
        long(1),
        "How often retention looks for records to remove.",
    ),
    key(
        "log.retention.hours",
        "168",
        int(-1),
        "How long records are kept, unless log.retention.minutes or log.retention.ms say otherwise.",
    ),
    unset(
        "log.retention.minutes",
        int(-1),
        "How long records are kept, unless log.retention.ms says otherwise.",
    ),
    unset(
        "log.retention.ms",
        long(-1),
        "How long records are kept; -1 for ever.",
    ),
    key(
        "log.roll.hours",
        "168",
        int(1),
        "The longest time a log segment is appended to, unless log.roll.ms says otherwise.",
    ),
    key(
        "log.roll.jitter.hours",
        "0",
        int(0),
        "By how much the time to a roll is shortened at random, unless log.roll.jitter.ms says otherwise.",
    ),
    unset(
        "log.roll.jitter.ms",
        long(0),
        "By how much the time to a roll is shortened at random.",
    ),
    unset(
        "log.roll.ms",
        long(1),
        "The longest time a log segment is appended to.",
    ),
    key(
        "log.segment.bytes",
        "1073741824",
        int(1_048_576),
        "The size at which a log segment rolls; retention removes whole segments.",
    ),
    key(
        "message.max.bytes",
        "1048588",
        int(0),
        "The largest record batch, as stored.",
    ),
    key(
        "metadata.log.max.record.bytes.between.snapshots",
        "20971520",
        long(1),
        "Bytes of the metadata's log after which it is replaced by a snapshot; a sixteenth of the memory limit at most, for it \
         stays in memory until then, and 65536 at least, for each snapshot writes all of the metadata.",
    ),
    key(
        "producer.id.expiration.ms",
        "86400000",
        int(1),
        "How long an idle producer's sequence numbers are remembered.",
    ),
];
