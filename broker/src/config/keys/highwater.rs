//! Ours: what Kafka has nothing like.

use highwater_object_storage::CredentialSource;

use super::{Key, Kind, int, key, unset};

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "highwater.admin.listener",
        "127.0.0.1:9644",
        Kind::Text,
        "Where /metrics and /health are served over HTTP, to 64 connections at most; empty for nowhere.",
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
        "S3: where credentials come from; auto is the first of the others, in this order, that has some.",
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
        "S3: the region; when unset AWS_REGION, then the profile's, then the instance's; with an endpoint AWS_REGION, then us-east-1.",
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
];
