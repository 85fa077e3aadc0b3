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

const fn of_kafka(name: &'static str) -> Synonym {
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
        "Whether old records are deleted, compacted, or both.",
    ),
    topic_key(
        "compression.gzip.level",
        int(-1, 9),
        "-1",
        &[same("compression.gzip.level")],
        "The level of gzip where the broker compresses.",
    ),
    topic_key(
        "compression.lz4.level",
        int(1, 17),
        "9",
        &[same("compression.lz4.level")],
        "Kept and described; lz4 has one level here, Kafka's default.",
    ),
    topic_key(
        "compression.type",
        Kind::OneOf(COMPRESSION_TYPES),
        "producer",
        &[same("compression.type")],
        "The codec batches are kept in: others are recompressed; producer keeps what arrives.",
    ),
    topic_key(
        "compression.zstd.level",
        int(-131_072, 22),
        "3",
        &[same("compression.zstd.level")],
        "The level of zstd where the broker compresses.",
    ),
    topic_key(
        "delete.retention.ms",
        long(0),
        "86400000",
        &[of_kafka("log.cleaner.delete.retention.ms")],
        "How long the tombstones of a compacted topic are kept.",
    ),
    topic_key(
        "errors.deadletterqueue.group.enable",
        Kind::Bool,
        "false",
        &[],
        "Kept and described; share groups have no dead letter queue.",
    ),
    topic_key(
        "file.delete.delay.ms",
        long(0),
        "60000",
        &[of_kafka("log.segment.delete.delay.ms")],
        "Kept and described; objects have a grace of their own.",
    ),
    topic_key(
        "flush.messages",
        long(1),
        LONG_MAX,
        &[of_kafka("log.flush.interval.messages")],
        "Kept and described; every record is durable before it is acknowledged.",
    ),
    topic_key(
        "flush.ms",
        long(0),
        LONG_MAX,
        &[],
        "Kept and described; every record is durable before it is acknowledged.",
    ),
    topic_key(
        "follower.replication.throttled.replicas",
        Kind::Replicas,
        "",
        &[],
        "Kept and described; nothing is replicated between brokers.",
    ),
    topic_key(
        "index.interval.bytes",
        int(0, INT_MAX),
        "4096",
        &[of_kafka("log.index.interval.bytes")],
        "Kept and described; every block is indexed.",
    ),
    topic_key(
        "leader.replication.throttled.replicas",
        Kind::Replicas,
        "",
        &[],
        "Kept and described; nothing is replicated between brokers.",
    ),
    topic_key(
        "local.retention.bytes",
        long(-2),
        "-2",
        &[of_kafka("log.local.retention.bytes")],
        "Kept and described; the whole log lives in object storage.",
    ),
    topic_key(
        "local.retention.ms",
        long(-2),
        "-2",
        &[of_kafka("log.local.retention.ms")],
        "Kept and described; the whole log lives in object storage.",
    ),
    topic_key(
        "max.compaction.lag.ms",
        long(1),
        LONG_MAX,
        &[of_kafka("log.cleaner.max.compaction.lag.ms")],
        "The longest time a record stays uncompacted.",
    ),
    topic_key(
        "max.decompressed.message.bytes",
        int(0, INT_MAX),
        "2147483639",
        &[of_kafka("max.decompressed.message.bytes")],
        "Kept and described; how far a batch is decompressed has a bound of its own.",
    ),
    topic_key(
        "max.message.bytes",
        int(0, INT_MAX),
        "1048588",
        &[same("message.max.bytes")],
        "The largest record batch, as stored.",
    ),
    topic_key(
        "message.timestamp.after.max.ms",
        long(0),
        "3600000",
        &[same("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may lie in the future.",
    ),
    topic_key(
        "message.timestamp.before.max.ms",
        long(0),
        LONG_MAX,
        &[same("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may lie in the past.",
    ),
    topic_key(
        "message.timestamp.type",
        Kind::OneOf(TIMESTAMP_TYPES),
        "CreateTime",
        &[same("log.message.timestamp.type")],
        "Whether records keep the producer's time or get the broker's.",
    ),
    topic_key(
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "0.5",
        &[of_kafka("log.cleaner.min.cleanable.ratio")],
        "How much of a log is uncompacted before it is compacted.",
    ),
    topic_key(
        "min.compaction.lag.ms",
        long(0),
        "0",
        &[of_kafka("log.cleaner.min.compaction.lag.ms")],
        "The shortest time a record stays uncompacted.",
    ),
    topic_key(
        "min.insync.replicas",
        int(1, INT_MAX),
        "1",
        &[same("min.insync.replicas")],
        "Kept and described; durability is the write-ahead log's.",
    ),
    topic_key(
        "preallocate",
        Kind::Bool,
        "false",
        &[of_kafka("log.preallocate")],
        "Kept and described; the write-ahead log is always preallocated.",
    ),
    topic_key(
        "remote.copy.lag.bytes",
        long(-1),
        "-1",
        &[of_kafka("log.remote.copy.lag.bytes")],
        "Kept and described; the whole log lives in object storage.",
    ),
    topic_key(
        "remote.copy.lag.ms",
        long(-1),
        "0",
        &[of_kafka("log.remote.copy.lag.ms")],
        "Kept and described; the whole log lives in object storage.",
    ),
    topic_key(
        "remote.log.copy.disable",
        Kind::Bool,
        "false",
        &[],
        "Kept and described; the whole log lives in object storage.",
    ),
    topic_key(
        "remote.log.delete.on.disable",
        Kind::Bool,
        "false",
        &[],
        "Kept and described; the whole log lives in object storage.",
    ),
    topic_key(
        "remote.storage.enable",
        Kind::Bool,
        "false",
        &[],
        "Refused when true, as without tiered storage; the whole log lives in object storage.",
    ),
    topic_key(
        "retention.bytes",
        long(-1),
        "-1",
        &[same("log.retention.bytes")],
        "The most bytes a partition keeps; -1 for no limit.",
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
        "How long records are kept; -1 for ever.",
    ),
    topic_key(
        "segment.bytes",
        int(1_048_576, INT_MAX),
        "1073741824",
        &[same("log.segment.bytes")],
        "The size at which the log rolls; retention removes whole rolls.",
    ),
    topic_key(
        "segment.index.bytes",
        int(4, INT_MAX),
        "10485760",
        &[of_kafka("log.index.size.max.bytes")],
        "Kept and described; indexes lie in the objects.",
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
        "The longest time the log is appended to before it rolls.",
    ),
    topic_key(
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        &[of_kafka("unclean.leader.election.enable")],
        "Kept and described; a leader is never unclean.",
    ),
];
