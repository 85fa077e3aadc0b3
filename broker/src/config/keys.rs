//! Every setting of a broker: Kafka's under Kafka's names, ours under `highwater.`.

use highwater_object_storage::CredentialSource;
use highwater_types::ByteSize;

use super::replicas;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds; described as Kafka's `int`.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A whole number within bounds; described as Kafka's `long`.
    Long {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// `true` or `false`.
    Bool,
    /// A number from 0 to 1; described as Kafka's `double`.
    Ratio,
    /// Any text.
    Text,
    /// Texts joined by commas.
    List,
    /// Replicas joined by commas, each `partition:broker`, or `*` for all.
    Replicas,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, joined by commas.
    SomeOf(&'static [&'static str]),
    /// Bytes, with or without a unit: `64MiB`.
    Size {
        /// Smallest, bytes.
        min: u64,
    },
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its default; `None` when it has none (Kafka's null).
    pub default: Option<&'static str>,
    /// Its values.
    pub kind: Kind,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

const fn key(name: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        default: Some(default),
        kind,
        doc,
    }
}

const fn unset(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        default: None,
        kind,
        doc,
    }
}

const INT_MAX: i64 = i32::MAX as i64;

const fn int(min: i64) -> Kind {
    Kind::Int { min, max: INT_MAX }
}

const fn long(min: i64) -> Kind {
    Kind::Long { min, max: i64::MAX }
}

/// The codecs a topic may ask for.
pub const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// The cleanup policies.
pub const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
/// Whose clock stamps a record.
pub const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

/// Every setting, by name.
pub static KEYS: &[Key] = &[
    unset(
        "advertised.listeners",
        Kind::List,
        "Addresses that clients are told to connect to; those of listeners when unset, with the machine's name for no host.",
    ),
    key(
        "auto.create.topics.enable",
        "true",
        Kind::Bool,
        "Whether a topic is created when a client first asks for it.",
    ),
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
        "connections.max.idle.ms",
        "600000",
        long(-1),
        "A connection without a request for this long is closed; -1 never.",
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
        "fetch.max.bytes",
        "57671680",
        int(1024),
        "The most record bytes one fetch answer holds.",
    ),
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
        "highwater.admin.listener",
        "127.0.0.1:9644",
        Kind::Text,
        "Where /metrics and /health are served over HTTP; empty for nowhere.",
    ),
    key(
        "highwater.data.dir",
        "./highwater-data",
        Kind::Text,
        "The directory of the write-ahead log and of the metadata.",
    ),
    key(
        "highwater.memory.limit",
        "1GiB",
        Kind::Size { min: 64 << 20 },
        "The most memory for requests, buffers and caches together; four fifths of the cgroup's limit where it has one.",
    ),
    key(
        "highwater.metadata.snapshot.entries",
        "5000",
        int(1),
        "Entries of the metadata's log after which it is replaced by a snapshot.",
    ),
    key(
        "highwater.object.grace.ms",
        "60000",
        Kind::Long {
            min: 100,
            max: 86_400_000,
        },
        "How long an object that nothing refers to any more stays; longer than any read takes.",
    ),
    unset(
        "highwater.object.storage",
        Kind::Text,
        "The object store: s3://bucket/prefix, or file:///path; file://<data dir>/objects when unset.",
    ),
    unset(
        "highwater.object.storage.ca.file",
        Kind::Text,
        "S3: a PEM file of certificate authorities trusted beside the system's.",
    ),
    key(
        "highwater.object.storage.credentials",
        "auto",
        Kind::OneOf(CredentialSource::NAMES),
        "S3: where credentials come from; auto is the first of the others, in this order, that is configured.",
    ),
    unset(
        "highwater.object.storage.endpoint",
        Kind::Text,
        "S3: the URL of an S3-compatible server; AWS's of the region when unset.",
    ),
    unset(
        "highwater.object.storage.kms.key",
        Kind::Text,
        "S3: the KMS key that the store encrypts objects with (SSE-KMS).",
    ),
    unset(
        "highwater.object.storage.path.style",
        Kind::Bool,
        "S3: whether the bucket stands in the path, not the host name; true with an endpoint when unset.",
    ),
    unset(
        "highwater.object.storage.profile",
        Kind::Text,
        "S3: the profile in ~/.aws; AWS_PROFILE, then default, when unset.",
    ),
    unset(
        "highwater.object.storage.region",
        Kind::Text,
        "S3: the region; AWS_REGION when unset, us-east-1 with an endpoint.",
    ),
    key(
        "highwater.upload.interval.ms",
        "10000",
        Kind::Long {
            min: 10,
            max: 86_400_000,
        },
        "The longest time a record waits for its upload to the object store.",
    ),
    key(
        "highwater.upload.size",
        "64MiB",
        Kind::Size { min: 64 << 10 },
        "Records are uploaded at once when this much has gathered.",
    ),
    key(
        "highwater.wal.size",
        "1GiB",
        Kind::Size { min: 16 << 20 },
        "The most disk space of the write-ahead log. What it needed once it keeps, to be used again.",
    ),
    key(
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        Kind::List,
        "The security protocol of each listener name.",
    ),
    key(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092",
        Kind::List,
        "Addresses to listen on: NAME://host:port, joined by commas.",
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
        "max.connections",
        "2147483647",
        int(0),
        "The most connections in all.",
    ),
    key(
        "max.connections.per.ip",
        "2147483647",
        int(0),
        "The most connections from one address.",
    ),
    key(
        "max.connections.per.ip.overrides",
        "",
        Kind::List,
        "Other limits for single addresses: address:count, joined by commas.",
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        int(0),
        "The most incremental fetch sessions.",
    ),
    key(
        "message.max.bytes",
        "1048588",
        int(0),
        "The largest record batch, as stored.",
    ),
    key(
        "min.insync.replicas",
        "1",
        int(1),
        "Kept and described; durability is the write-ahead log's.",
    ),
    key("node.id", "1", int(0), "This node's number in the cluster."),
    key(
        "num.partitions",
        "1",
        int(1),
        "The partitions of topics created without a number.",
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
    key(
        "process.roles",
        "broker,controller",
        Kind::SomeOf(&["broker", "controller"]),
        "The roles of this process; a single node has both.",
    ),
    key(
        "producer.id.expiration.ms",
        "86400000",
        int(1),
        "How long an idle producer's sequence numbers are remembered.",
    ),
    key(
        "socket.request.max.bytes",
        "104857600",
        Kind::Int {
            min: 1024,
            max: 268_435_456,
        },
        "The largest request.",
    ),
];

/// Settings of Kafka that a `server.properties` may hold and that mean nothing here: threads, replication, disks.
pub(super) static WITHOUT_EFFECT: &[&str] = &[
    "background.threads",
    "broker.rack",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "group.coordinator.threads",
    "inter.broker.listener.name",
    "log.cleaner.enable",
    "log.cleaner.threads",
    "log.dir",
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.preallocate",
    "log.segment.delete.delay.ms",
    "metadata.log.dir",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "offsets.topic.segment.bytes",
    "offsets.topic.compression.codec",
    "queued.max.requests",
    "replica.fetch.max.bytes",
    "replica.lag.time.max.ms",
    "security.inter.broker.protocol",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "socket.listen.backlog.size",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "transaction.state.log.min.isr",
    "transaction.state.log.num.partitions",
    "transaction.state.log.replication.factor",
    "unclean.leader.election.enable",
];

/// The setting of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Kind {
    /// Checks one value.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Int { min, max } => match value.trim().parse::<i32>() {
                Ok(number) => between(i64::from(number), *min, *max),
                Err(_) => Err("Not a number of type INT".to_owned()),
            },
            Self::Long { min, max } => match value.trim().parse::<i64>() {
                Ok(number) => between(number, *min, *max),
                Err(_) => Err("Not a number of type LONG".to_owned()),
            },
            Self::Bool => match value.trim().to_ascii_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => Err("Expected value to be either true or false".to_owned()),
            },
            Self::Ratio => match value.trim().parse::<f64>() {
                Ok(ratio) if ratio < 0.0 => Err("Value must be at least 0".to_owned()),
                Ok(ratio) if ratio <= 1.0 => Ok(()),
                Ok(_) => Err("Value must be no more than 1".to_owned()),
                Err(_) => Err("Not a number of type DOUBLE".to_owned()),
            },
            Self::Text | Self::List => Ok(()),
            Self::Replicas => replicas::check(value),
            Self::OneOf(allowed) => one_of(value.trim(), allowed),
            Self::SomeOf(_) if value.trim().is_empty() => Ok(()),
            Self::SomeOf(allowed) => value
                .split(',')
                .map(str::trim)
                .try_for_each(|part| one_of(part, allowed)),
            Self::Size { min } => {
                let size: ByteSize = value.parse().map_err(|why| format!("{why}"))?;
                if size.0 < *min {
                    return Err(format!("{size} is less than {}", ByteSize(*min)));
                }
                Ok(())
            }
        }
    }
}

fn one_of(value: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("String must be one of: {}", allowed.join(", ")))
}

fn between(number: i64, min: i64, max: i64) -> Result<(), String> {
    if number < min {
        return Err(format!("Value must be at least {min}"));
    }
    if number > max {
        return Err(format!("Value must be no more than {max}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_sound() {
        assert!(KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for key in KEYS {
            if let Some(default) = key.default {
                assert_eq!(key.kind.check(default), Ok(()), "{}", key.name);
            }
        }
    }
}
