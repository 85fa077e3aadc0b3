//! Turns topic configurations into the settings of a log.

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
    // -1 means gzip's default, and lz4 has only one level here.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(given: &[(&str, &str)]) -> Config {
        let one = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let flags: Vec<_> = given.iter().map(one).collect();
        Config::load(None, [], &flags).expect("is sound")
    }

    #[test]
    fn a_log_rolls_and_retains_by_the_finest_of_the_brokers_settings() {
        let hours = [
            ("log.roll.hours", "3"),
            ("log.roll.jitter.hours", "2"),
            ("log.retention.hours", "1"),
        ];
        let minutes = [("log.retention.minutes", "-1")];
        let ms = [
            ("log.roll.ms", "7"),
            ("log.roll.jitter.ms", "5"),
            ("log.retention.ms", "9"),
        ];
        let with = |given: &[(&str, &str)]| {
            let config = log_config(&BTreeMap::new(), &broker(given));
            let jitter = config.segment_jitter_ms;
            (config.segment_ms, jitter, config.retention_ms)
        };
        let week = 7 * 24 * 3_600_000;
        assert_eq!(with(&[]), (week, 0, week));
        let of_hours = (3 * 3_600_000, 2 * 3_600_000, 3_600_000);
        assert_eq!(with(&hours), of_hours);
        let both = [&hours[..], &minutes[..]].concat();
        assert_eq!(with(&both), (of_hours.0, of_hours.1, -1), "for ever");
        assert_eq!(with(&[&both[..], &ms[..]].concat()), (7, 5, 9));
    }
}
