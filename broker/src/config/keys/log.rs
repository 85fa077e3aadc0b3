//! Logs: the settings that a topic's own configurations override, and those of snapshots and producer state.

use super::{
    CLEANUP_POLICIES, COMPRESSION_TYPES, Key, Kind, TIMESTAMP_TYPES, int, key, long, unset,
};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "compression.gzip.level",
        "-1",
        Kind::Int { min: -1, max: 9 },
        "The gzip level with which the broker compresses; -1 is gzip's default.",
    ),
    key(
        "compression.lz4.level",
        "9",
        Kind::Int { min: 1, max: 17 },
        "Has no effect: the broker compresses lz4 at one level, Kafka's default.",
    ),
    key(
        "compression.type",
        "producer",
        Kind::OneOf(COMPRESSION_TYPES),
        "The compression of stored batches: a batch with another one is recompressed; producer keeps each batch's own.",
    ),
    key(
        "compression.zstd.level",
        "3",
        Kind::Int {
            min: -131_072,
            max: 22,
        },
        "The zstd level with which the broker compresses.",
    ),
    key(
        "log.cleanup.policy",
        "delete",
        Kind::SomeOf(CLEANUP_POLICIES),
        "Whether old records are deleted, compacted, or both. Until compaction exists, compact removes no records.",
    ),
    key(
        "log.message.timestamp.after.max.ms",
        "3600000",
        long(0),
        "How far a record's timestamp may be after the broker's time.",
    ),
    key(
        "log.message.timestamp.before.max.ms",
        "9223372036854775807",
        long(0),
        "How far a record's timestamp may be before the broker's time.",
    ),
    key(
        "log.message.timestamp.type",
        "CreateTime",
        Kind::OneOf(TIMESTAMP_TYPES),
        "Whether a record's timestamp is the producer's create time or the broker's append time.",
    ),
    key(
        "log.retention.bytes",
        "-1",
        long(-1),
        "The maximum bytes of a partition before old segments are deleted; -1 means no limit.",
    ),
    key(
        "log.retention.check.interval.ms",
        "300000",
        long(1),
        "How often the broker checks for segments that retention deletes.",
    ),
    key(
        "log.retention.hours",
        "168",
        int(-1),
        "How long records are kept, in hours. log.retention.minutes and log.retention.ms override it.",
    ),
    unset(
        "log.retention.minutes",
        int(-1),
        "How long records are kept, in minutes. log.retention.ms overrides it.",
    ),
    unset(
        "log.retention.ms",
        long(-1),
        "How long records are kept, in milliseconds; -1 means without limit.",
    ),
    key(
        "log.roll.hours",
        "168",
        int(1),
        "The maximum time before a new log segment is rolled out, in hours. log.roll.ms overrides it.",
    ),
    key(
        "log.roll.jitter.hours",
        "0",
        int(0),
        "The maximum by which log.roll.hours is shortened at random. log.roll.jitter.ms overrides it.",
    ),
    unset(
        "log.roll.jitter.ms",
        long(0),
        "The maximum by which log.roll.ms is shortened at random.",
    ),
    unset(
        "log.roll.ms",
        long(1),
        "The maximum time before a new log segment is rolled out, in milliseconds.",
    ),
    key(
        "log.segment.bytes",
        "1073741824",
        int(1_048_576),
        "The maximum bytes of a log segment. Retention deletes whole segments.",
    ),
    key(
        "message.max.bytes",
        "1048588",
        int(0),
        "The maximum bytes of a record batch, after compression.",
    ),
    key(
        "metadata.log.max.record.bytes.between.snapshots",
        "20971520",
        long(1),
        "The bytes of the metadata log after which a snapshot replaces it. At most a sixteenth of highwater.memory.limit is \
         in force, because the log is in memory until then; at least 65536, because each snapshot writes all metadata.",
    ),
    key(
        "producer.id.expiration.ms",
        "86400000",
        int(1),
        "How long the broker keeps the state of an idle idempotent producer.",
    ),
];
