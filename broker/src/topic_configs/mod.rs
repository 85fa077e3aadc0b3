//! Every configuration of a topic: name, values, default, and the broker settings from which the default comes.
//!
//! Source: Kafka's `TopicConfig` and `ServerTopicConfigSynonyms`, 4.4.

mod table;

use std::collections::BTreeMap;

pub(crate) use self::table::TOPIC_KEYS;
use crate::config::{Config, Kind};

/// One topic configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicKey {
    /// Its name.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: Kind,
    /// Its default, if no broker setting supplies it.
    pub default: &'static str,
    /// The broker settings that supply its default. The first one that is given decides; if none is given, the default
    /// of the last one holds.
    pub synonyms: &'static [Synonym],
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// A broker setting that supplies the default of a topic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Synonym {
    /// The broker setting.
    pub name: &'static str,
    /// The factor by which its value is multiplied, for instance from hours to milliseconds.
    pub factor: i64,
    /// Whether Highwater has the setting. If not, the name only says under which setting Kafka lists the default.
    pub is_ours: bool,
}

/// The source of a configuration's value; the discriminants are Kafka's `ConfigSource` codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Set in the broker's configuration.
    StaticBroker = 4,
    /// It is not set.
    Default = 5,
}

/// One source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its name there.
    pub name: &'static str,
    /// Its value there.
    pub value: String,
    /// The source.
    pub source: ConfigSource,
}

/// The configuration of that name.
#[must_use]
pub(crate) fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

impl TopicKey {
    /// Every source that gives it a value; the first one is in effect.
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

    /// Whether Kafka lists the default among the synonyms, which it does if a single broker setting supplies it.
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
/// The reason why the first bad one is refused, in the words that Kafka's tools show.
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
