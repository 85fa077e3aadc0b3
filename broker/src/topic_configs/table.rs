//! The table of topic configurations.

use super::{Synonym, TopicKey};
use crate::config::{CLEANUP_POLICIES, COMPRESSION_TYPES, Kind, TIMESTAMP_TYPES};

const fn same(name: &'static str) -> Synonym {
    Synonym {
        name,
        factor: 1,
        is_ours: true,
    }
}

const fn kafka_only(name: &'static str) -> Synonym {
    Synonym {
        is_ours: false,
        ..same(name)
    }
}

const fn minutes(name: &'static str) -> Synonym {
    Synonym {
        name,
        factor: 60_000,
        is_ours: true,
    }
}

const fn hours(name: &'static str) -> Synonym {
    Synonym {
        name,
        factor: 3_600_000,
        is_ours: true,
    }
}

const fn topic_key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> TopicKey {
    TopicKey {
        name,
        kind,
        default,
        synonyms,
        doc,
    }
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn long(min: i64) -> Kind {
    Kind::Long { min, max: i64::MAX }
}

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: &str = "9223372036854775807";

/// Every topic configuration, by name.
pub(crate) static TOPIC_KEYS: &[TopicKey] = &[
    topic_key(
        "cleanup.policy",
        Kind::SomeOf(CLEANUP_POLICIES),
        "delete",
        &[same("log.cleanup.policy")],
        "Whether old records are deleted, compacted, or both. Until compaction exists, compact removes no records.",
    ),
    topic_key(
        "compression.gzip.level",
        int(-1, 9),
        "-1",
        &[same("compression.gzip.level")],
        "The gzip level with which the broker compresses; -1 is gzip's default.",
    ),
    topic_key(
        "compression.lz4.level",
        int(1, 17),
        "9",
        &[same("compression.lz4.level")],
        "Has no effect: the broker compresses lz4 at one level, Kafka's default.",
    ),
    topic_key(
        "compression.type",
        Kind::OneOf(COMPRESSION_TYPES),
        "producer",
        &[same("compression.type")],
        "The compression of stored batches: a batch with another one is recompressed; producer keeps each batch's own.",
    ),
    topic_key(
        "compression.zstd.level",
        int(-131_072, 22),
        "3",
        &[same("compression.zstd.level")],
        "The zstd level with which the broker compresses.",
    ),
    topic_key(
        "delete.retention.ms",
        long(0),
        "86400000",
        &[kafka_only("log.cleaner.delete.retention.ms")],
        "How long the tombstones of a compacted topic are kept. It has no effect until compaction exists.",
    ),
    topic_key(
        "errors.deadletterqueue.group.enable",
        Kind::Bool,
        "false",
        &[],
        "Has no effect: share groups have no dead letter queue.",
    ),
    topic_key(
        "file.delete.delay.ms",
        long(0),
        "60000",
        &[kafka_only("log.segment.delete.delay.ms")],
        "Has no effect: highwater.object.grace.ms determines how long an unused object is kept.",
    ),
    topic_key(
        "flush.messages",
        long(1),
        LONG_MAX,
        &[kafka_only("log.flush.interval.messages")],
        "Has no effect: every record is durable before it is acknowledged.",
    ),
    topic_key(
        "flush.ms",
        long(0),
        LONG_MAX,
        &[],
        "Has no effect: every record is durable before it is acknowledged.",
    ),
    topic_key(
        "follower.replication.throttled.replicas",
        Kind::Replicas,
        "",
        &[],
        "Has no effect: nothing is replicated between brokers.",
    ),
    topic_key(
        "index.interval.bytes",
        int(0, INT_MAX),
        "4096",
        &[kafka_only("log.index.interval.bytes")],
        "Has no effect: every block is indexed.",
    ),
    topic_key(
        "leader.replication.throttled.replicas",
        Kind::Replicas,
        "",
        &[],
        "Has no effect: nothing is replicated between brokers.",
    ),
    topic_key(
        "local.retention.bytes",
        long(-2),
        "-2",
        &[kafka_only("log.local.retention.bytes")],
        "Has no effect: the whole log is in object storage.",
    ),
    topic_key(
        "local.retention.ms",
        long(-2),
        "-2",
        &[kafka_only("log.local.retention.ms")],
        "Has no effect: the whole log is in object storage.",
    ),
    topic_key(
        "max.compaction.lag.ms",
        long(1),
        LONG_MAX,
        &[kafka_only("log.cleaner.max.compaction.lag.ms")],
        "The maximum time that a record stays uncompacted; the log rolls in time for it.",
    ),
    topic_key(
        "max.decompressed.message.bytes",
        int(0, INT_MAX),
        "2147483639",
        &[kafka_only("max.decompressed.message.bytes")],
        "Has no effect: decompression has a bound of its own.",
    ),
    topic_key(
        "max.message.bytes",
        int(0, INT_MAX),
        "1048588",
        &[same("message.max.bytes")],
        "The maximum bytes of a record batch, after compression.",
    ),
    topic_key(
        "message.timestamp.after.max.ms",
        long(0),
        "3600000",
        &[same("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may be after the broker's time.",
    ),
    topic_key(
        "message.timestamp.before.max.ms",
        long(0),
        LONG_MAX,
        &[same("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may be before the broker's time.",
    ),
    topic_key(
        "message.timestamp.type",
        Kind::OneOf(TIMESTAMP_TYPES),
        "CreateTime",
        &[same("log.message.timestamp.type")],
        "Whether a record's timestamp is the producer's create time or the broker's append time.",
    ),
    topic_key(
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "0.5",
        &[kafka_only("log.cleaner.min.cleanable.ratio")],
        "The uncompacted share at which a log is compacted. It has no effect until compaction exists.",
    ),
    topic_key(
        "min.compaction.lag.ms",
        long(0),
        "0",
        &[kafka_only("log.cleaner.min.compaction.lag.ms")],
        "The minimum time that a record stays uncompacted. It has no effect until compaction exists.",
    ),
    topic_key(
        "min.insync.replicas",
        int(1, INT_MAX),
        "1",
        &[same("min.insync.replicas")],
        "Has no effect: the write-ahead log makes every record durable before it is acknowledged.",
    ),
    topic_key(
        "preallocate",
        Kind::Bool,
        "false",
        &[kafka_only("log.preallocate")],
        "Has no effect: the write-ahead log is always preallocated.",
    ),
    topic_key(
        "remote.copy.lag.bytes",
        long(-1),
        "-1",
        &[kafka_only("log.remote.copy.lag.bytes")],
        "Has no effect: the whole log is in object storage.",
    ),
    topic_key(
        "remote.copy.lag.ms",
        long(-1),
        "0",
        &[kafka_only("log.remote.copy.lag.ms")],
        "Has no effect: the whole log is in object storage.",
    ),
    topic_key(
        "remote.log.copy.disable",
        Kind::Bool,
        "false",
        &[],
        "Has no effect: the whole log is in object storage.",
    ),
    topic_key(
        "remote.log.delete.on.disable",
        Kind::Bool,
        "false",
        &[],
        "Has no effect: the whole log is in object storage.",
    ),
    topic_key(
        "remote.storage.enable",
        Kind::Bool,
        "false",
        &[],
        "Must be false, as in a broker without tiered storage: the whole log is in object storage.",
    ),
    topic_key(
        "retention.bytes",
        long(-1),
        "-1",
        &[same("log.retention.bytes")],
        "The maximum bytes of a partition before old segments are deleted; -1 means no limit.",
    ),
    topic_key(
        "retention.ms",
        long(-1),
        "604800000",
        &[
            same("log.retention.ms"),
            minutes("log.retention.minutes"),
            hours("log.retention.hours"),
        ],
        "How long records are kept; -1 means without limit.",
    ),
    topic_key(
        "segment.bytes",
        int(1_048_576, INT_MAX),
        "1073741824",
        &[same("log.segment.bytes")],
        "The maximum bytes of a log segment. Retention deletes whole segments.",
    ),
    topic_key(
        "segment.index.bytes",
        int(4, INT_MAX),
        "10485760",
        &[kafka_only("log.index.size.max.bytes")],
        "Has no effect: the indexes are in the objects.",
    ),
    topic_key(
        "segment.jitter.ms",
        long(0),
        "0",
        &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        "By how much segment.ms is shortened at random.",
    ),
    topic_key(
        "segment.ms",
        long(1),
        "604800000",
        &[same("log.roll.ms"), hours("log.roll.hours")],
        "The maximum time before a new log segment is rolled out, in milliseconds.",
    ),
    topic_key(
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        &[kafka_only("unclean.leader.election.enable")],
        "Has no effect: brokers hold no replicas of the log.",
    ),
];
