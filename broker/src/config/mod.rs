//! The configuration of a node: a Kafka `server.properties`, the environment and flags over it.
//!
//! Later sources win: file, then `HIGHWATER_<KEY>` (upper case, dots as underscores), then `--set KEY=VALUE`. Every
//! violation is reported at once, and the process refuses to start.

mod environment;
pub(crate) mod keys;
mod listeners;
mod memory;
mod nearest;
pub(crate) mod properties;
mod replicas;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_object_storage::{CredentialSource, S3Config};
use highwater_types::{ByteSize, NodeId};

use crate::net::FrameLimits;

pub use keys::{CLEANUP_POLICIES, COMPRESSION_TYPES, Key, Kind, TIMESTAMP_TYPES, find};
pub use listeners::{Advertised, Listener};
pub use memory::MemoryPlan;
pub(crate) use memory::for_small;

const FRAME_BYTES_MAX: &str = "socket.request.max.bytes";

/// What is wrong with a configuration: every violation, a line each.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is refused:\n  {}", .0.join("\n  "))]
pub struct ConfigErrors(pub Vec<String>);

/// What of the machine defaults follow from; nothing known leaves Kafka's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name: what a listener on every address advertises.
    pub name: Option<String>,
    /// The bytes of memory this process may have, where they are limited.
    pub memory_bytes: Option<u64>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The file, the environment or a flag.
    Given,
}

/// The effective configuration of a node.
#[derive(Debug, Clone)]
pub struct Config {
    given: BTreeMap<String, String>,
    /// Defaults that follow from the machine.
    machine: BTreeMap<&'static str, String>,
    /// Settings of Kafka's that were given and have no effect.
    pub without_effect: Vec<String>,
    /// `node.id`.
    pub node_id: NodeId,
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// What clients are told.
    pub advertised: Vec<Advertised>,
    /// `highwater.data.dir`.
    pub data_dir: PathBuf,
    /// `highwater.object.storage` and what lies under it.
    pub object_storage: highwater_object_storage::Config,
    /// How `highwater.memory.limit` is shared out.
    pub memory: MemoryPlan,
    /// `max.connections.per.ip.overrides`.
    pub connections_per_ip: BTreeMap<IpAddr, usize>,
}

impl Config {
    /// Reads a file's text, the environment and flags.
    ///
    /// # Errors
    /// Every violation at once.
    pub fn load(
        file: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        Self::load_on(&Host::default(), file, environment, flags)
    }

    /// As [`Config::load`], with the defaults that follow from a machine.
    ///
    /// # Errors
    /// Every violation at once.
    pub fn load_on(
        host: &Host,
        file: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut given = BTreeMap::new();
        match properties::parse(file.unwrap_or_default()) {
            Ok(found) => {
                for property in found {
                    given.insert(property.key, property.value);
                }
            }
            Err(malformed) => errors.extend(malformed),
        }
        for (variable, value) in environment {
            match environment::setting(&variable) {
                Ok(Some(name)) => drop(given.insert(name.to_owned(), value)),
                Ok(None) => {}
                Err(why) => errors.push(why),
            }
        }
        given.extend(flags.iter().cloned());
        let without_effect = take_without_effect(&mut given);
        // what is wrong by itself is left out of what is looked at together, so that all of it is told at once
        for name in check(&given, &mut errors) {
            given.remove(&name);
        }
        match Self::resolve(given, without_effect, host) {
            Ok(config) if errors.is_empty() => Ok(config),
            Ok(_) => Err(ConfigErrors(errors)),
            Err(more) => {
                errors.extend(more.0);
                Err(ConfigErrors(errors))
            }
        }
    }

    fn resolve(
        given: BTreeMap<String, String>,
        without_effect: Vec<String>,
        host: &Host,
    ) -> Result<Self, ConfigErrors> {
        let mut config = Self {
            given,
            machine: memory::machine(host.memory_bytes),
            without_effect,
            node_id: NodeId(0),
            listeners: Vec::new(),
            advertised: Vec::new(),
            data_dir: PathBuf::new(),
            object_storage: Default::default(),
            memory: MemoryPlan::default(),
            connections_per_ip: BTreeMap::new(),
        };
        config.node_id = NodeId(config.int("node.id"));
        config.data_dir = PathBuf::from(config.text("highwater.data.dir"));
        config.object_storage = object_storage(&config);
        config.memory = MemoryPlan::new(config.size("highwater.memory.limit"));
        let mut errors = Vec::new();
        match listeners::resolve(
            config.text("listeners"),
            config.get("advertised.listeners"),
            config.text("listener.security.protocol.map"),
            host.name.as_deref(),
        ) {
            Ok((listeners, advertised)) => {
                config.listeners = listeners;
                config.advertised = advertised;
            }
            Err(wrong) => errors.extend(wrong),
        }
        match overrides(config.text("max.connections.per.ip.overrides")) {
            Ok(found) => config.connections_per_ip = found,
            Err(why) => errors.push(format!("max.connections.per.ip.overrides: {why}")),
        }
        if config.text("process.roles").split(',').count() != 2 {
            errors.push(
                "process.roles: only broker,controller together is supported today".to_owned(),
            );
        }
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// The effective value of a setting; `None` where it is unset and has no default.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given
            .get(name)
            .map(String::as_str)
            .or_else(|| self.default_of(name))
    }

    /// What a setting is where nobody sets it.
    #[must_use]
    pub fn default_of(&self, name: &str) -> Option<&str> {
        let machine = self.machine.get(name).map(String::as_str);
        machine.or_else(|| find(name).and_then(|key| key.default))
    }

    /// What is in force in place of `socket.request.max.bytes`, where the memory limit allows no more; a sentence.
    fn less_than_asked(&self) -> Option<String> {
        let (asked, in_force) = (self.int(FRAME_BYTES_MAX), self.frames().held);
        (usize::try_from(asked) != Ok(in_force)).then(|| {
            format!(
                "{FRAME_BYTES_MAX} is {asked}, and {in_force} is in force, for highwater.memory.limit={} allows no more: \
                 a larger produce is answered MESSAGE_TOO_LARGE",
                self.text("highwater.memory.limit")
            )
        })
    }

    /// What was asked for and the one node there is can't do; a sentence each.
    #[must_use]
    pub fn out_of_reach(&self) -> Vec<String> {
        let factors = [
            (
                "offsets.topic.replication.factor",
                "__consumer_offsets can't be created, so no group works",
            ),
            (
                "default.replication.factor",
                "topics without a replication factor of their own are refused",
            ),
        ];
        let beyond = factors.into_iter().filter(|(name, _)| self.int(name) > 1);
        let told = beyond.map(|(name, so)| {
            format!(
                "{name} is {}, and there is one node: {so}; set it to 1",
                self.int(name)
            )
        });
        let given = self.source(FRAME_BYTES_MAX) == Source::Given;
        let less = self.less_than_asked().filter(|_| given);
        told.chain(less).collect()
    }

    /// Where the value comes from.
    #[must_use]
    pub fn source(&self, name: &str) -> Source {
        if self.given.contains_key(name) {
            Source::Given
        } else {
            Source::Default
        }
    }

    /// A setting that has a default.
    ///
    /// # Panics
    /// When it has none: our mistake.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).expect("the setting has a default")
    }

    /// A number, checked when loaded.
    ///
    /// # Panics
    /// When it is unset: our mistake.
    #[must_use]
    pub fn long(&self, name: &str) -> i64 {
        self.text(name)
            .trim()
            .parse()
            .expect("numbers are checked when loaded")
    }

    /// A number of Kafka's type `int`.
    ///
    /// # Panics
    /// When it is unset: our mistake.
    #[must_use]
    pub fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).expect("bounds are checked when loaded")
    }

    /// A truth value.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        self.text(name).trim().eq_ignore_ascii_case("true")
    }

    /// Bytes.
    ///
    /// # Panics
    /// When it is unset: our mistake.
    #[must_use]
    pub fn size(&self, name: &str) -> u64 {
        self.text(name)
            .parse::<ByteSize>()
            .expect("sizes are checked when loaded")
            .0
    }

    /// Milliseconds.
    #[must_use]
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.long(name)).unwrap_or(u64::MAX))
    }

    /// How large frames may be: no larger than was asked for, and what is held no larger than there is memory for (M1).
    #[must_use]
    pub(crate) fn frames(&self) -> FrameLimits {
        let read = usize::try_from(self.int(FRAME_BYTES_MAX)).unwrap_or_default();
        let held = usize::try_from(self.memory.large_frames()).unwrap_or(usize::MAX);
        FrameLimits {
            held: held.min(read),
            read,
        }
    }

    /// Entries of the metadata's log after which it is replaced by a snapshot.
    #[must_use]
    pub fn snapshot_entries(&self) -> u64 {
        u64::try_from(self.int("highwater.metadata.snapshot.entries")).unwrap_or(u64::MAX)
    }

    /// Bytes of the metadata's log after which it is replaced by a snapshot: it stays in memory until then.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        let asked = self.long("metadata.log.max.record.bytes.between.snapshots");
        let asked = u64::try_from(asked).unwrap_or_default();
        asked.min(self.memory.limit / 16)
    }

    /// The effective configuration as a `server.properties`, with a comment on each setting.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", environment::RULE);
        for key in keys::all() {
            let source = match self.source(key.name) {
                Source::Default => "default",
                Source::Given => "given",
            };
            out.push_str(&format!("# {} ({source})\n", key.doc));
            if let Some(less) = self
                .less_than_asked()
                .filter(|_| key.name == FRAME_BYTES_MAX)
            {
                out.push_str(&format!("# {less}\n"));
            }
            match self.get(key.name) {
                Some(value) => out.push_str(&format!("{}={value}\n\n", key.name)),
                None => out.push_str(&format!("#{}=\n\n", key.name)),
            }
        }
        out
    }
}

fn object_storage(config: &Config) -> highwater_object_storage::Config {
    let own = |name: &str| {
        config
            .get(&format!("highwater.object.storage.{name}"))
            .map(str::to_owned)
    };
    let in_data_dir = || format!("file://{}", config.data_dir.join("objects").display());
    highwater_object_storage::Config {
        url: config
            .get("highwater.object.storage")
            .map_or_else(in_data_dir, str::to_owned),
        s3: S3Config {
            endpoint: own("endpoint"),
            region: own("region"),
            path_style: own("path.style")
                .map(|_| config.bool("highwater.object.storage.path.style")),
            ca_file: own("ca.file").map(PathBuf::from),
            kms_key: own("kms.key"),
            credentials: CredentialSource::find(
                config.text("highwater.object.storage.credentials"),
            )
            .unwrap_or_default(),
            profile: own("profile"),
        },
    }
}

/// Reads `127.0.0.1:5,[::1]:3`.
fn overrides(text: &str) -> Result<BTreeMap<IpAddr, usize>, String> {
    let parts = text.split(',').map(str::trim);
    let one = |part: &str| {
        let wrong = || format!("{part} is not of the form address:count");
        let (address, count) = part.rsplit_once(':').ok_or_else(wrong)?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse().map_err(|_cause| wrong())?;
        Ok((address, count.parse().map_err(|_cause| wrong())?))
    };
    parts.filter(|part| !part.is_empty()).map(one).collect()
}

fn take_without_effect(given: &mut BTreeMap<String, String>) -> Vec<String> {
    let found: Vec<String> = given
        .keys()
        .filter(|key| keys::WITHOUT_EFFECT.contains(&key.as_str()))
        .cloned()
        .collect();
    for key in &found {
        given.remove(key);
    }
    found
}

/// Checks each setting by itself; answers those that are wrong.
fn check(given: &BTreeMap<String, String>, errors: &mut Vec<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, value) in given {
        let why = match find(name) {
            Some(key) => key.kind.check(value).err(),
            None => {
                let hint = nearest::nearest(name);
                let hint = hint.map(|other| format!("; is {other} meant?"));
                Some(format!("no such setting{}", hint.unwrap_or_default()))
            }
        };
        let why = why.or_else(|| {
            let is_zero = name == "compression.gzip.level" && value.trim() == "0";
            is_zero.then(|| "Value must be between 1 and 9 or equal to -1".to_owned())
        });
        if let Some(why) = why {
            errors.push(format!("{name}: {why}"));
            wrong.push(name.clone());
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn later_sources_win() {
        let file = "node.id=1\nnum.partitions=2\nnum.io.threads=8\nlog.retention.ms=5\n";
        let environment = [
            flag("HIGHWATER_NUM_PARTITIONS", "3"),
            flag("HIGHWATER_NODE_ID", "4"),
        ];
        let config =
            Config::load(Some(file), environment, &[flag("node.id", "7")]).expect("a sound one");
        assert_eq!(config.node_id, NodeId(7));
        assert_eq!(config.int("num.partitions"), 3);
        assert_eq!(config.long("log.retention.ms"), 5);
        assert_eq!(config.source("num.partitions"), Source::Given);
        assert_eq!(config.without_effect, ["num.io.threads"]);
        assert!(config.render().contains("num.partitions=3\n"));
    }

    #[test]
    fn what_the_environment_misspells_is_refused_as_what_a_flag_does() {
        let environment = [
            flag("HIGHWATER_NUM_PARTITION", "3"),
            flag("HIGHWATER_NUM_IO_THREADS", "8"),
            flag("HOME", "/root"),
        ];
        let errors = Config::load(None, environment, &[])
            .expect_err("a mistake")
            .0;
        let told = "HIGHWATER_NUM_PARTITION: no such setting; is HIGHWATER_NUM_PARTITIONS meant?";
        assert_eq!(errors, [told]);
    }

    #[test]
    fn memory_follows_from_the_machine_unless_it_is_set() {
        let limit = |bytes, flags: &[(String, String)]| {
            let host = Host {
                memory_bytes: bytes,
                ..Host::default()
            };
            let config = Config::load_on(&host, None, [], flags).expect("sound");
            assert_eq!(
                config.source("highwater.memory.limit") == Source::Given,
                !flags.is_empty()
            );
            config.memory.limit
        };
        assert_eq!(limit(None, &[]), 1 << 30);
        assert_eq!(limit(Some(10 << 30), &[]), 8 << 30);
        assert_eq!(limit(Some(1 << 20), &[]), 64 << 20);
        let given = [flag("highwater.memory.limit", "128MiB")];
        assert_eq!(limit(Some(10 << 30), &given), 128 << 20);
    }

    #[test]
    fn what_one_node_cannot_do_is_told_with_its_setting() {
        let flags = [flag("offsets.topic.replication.factor", "3")];
        let config = Config::load(None, [], &flags).expect("sound");
        let told = config.out_of_reach();
        let named = |text: &str| told.iter().any(|line| line.contains(text));
        assert!(
            told.len() == 1 && named("offsets.topic.replication.factor is 3"),
            "{told:?}"
        );
        let config = Config::load(None, [], &[]).expect("sound");
        assert!(config.out_of_reach().is_empty());
    }

    // Kafka's stock server.properties, and what `highwater config` prints
    #[test]
    fn a_frame_larger_than_memory_allows_starts_with_what_is_in_force() {
        let stock = "socket.request.max.bytes=104857600\n";
        let with = |file, limit: &str| {
            let limit = flag("highwater.memory.limit", limit);
            Config::load(file, [], &[limit]).expect("it starts")
        };
        let config = with(Some(stock), "1GiB");
        assert_eq!(config.frames().held, 100 << 20);
        assert!(config.out_of_reach().is_empty());
        let config = with(Some(stock), "512MiB");
        assert_eq!(config.frames().held, 48 << 20);
        assert_eq!(config.frames().read, 100 << 20);
        let told = config.out_of_reach().join("\n");
        assert!(
            told.contains("104857600, and 50331648 is in force"),
            "{told}"
        );
        let by_default = with(None, "512MiB");
        assert!(by_default.out_of_reach().is_empty());
        let printed = by_default.render();
        assert!(printed.contains("50331648 is in force"), "{printed}");
        let again = Config::load(Some(&printed), [], &[]).expect("its own output");
        assert_eq!(again.frames().held, by_default.frames().held);
    }

    #[test]
    fn every_violation_is_reported_at_once() {
        let flags = [
            flag("num.partition", "1"),
            flag("node.id", "-1"),
            flag("auto.create.topics.enable", "perhaps"),
            flag("highwater.memory.limit", "lots"),
            flag("compression.gzip.level", "0"),
            flag("listeners", "PLAINTEXT://0.0.0.0:9092,SSL://a:1"),
            flag("process.roles", "broker"),
            flag("max.connections.per.ip.overrides", "127.0.0.1:x"),
        ];
        let errors = Config::load(None, [], &flags).expect_err("mistakes").0;
        assert_eq!(errors.len(), 9, "{errors:?}");
        assert!(
            errors
                .iter()
                .any(|line| line.contains("is num.partitions meant?"))
        );
        let errors = Config::load(None, [], &[flag("listeners", "nonsense")]).expect_err("refused");
        assert!(errors.to_string().contains("listeners"));
    }
}
