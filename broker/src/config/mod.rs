//! The configuration of a node: a Kafka `server.properties`, which the environment and flags override.
//!
//! The environment (`HIGHWATER_<KEY>`, upper case, dots as underscores) overrides the file, and `--set KEY=VALUE`
//! overrides both. All violations are reported together, and the process refuses to start.

mod client;
mod environment;
mod given;
pub(crate) mod keys;
mod listeners;
mod memory;
mod nearest;
mod object_wal;
pub(crate) mod properties;
mod providers;
mod quorum;
mod replicas;
mod source;
#[cfg(test)]
mod tests;
mod tls;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_object_storage::{CredentialSource, Place, S3Config};
use highwater_types::{ByteSize, NodeId};

use crate::net::FrameLimits;
use given::{Settings, refused};
use listeners::Protocols;

pub use client::client;
pub use keys::{CLEANUP_POLICIES, COMPRESSION_TYPES, Key, Kind, TIMESTAMP_TYPES, find};
pub use listeners::{Advertised, Listener, Protocol, address};
pub use memory::MemoryPlan;
pub(crate) use memory::for_small;
pub use quorum::{Controller, Quorum, Roles};
pub use source::{File, Source};
pub use tls::Tls;

const FRAME_BYTES_MAX: &str = "socket.request.max.bytes";
const SESSION: &str = "broker.session.timeout.ms";
const HEARTBEAT: &str = "broker.heartbeat.interval.ms";
const SNAPSHOT_BYTES: &str = "metadata.log.max.record.bytes.between.snapshots";
/// The least bytes of the metadata log after which a snapshot is taken; Kafka allows a single byte.
const SNAPSHOT_BYTES_MIN: u64 = 64 << 10;
const STORE: &str = "highwater.object.storage";
const ENDPOINT: &str = "highwater.object.storage.endpoint";
const ADMIN: &str = "highwater.admin.listener";
const PER_IP: &str = "max.connections.per.ip.overrides";
/// Kafka's settings for the place of its data.
const DIRECTORIES: &[&str] = &["log.dir", "log.dirs", "metadata.log.dir"];

/// The violations of a configuration, a line each.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is refused:\n  {}", .0.join("\n  "))]
pub struct ConfigErrors(pub Vec<String>);

/// The facts about the machine from which defaults follow; where one is unknown, Kafka's default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name, which a listener on every address advertises.
    pub name: Option<String>,
    /// The bytes of memory that this process may have, if they are limited.
    pub memory_bytes: Option<u64>,
}

/// The effective configuration of a node.
#[derive(Debug, Clone)]
pub struct Config {
    given: Settings,
    /// Defaults that follow from the machine.
    machine: BTreeMap<&'static str, String>,
    /// Settings of Kafka that were given and have no effect.
    without_effect: Vec<String>,
    /// `node.id`.
    pub node_id: NodeId,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The addresses that clients are told.
    pub advertised: Vec<Advertised>,
    /// The roles of this process and its controllers.
    pub quorum: Quorum,
    /// The settings of the listeners and the calls that are on TLS.
    pub tls: Tls,
    /// `highwater.admin.listener`: its host (empty means every address) and port; `None` if it is empty.
    pub admin: Option<(String, u16)>,
    /// `highwater.data.dir` as an absolute path.
    pub data_dir: PathBuf,
    /// `highwater.object.storage` and the settings whose names begin with it.
    pub object_storage: highwater_object_storage::Config,
    /// How `highwater.memory.limit` is shared out.
    pub memory: MemoryPlan,
    /// `max.connections.per.ip.overrides`.
    pub connections_per_ip: BTreeMap<IpAddr, usize>,
}

impl Config {
    /// Reads a file, the environment and flags.
    ///
    /// # Errors
    /// All violations together.
    pub fn load(
        file: Option<File<'_>>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        Self::load_on(&Host::default(), file, environment, flags)
    }

    /// As [`Config::load`], with the defaults that follow from a machine.
    ///
    /// # Errors
    /// All violations together.
    pub fn load_on(
        host: &Host,
        file: Option<File<'_>>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut given = given::read(file, environment, flags, &mut errors);
        let without_effect = given::take_without_effect(&mut given);
        given::check(&mut given, &mut errors);
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
        given: Settings,
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
            quorum: Quorum::default(),
            tls: Tls::default(),
            admin: None,
            data_dir: PathBuf::new(),
            object_storage: Default::default(),
            memory: MemoryPlan::default(),
            connections_per_ip: BTreeMap::new(),
        };
        config.node_id = NodeId(config.int("node.id"));
        let data_dir = PathBuf::from(config.text("highwater.data.dir"));
        config.data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
        config.object_storage = object_storage(&config);
        config.memory = MemoryPlan::new(config.size("highwater.memory.limit"));
        let mut errors = config.resolve_addresses(host);
        errors.extend(object_wal::check(&config));
        errors.extend(config.check_session());
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Reads the settings that have a form of their own; returns the violations.
    fn resolve_addresses(&mut self, host: &Host) -> Vec<String> {
        let mut errors = Vec::new();
        let protocols = self.protocols();
        match listeners::resolve(
            self.text("listeners"),
            self.get("advertised.listeners"),
            &protocols,
            host.name.as_deref(),
        ) {
            Ok((listeners, advertised)) => {
                self.listeners = listeners;
                self.advertised = advertised;
                match quorum::resolve(self.quorum_given(), &self.listeners) {
                    Ok(quorum) => self.quorum = quorum,
                    Err(wrong) => errors.extend(wrong),
                }
                match tls::resolve(self, &protocols) {
                    Ok(tls) => self.tls = tls,
                    Err(wrong) => errors.extend(wrong),
                }
                let quorum = &self.quorum;
                let (for_nodes, for_clients) = std::mem::take(&mut self.advertised)
                    .into_iter()
                    .partition(|told| quorum.is_listener(&told.name));
                self.advertised = for_clients;
                self.quorum.advertised = for_nodes;
            }
            Err(wrong) => errors.extend(wrong),
        }
        let mut refuse = |name: &str, why: &str| {
            errors.push(match self.given.get(name) {
                Some(given) => refused(name, given, why),
                None => format!("{name}: {why}"),
            });
        };
        match overrides(self.text(PER_IP)) {
            Ok(found) => self.connections_per_ip = found,
            Err(why) => refuse(PER_IP, &why),
        }
        let admin = self.text(ADMIN).trim();
        match (!admin.is_empty()).then(|| address(admin)).transpose() {
            Ok(admin) => self.admin = admin,
            Err(why) => refuse(ADMIN, &why),
        }
        if let Err(why) = Place::parse(&self.object_storage.url) {
            refuse(STORE, &why);
        }
        if let Some(Err(why)) = self.get(ENDPOINT).map(S3Config::split_endpoint) {
            refuse(ENDPOINT, &why);
        }
        errors
    }

    /// The protocols of the listeners. As in Kafka, a controller's listener is PLAINTEXT unless
    /// `listener.security.protocol.map` is given, or a listener is named after another protocol
    /// (`KafkaConfig.effectiveListenerSecurityProtocolMap`).
    fn protocols(&self) -> Protocols {
        const MAP: &str = "listener.security.protocol.map";
        let mut protocols = self.text(MAP).to_owned();
        let names = quorum::listener_names(self.text("controller.listener.names"));
        let is_secure = |name: &str| ["SSL", "SASL_SSL", "SASL_PLAINTEXT"].contains(&name);
        let listeners = self.text("listeners").to_ascii_uppercase();
        let mut listeners = listeners.split(',').map(|text| text.trim().split("://"));
        let has_secure = names.iter().any(|name| is_secure(name))
            || listeners.any(|mut parts| parts.next().is_some_and(is_secure));
        if !self.given.contains_key(MAP) && !has_secure {
            for name in names {
                protocols.push_str(&format!(",{name}:PLAINTEXT"));
            }
        }
        Protocols::new(&protocols)
    }

    /// Whether the object store is in the node's data directory, because none is set, although other nodes need it too.
    pub(crate) fn lacks_common_store(&self) -> bool {
        let Quorum {
            roles, controllers, ..
        } = &self.quorum;
        let is_alone = roles.broker && roles.controller && controllers.len() <= 1;
        !is_alone && self.get(STORE).is_none()
    }

    /// Whether this process has a listener of this name.
    fn has_listener(&self, name: &str) -> bool {
        self.listeners.iter().any(|listener| listener.name == name)
    }

    fn quorum_given(&self) -> quorum::Given<'_> {
        quorum::Given {
            node: self.node_id,
            roles: self.text("process.roles"),
            listener_names: self.text("controller.listener.names"),
            voters: self.text("controller.quorum.voters"),
            bootstrap: self.text("controller.quorum.bootstrap.servers"),
            inter_broker: self.get("inter.broker.listener.name"),
            inter_broker_protocol: self
                .given
                .get("security.inter.broker.protocol")
                .map(|given| given.value.as_str()),
        }
    }

    /// The effective value of a setting; `None` where it is unset and has no default.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given
            .get(name)
            .map(|given| given.value.as_str())
            .or_else(|| self.default_of(name))
    }

    /// The value of a setting that is not set.
    #[must_use]
    pub fn default_of(&self, name: &str) -> Option<&str> {
        let machine = self.machine.get(name).map(String::as_str);
        machine.or_else(|| find(name).and_then(|key| key.default))
    }

    /// A sentence that says what is in force instead of `socket.request.max.bytes`, if the memory limit allows less.
    fn less_than_asked(&self) -> Option<String> {
        let (asked, in_force) = (self.int(FRAME_BYTES_MAX), self.frames().held);
        (usize::try_from(asked) != Ok(in_force)).then(|| {
            format!(
                "{FRAME_BYTES_MAX} is {asked}, and {in_force} is in force, because highwater.memory.limit={} allows no \
                 more: a larger produce request is answered MESSAGE_TOO_LARGE",
                self.text("highwater.memory.limit")
            )
        })
    }

    /// A sentence that says what is in force instead of `metadata.log.max.record.bytes.between.snapshots`, if it
    /// differs.
    fn snapshots_otherwise(&self) -> Option<String> {
        let (asked, in_force) = (self.long(SNAPSHOT_BYTES), self.snapshot_bytes());
        let why = match u64::try_from(asked).unwrap_or_default().cmp(&in_force) {
            Ordering::Less => "because each snapshot writes all metadata".to_owned(),
            Ordering::Equal => return None,
            Ordering::Greater => format!(
                "because highwater.memory.limit={} allows no more",
                self.text("highwater.memory.limit")
            ),
        };
        Some(format!(
            "{SNAPSHOT_BYTES} is {asked}, and {in_force} is in force, {why}"
        ))
    }

    /// A sentence that says what is in force instead of a setting's value, if it differs.
    fn otherwise(&self, name: &str) -> Option<String> {
        match name {
            FRAME_BYTES_MAX => self.less_than_asked(),
            SNAPSHOT_BYTES => self.snapshots_otherwise(),
            _ => None,
        }
    }

    /// A sentence for each setting that is not in force as given, because a single node can't do it or because another
    /// setting decides.
    #[must_use]
    pub fn out_of_reach(&self) -> Vec<String> {
        let factors = [
            (
                "offsets.topic.replication.factor",
                "__consumer_offsets can't be created, so no group works",
            ),
            (
                "default.replication.factor",
                "topics that are created without a replication factor are refused",
            ),
        ];
        let beyond = factors.into_iter().filter(|(name, _)| self.int(name) > 1);
        let told = beyond.map(|(name, so)| {
            format!(
                "{name} is {}, but there is one node: {so}; set it to 1",
                self.int(name)
            )
        });
        let given = [FRAME_BYTES_MAX, SNAPSHOT_BYTES].into_iter();
        let given = given.filter(|name| self.source(name).is_given());
        told.chain(given.filter_map(|name| self.otherwise(name)))
            .chain(self.elsewhere())
            .collect()
    }

    /// A sentence for each given setting that another setting makes void.
    fn elsewhere(&self) -> impl Iterator<Item = String> {
        let is_dir = |name: &&String| DIRECTORIES.contains(&name.as_str());
        let directories = self.without_effect.iter().filter(is_dir).map(|name| {
            let dir = self.data_dir.display();
            format!("{name} has no effect: data is in highwater.data.dir={dir}")
        });
        let kind = self.text("highwater.wal");
        let of_wal = self.given.keys().filter(move |_| kind != "object");
        let of_wal = of_wal.filter(|name| name.starts_with(object_wal::PREFIX));
        let of_wal =
            of_wal.map(move |name| format!("{name} has no effect: highwater.wal is {kind}"));
        let url = &self.object_storage.url;
        let is_s3 = matches!(Place::parse(url), Ok(Place::S3 { .. }));
        let of_s3 = self.given.keys().filter(move |_| !is_s3);
        let of_s3 = of_s3.filter(|name| name.starts_with("highwater.object.storage."));
        directories.chain(of_wal).chain(
            of_s3.map(move |name| format!("{name} has no effect: objects are in {STORE}={url}")),
        )
    }

    /// The given settings that have no effect here, except for those that [`Config::out_of_reach`] explains.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&str> {
        let names = self.without_effect.iter().map(String::as_str);
        names.filter(|name| !DIRECTORIES.contains(name)).collect()
    }

    /// The source of a setting's value.
    #[must_use]
    pub fn source(&self, name: &str) -> &Source {
        self.given
            .get(name)
            .map_or(&Source::Default, |given| &given.source)
    }

    /// The value of a setting that has a default.
    ///
    /// # Panics
    /// If it has none, which is a defect.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).expect("the setting has a default")
    }

    /// The value of a numeric setting, which was checked when it was loaded.
    ///
    /// # Panics
    /// If it is unset, which is a defect.
    #[must_use]
    pub fn long(&self, name: &str) -> i64 {
        self.text(name)
            .trim()
            .parse()
            .expect("numbers are checked when loaded")
    }

    /// The value of a setting of Kafka's type `int`.
    ///
    /// # Panics
    /// If it is unset, which is a defect.
    #[must_use]
    pub fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).expect("bounds are checked when loaded")
    }

    /// The value of a boolean setting.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        self.text(name).trim().eq_ignore_ascii_case("true")
    }

    /// The value of a setting in bytes.
    ///
    /// # Panics
    /// If it is unset, which is a defect.
    #[must_use]
    pub fn size(&self, name: &str) -> u64 {
        self.text(name)
            .parse::<ByteSize>()
            .expect("sizes are checked when loaded")
            .0
    }

    /// The value of a setting in milliseconds.
    #[must_use]
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.long(name)).unwrap_or(u64::MAX))
    }

    /// Three heartbeats fit in a session, so that a single one that is lost fences no broker.
    fn check_session(&self) -> Option<String> {
        let (interval, session) = (self.int(HEARTBEAT), self.int(SESSION));
        (interval > session / 3).then(|| {
            format!(
                "{HEARTBEAT}={interval}: must be at most a third of {SESSION}, which is {session}"
            )
        })
    }

    /// How long a broker counts as alive after its last heartbeat (E2, E6).
    #[must_use]
    pub(crate) fn session(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.int(SESSION)).unwrap_or(u64::MAX))
    }

    /// The rack of this broker; empty for none.
    #[must_use]
    pub(crate) fn rack(&self) -> &str {
        self.get("broker.rack").unwrap_or_default()
    }

    /// The interval of a broker's heartbeats.
    #[must_use]
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.int(HEARTBEAT)).unwrap_or(u64::MAX))
    }

    /// The largest frames: those that are read, as configured, and those that are held, which memory may limit further
    /// (M1).
    #[must_use]
    pub(crate) fn frames(&self) -> FrameLimits {
        let read = usize::try_from(self.int(FRAME_BYTES_MAX)).unwrap_or_default();
        let held = usize::try_from(self.memory.large_frames()).unwrap_or(usize::MAX);
        FrameLimits {
            held: held.min(read),
            read,
        }
    }

    /// The entries of the metadata log after which a snapshot replaces it.
    #[must_use]
    pub fn snapshot_entries(&self) -> u64 {
        u64::try_from(self.int("highwater.metadata.snapshot.entries")).unwrap_or(u64::MAX)
    }

    /// The bytes of the metadata log after which a snapshot replaces it; the log is in memory until then.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        let asked = self.long(SNAPSHOT_BYTES);
        let asked = u64::try_from(asked).unwrap_or_default();
        asked.min(self.memory.limit / 16).max(SNAPSHOT_BYTES_MIN)
    }

    /// The effective configuration as a `server.properties`, with a comment on each setting.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", environment::RULE);
        for key in keys::all() {
            let source = self.source(key.name);
            out.push_str(&format!("# {} ({source})\n", key.doc));
            if let Some(otherwise) = self.otherwise(key.name) {
                out.push_str(&format!("# {otherwise}\n"));
            }
            match self.get(key.name) {
                Some(value) => out.push_str(&format!("{}={}\n\n", key.name, shown(key, value))),
                None => out.push_str(&format!("#{}=\n\n", key.name)),
            }
        }
        for (name, given) in &self.given {
            if let Some((_, key)) = keys::of_listener(name) {
                let value = shown(key, &given.value);
                out.push_str(&format!(
                    "# {} ({})\n{name}={value}\n\n",
                    key.doc, given.source
                ));
            }
        }
        out
    }
}

/// A value as people may see it.
fn shown<'a>(key: &Key, value: &'a str) -> &'a str {
    match key.kind {
        Kind::Password => "[hidden]",
        _ => value,
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
        url: config.get(STORE).map_or_else(in_data_dir, str::to_owned),
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
