//! From topic configurations to the settings of a log.

use std::collections::BTreeMap;

use highwater_partition_log::LogConfig;
use highwater_protocol::records::{Codec, TimestampType};

use crate::config::Config;
use crate::topic_configs::find;

/// The settings of a log that follow from a topic's own configurations and the broker's.
#[must_use]
pub(crate) fn log_config(own: &BTreeMap<String, String>, broker: &Config) -> LogConfig {
    let text = |name: &str| {
        find(name)
            .map(|key| key.effective(own, broker))
            .unwrap_or_default()
    };
    let long = |name: &str| text(name).trim().parse::<i64>().unwrap_or_default();
    let policy = text("cleanup.policy");
    let has_policy = |wanted: &str| policy.split(',').any(|one| one.trim() == wanted);
    let compression_type = text("compression.type");
    // -1 is gzip's default, and lz4 has one level here
    let level = match compression_type.as_str() {
        "gzip" => Some(long("compression.gzip.level")).filter(|level| *level > 0),
        "zstd" => Some(long("compression.zstd.level")),
        _ => None,
    };
    LogConfig {
        max_message_bytes: long("max.message.bytes"),
        timestamp_type: if text("message.timestamp.type") == "LogAppendTime" {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        },
        timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
        compression: match compression_type.as_str() {
            "uncompressed" => Some(Codec::None),
            "gzip" => Some(Codec::Gzip),
            "snappy" => Some(Codec::Snappy),
            "lz4" => Some(Codec::Lz4),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        },
        compression_level: level.and_then(|level| i32::try_from(level).ok()),
        retention_ms: long("retention.ms"),
        retention_bytes: long("retention.bytes"),
        segment_bytes: long("segment.bytes"),
        segment_ms: long("segment.ms"),
        segment_jitter_ms: long("segment.jitter.ms"),
        max_compaction_lag_ms: long("max.compaction.lag.ms"),
        delete: has_policy("delete"),
        compact: has_policy("compact"),
        producer_expiration_ms: broker.long("producer.id.expiration.ms"),
    }
}
