//! Settings that Kafka does not have.

use highwater_object_storage::CredentialSource;

use super::{Key, Kind, int, key, unset};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "highwater.admin.listener",
        "127.0.0.1:9644",
        Kind::Text,
        "The address at which /metrics and /health are served over HTTP, to at most 64 connections; if empty, they \
         are not served.",
    ),
    key(
        "highwater.data.dir",
        "./highwater-data",
        Kind::Text,
        "The directory of the write-ahead log and of the metadata. It must survive a restart.",
    ),
    key(
        "highwater.memory.limit",
        "1GiB",
        Kind::Size { min: 64 << 20 },
        "The maximum memory of requests, buffers and caches together. The default is four fifths of the cgroup's limit, \
         if there is one.",
    ),
    key(
        "highwater.metadata.snapshot.entries",
        "5000",
        int(1),
        "The number of entries of the metadata log after which a snapshot replaces it.",
    ),
    key(
        "highwater.object.grace.ms",
        "60000",
        Kind::Long {
            min: 100,
            max: 86_400_000,
        },
        "How long an object is kept after nothing refers to it; it must be longer than any read takes.",
    ),
    unset(
        "highwater.object.storage",
        Kind::Text,
        "The object store: s3://bucket/prefix, or file:///path, a directory for the nodes of one machine. If unset, it \
         is the directory objects in highwater.data.dir; a node that is one of several must set it.",
    ),
    unset(
        "highwater.object.storage.ca.file",
        Kind::Text,
        "S3: a PEM file of certificate authorities that are trusted in addition to the system's.",
    ),
    key(
        "highwater.object.storage.credentials",
        "auto",
        Kind::OneOf(CredentialSource::NAMES),
        "S3: the source of the credentials; auto takes the first of the other sources, in this order, that has some.",
    ),
    unset(
        "highwater.object.storage.endpoint",
        Kind::Text,
        "S3: the URL of an S3-compatible server. If unset, it is AWS's endpoint for the region.",
    ),
    unset(
        "highwater.object.storage.kms.key",
        Kind::Text,
        "S3: the KMS key with which the store encrypts objects (SSE-KMS).",
    ),
    unset(
        "highwater.object.storage.path.style",
        Kind::Bool,
        "S3: whether the bucket is in the path of the URL, not in the host name. If unset, it is true with an \
         endpoint, otherwise false.",
    ),
    unset(
        "highwater.object.storage.profile",
        Kind::Text,
        "S3: the profile in ~/.aws. If unset, it is AWS_PROFILE, otherwise default.",
    ),
    unset(
        "highwater.object.storage.region",
        Kind::Text,
        "S3: the region. If unset, it is AWS_REGION, then the profile's, then the instance's; with an endpoint it is \
         AWS_REGION, then us-east-1.",
    ),
    key(
        "highwater.upload.interval.ms",
        "10000",
        Kind::Long {
            min: 10,
            max: 86_400_000,
        },
        "The maximum time before a record is uploaded to the object store.",
    ),
    key(
        "highwater.upload.size",
        "64MiB",
        Kind::Size { min: 64 << 10 },
        "The bytes of records that are uploaded together as soon as they have gathered.",
    ),
    key(
        "highwater.wal",
        "disk",
        Kind::OneOf(&["disk", "object"]),
        "Where the write-ahead log is. With disk, a batch is durable once it is synced in highwater.data.dir. With object, \
         it is durable once the object store has it, and the data directory holds no records. It may be changed at any \
         start.",
    ),
    key(
        "highwater.wal.object.hedge.max.ms",
        "1000",
        Kind::Long {
            min: 1,
            max: 600_000,
        },
        "The longest time after which a put of the object WAL that has no answer is sent again beside the first one.",
    ),
    key(
        "highwater.wal.object.hedge.min.ms",
        "50",
        Kind::Long {
            min: 1,
            max: 600_000,
        },
        "The shortest such time. Between the two, the time follows from how long recent puts took.",
    ),
    key(
        "highwater.wal.object.request.timeout.ms",
        "10000",
        Kind::Long {
            min: 100,
            max: 600_000,
        },
        "The time after which a request of the object WAL without an answer is given up and repeated.",
    ),
    key(
        "highwater.wal.object.token.bytes",
        "256KiB",
        Kind::Size { min: 4 << 10 },
        "Each put of the object WAL spends a token, and a token accrues with so many bytes of records.",
    ),
    key(
        "highwater.wal.object.token.interval.ms",
        "100",
        Kind::Long {
            min: 0,
            max: 60_000,
        },
        "A token also accrues in each interval, so a trickle of records costs one put in each. With 0 a put waits for no \
         token: latency is lowest, and requests cost most.",
    ),
    key(
        "highwater.wal.object.tokens.max",
        "64",
        Kind::Int {
            min: 1,
            max: 100_000,
        },
        "The most tokens that are saved for a burst of puts.",
    ),
    key(
        "highwater.wal.size",
        "1GiB",
        Kind::Size { min: 16 << 20 },
        "The maximum disk space of the write-ahead log. The log keeps and reuses the space that it has once taken.",
    ),
];
