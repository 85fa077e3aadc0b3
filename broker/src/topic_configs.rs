//! Every configuration of a topic: name, values, default, and the broker setting that stands behind it.
//!
//! Source: Kafka's `TopicConfig` and `ServerTopicConfigSynonyms`, 4.4.

use std::collections::BTreeMap;

use crate::config::{CLEANUP_POLICIES, COMPRESSION_TYPES, Config, Kind, TIMESTAMP_TYPES};

/// One topic configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicKey {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// Its default where no broker setting stands behind it.
    pub default: &'static str,
    /// The broker settings behind it: the first that is given wins; then the last one's default holds.
    pub synonyms: &'static [Synonym],
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// A broker setting behind a topic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Synonym {
    /// The broker setting.
    pub name: &'static str,
    /// What its value is multiplied with: hours to milliseconds, say.
    pub factor: i64,
    /// Whether Highwater has the setting; else its name only says where Kafka lists the default.
    pub is_ours: bool,
}

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

/// Where the value of a configuration comes from; the values are Kafka's `ConfigSource` codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Set in the broker's configuration.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

/// One place a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The name it has there.
    pub name: &'static str,
    /// Its value there.
    pub value: String,
    /// The place.
    pub source: ConfigSource,
}

/// The configuration of that name.
#[must_use]
pub(crate) fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

impl TopicKey {
    /// Every place that gives it a value; the first is in effect.
    #[must_use]
    pub(crate) fn origins(&self, own: &BTreeMap<String, String>, broker: &Config) -> Vec<Origin> {
        let mut origins = Vec::new();
        if let Some(value) = own.get(self.name) {
            let source = ConfigSource::DynamicTopic;
            origins.push(Origin {
                name: self.name,
                value: value.clone(),
                source,
            });
        }
        for synonym in self.synonyms {
            if synonym.is_ours && broker.source(synonym.name).is_given() {
                let value = synonym.value(broker);
                origins.push(Origin {
                    name: synonym.name,
                    value,
                    source: ConfigSource::StaticBroker,
                });
            }
        }
        match self.synonyms.last() {
            Some(last) => {
                let default = crate::config::find(last.name).and_then(|key| key.default);
                let value =
                    default.map_or_else(|| self.default.to_owned(), |text| last.scale(text));
                origins.push(Origin {
                    name: last.name,
                    value,
                    source: ConfigSource::Default,
                });
            }
            None => origins.push(Origin {
                name: self.name,
                value: self.default.to_owned(),
                source: ConfigSource::Default,
            }),
        }
        origins
    }

    /// Whether Kafka lists the default among the synonyms: where one broker setting stands behind it, not several.
    #[must_use]
    pub(crate) fn lists_default(&self) -> bool {
        self.synonyms.len() == 1
    }

    /// The value in effect.
    #[must_use]
    pub(crate) fn effective(&self, own: &BTreeMap<String, String>, broker: &Config) -> String {
        self.origins(own, broker).swap_remove(0).value
    }
}

impl Synonym {
    fn value(&self, broker: &Config) -> String {
        self.scale(broker.get(self.name).unwrap_or_default())
    }

    fn scale(&self, text: &str) -> String {
        match text.trim().parse::<i64>() {
            Ok(number) if self.factor != 1 && number >= 0 => {
                number.saturating_mul(self.factor).to_string()
            }
            _ => text.trim().to_owned(),
        }
    }
}

/// Checks a topic's own configurations.
///
/// # Errors
/// What is wrong with the first bad one, in the words of Kafka's tools.
pub(crate) fn check(own: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in own {
        let key = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        key.kind
            .check(value)
            .map_err(|why| format!("Invalid value {value} for configuration {name}: {why}"))?;
    }
    let is_set = |name: &str, to: &str| {
        let own = own.get(name).map(|value| value.trim());
        own.is_some_and(|own| own.eq_ignore_ascii_case(to))
    };
    if is_set("remote.storage.enable", "true") {
        let why = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
                   storage.";
        return Err(why.to_owned());
    }
    if is_set("compression.gzip.level", "0") {
        let why = "Value must be between 1 and 9 or equal to -1";
        return Err(format!(
            "Invalid value 0 for configuration compression.gzip.level: {why}"
        ));
    }
    let lag = |name: &str, default: i64| -> i64 {
        let own = own.get(name).and_then(|value| value.trim().parse().ok());
        own.unwrap_or(default)
    };
    let (min, max) = (
        lag("min.compaction.lag.ms", 0),
        lag("max.compaction.lag.ms", i64::MAX),
    );
    if min > max {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(flags: &[(&str, &str)]) -> Config {
        let flags: Vec<(String, String)> = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Config::load(None, [], &flags).expect("sound")
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_sound() {
        assert!(
            TOPIC_KEYS
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        for key in TOPIC_KEYS {
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
            for synonym in key.synonyms.iter().filter(|synonym| synonym.is_ours) {
                assert!(
                    crate::config::find(synonym.name).is_some(),
                    "{}",
                    synonym.name
                );
            }
            let effective = key.effective(&BTreeMap::new(), &broker(&[]));
            assert_eq!(effective, key.default, "{}", key.name);
        }
    }

    #[test]
    fn the_topic_wins_over_the_broker_and_the_finer_unit_over_the_coarser() {
        let key = find("retention.ms").expect("exists");
        let broker = broker(&[("log.retention.minutes", "2"), ("log.retention.hours", "1")]);
        let own = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let origins = key.origins(&own, &broker);
        let values: Vec<(&str, &str)> = origins
            .iter()
            .map(|origin| (origin.name, origin.value.as_str()))
            .collect();
        let expected = [
            ("retention.ms", "5"),
            ("log.retention.minutes", "120000"),
            ("log.retention.hours", "3600000"),
            ("log.retention.hours", "604800000"),
        ];
        assert_eq!(values, expected);
        assert_eq!(key.effective(&BTreeMap::new(), &broker), "120000");
    }

    #[test]
    fn unknown_and_bad_configurations_are_named() {
        let own = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert!(check(&own("retention.ms", "7")).is_ok());
        assert!(
            check(&own("retention.mz", "7"))
                .expect_err("unknown")
                .contains("retention.mz")
        );
        assert!(check(&own("retention.ms", "x")).is_err());
        assert!(check(&own("cleanup.policy", "compact,delete")).is_ok());
        assert!(check(&own("cleanup.policy", "")).is_ok());
        assert!(check(&own("compression.gzip.level", "0")).is_err());
        assert!(check(&own("remote.storage.enable", "false")).is_ok());
        let tiered = check(&own("remote.storage.enable", "TRUE")).expect_err("refused");
        assert!(tiered.contains("Tiered Storage functionality is disabled"));
        let lags = BTreeMap::from([
            ("min.compaction.lag.ms".to_owned(), "10".to_owned()),
            ("max.compaction.lag.ms".to_owned(), "5".to_owned()),
        ]);
        assert!(check(&lags).is_err());
    }
}
