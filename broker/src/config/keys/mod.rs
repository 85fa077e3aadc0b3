//! Every setting of a broker, by section. Settings of Kafka have Kafka's names, ours begin with `highwater.`.

mod groups;
mod highwater;
pub(super) mod kafka;
mod kind;
mod log;
mod server;
mod tls;
mod topics;

pub use kind::Kind;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its default; `None` when it has none (Kafka's null).
    pub default: Option<&'static str>,
    /// The values that it takes.
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

/// The values of `compression.type`.
pub const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// The cleanup policies.
pub const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
/// The values of `log.message.timestamp.type`: the clock that stamps a record.
pub const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

/// The settings of each section, by name.
static SECTIONS: &[&[Key]] = &[
    server::KEYS,
    topics::KEYS,
    log::KEYS,
    groups::KEYS,
    tls::KEYS,
    highwater::KEYS,
];

/// Every setting, section by section.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().copied().flatten()
}

/// Settings of Kafka that a `server.properties` may have and that have no effect here: threads, replication, disks.
pub(super) static WITHOUT_EFFECT: &[&str] = &[
    "background.threads",
    "group.coordinator.threads",
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
    all().find(|key| key.name == name)
}

/// The listener, in lower case, and the setting of a name that has Kafka's prefix of a listener; `None` for any other
/// name.
#[must_use]
pub(super) fn of_listener(name: &str) -> Option<(&str, &'static Key)> {
    let rest = name.strip_prefix(LISTENER)?;
    let split = tls::KEYS
        .iter()
        .find_map(|key| Some((rest.strip_suffix(key.name)?.strip_suffix('.')?, key)));
    split.filter(|(listener, _)| !listener.is_empty())
}

/// The name of a setting for one listener alone, by Kafka's `ListenerName.configPrefix`.
#[must_use]
pub(super) fn for_listener(listener: &str, name: &str) -> String {
    format!("{LISTENER}{}.{name}", listener.to_ascii_lowercase())
}

/// The settings that may be given for one listener.
pub(super) fn by_listener() -> impl Iterator<Item = &'static Key> {
    tls::KEYS.iter()
}

/// The prefix of a setting for one listener.
const LISTENER: &str = "listener.name.";

/// A setting's name without Highwater's own prefix.
pub(super) fn bare(name: &str) -> &str {
    name.strip_prefix("highwater.").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_section_is_sorted_no_name_is_there_twice_and_defaults_are_sound() {
        for section in SECTIONS {
            assert!(section.windows(2).all(|pair| pair[0].name < pair[1].name));
        }
        let names: BTreeSet<_> = all().map(|key| key.name).collect();
        assert_eq!(names.len(), all().count());
        for key in all() {
            if let Some(default) = key.default {
                assert_eq!(key.kind.check(default), Ok(()), "{}", key.name);
            }
        }
    }
}
