//! The settings of TLS, by the rules of Kafka's `SslConfigs` and `DefaultSslEngineFactory`: those of each listener that
//! is on SSL, and those with which a node calls the controllers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use highwater_tls::{ClientAuth, Keystore, Secret, Settings, Source, Versions};

use super::given;
use super::keys::{self, for_listener};
use super::listeners::{Protocol, Protocols};
use super::{Config, find};

const KEYSTORE: &str = "ssl.keystore.location";
const CHAIN: &str = "ssl.keystore.certificate.chain";
const KEY: &str = "ssl.keystore.key";
const TRUSTSTORE: &str = "ssl.truststore.location";
const TRUSTED: &str = "ssl.truststore.certificates";
const CLIENT_AUTH: &str = "ssl.client.auth";
const PROTOCOLS: &str = "ssl.enabled.protocols";
const IDENTIFICATION: &str = "ssl.endpoint.identification.algorithm";
/// How a store of Java is converted.
const CONVERT: &str = "only PEM is supported: convert the store by `keytool -importkeystore -srckeystore STORE \
    -destkeystore store.p12 -deststoretype PKCS12` and `openssl pkcs12 -in store.p12 -nodes -out store.pem`, and set \
    the type to PEM";

/// The settings of TLS of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Those of each listener that is on SSL, by its name.
    pub listeners: BTreeMap<String, Settings>,
    /// Those with which the node calls controllers, if their listener is on SSL; with the name of that listener.
    pub controllers: Option<(String, Settings)>,
}

/// Resolves the settings, once the listeners and the quorum are.
///
/// # Errors
/// All violations.
pub(super) fn resolve(config: &Config, protocols: &Protocols) -> Result<Tls, Vec<String>> {
    let mut errors = unknown_listeners(config, protocols);
    let mut tls = Tls::default();
    let listeners = config.listeners.iter();
    for listener in listeners.filter(|listener| listener.protocol == Protocol::Ssl) {
        let name = listener.name.as_str();
        let of_controllers = config.quorum.is_listener(name);
        let side = if of_controllers {
            Side::Both
        } else {
            Side::Server
        };
        match SslSettings::of_listener(config, name).settings(side) {
            Ok(settings) => drop(tls.listeners.insert(name.to_owned(), settings)),
            Err(wrong) => errors.extend(wrong),
        }
    }
    // as in Kafka, nodes call controllers by the first of their listeners
    if let Some(name) = config.quorum.listeners.first() {
        match protocols.of(name) {
            Ok(Protocol::Plaintext) => {}
            // its settings were resolved, or found to be wrong, above
            Ok(Protocol::Ssl) if config.has_listener(name) => {
                let settings = tls.listeners.get(name).cloned();
                tls.controllers = settings.map(|settings| (name.clone(), settings));
            }
            Ok(Protocol::Ssl) => {
                match SslSettings::of_listener(config, name).settings(Side::Both) {
                    Ok(settings) => tls.controllers = Some((name.clone(), settings)),
                    Err(wrong) => errors.extend(wrong),
                }
            }
            Err(_) if config.has_listener(name) => {}
            Err(why) => errors.push(why),
        }
    }
    match errors.is_empty() {
        true => Ok(tls),
        false => Err(errors),
    }
}

/// The refusals of settings of listeners that there are not.
fn unknown_listeners(config: &Config, protocols: &Protocols) -> Vec<String> {
    let names = config.given.keys();
    let prefixed = names.filter_map(|name| Some((name, keys::of_listener(name)?.0)));
    let unknown = prefixed.filter(|(_, listener)| !protocols.has(&listener.to_ascii_uppercase()));
    let told = unknown.map(|(name, listener)| {
        format!("{name}: there is no listener {listener} in listener.security.protocol.map")
    });
    told.collect()
}

/// The side of a connection whose settings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A listener of clients: it needs a certificate.
    Server,
    /// A listener of controllers, and the calls to them: both sides need a certificate and verify the other's.
    Both,
    /// A program that calls a broker: it verifies the broker's certificate.
    Client,
}

/// The settings whose names begin with `ssl.`, of one listener or one client, as they are given.
#[derive(Clone, Copy)]
pub(super) struct SslSettings<'a> {
    given: &'a given::Settings,
    /// The listener's name; `None` for a client.
    listener: Option<&'a str>,
}

/// The name under which a setting was given, and its value, which is not empty.
type Found<'a> = (String, &'a str);

impl<'a> SslSettings<'a> {
    fn of_listener(config: &'a Config, name: &'a str) -> Self {
        Self {
            given: &config.given,
            listener: Some(name),
        }
    }

    /// The settings of a client.
    pub(super) fn of_client(given: &'a given::Settings) -> Self {
        Self {
            given,
            listener: None,
        }
    }

    /// The value of the listener's own setting, or else of the setting for all listeners, or else its default.
    fn get(self, setting: &str) -> Found<'a> {
        let own = self.listener.map(|name| for_listener(name, setting));
        let own = own.and_then(|own| Some((self.given.get(&own)?, own)));
        if let Some((given, own)) = own {
            return (own, given.value.trim());
        }
        let value = match self.given.get(setting) {
            Some(given) => Some(given.value.as_str()),
            None => find(setting).and_then(|key| key.default),
        };
        (setting.to_owned(), value.unwrap_or_default().trim())
    }

    /// The value of a setting, unless that is empty.
    fn find(self, setting: &str) -> Option<Found<'a>> {
        Some(self.get(setting)).filter(|(_, value)| !value.is_empty())
    }

    /// The settings of one side.
    ///
    /// # Errors
    /// All violations.
    pub(super) fn settings(self, side: Side) -> Result<Settings, Vec<String>> {
        let mut errors = Vec::new();
        let mut take = |wrong: String| errors.push(wrong);
        let keystore = self.keystore().unwrap_or_else(|wrong| {
            take(wrong);
            None
        });
        let truststore = self.truststore().unwrap_or_else(|wrong| {
            take(wrong);
            None
        });
        let client_auth = self.client_auth(side).unwrap_or_else(|wrong| {
            take(wrong);
            ClientAuth::Required
        });
        let versions = self.versions().unwrap_or_else(|wrong| {
            take(wrong);
            Versions::default()
        });
        let verifies_name = self.verifies_name().unwrap_or_else(|wrong| {
            take(wrong);
            true
        });
        let verifies = side != Side::Server || client_auth != ClientAuth::None;
        let it = match self.listener {
            Some(name) => format!("listeners: {name} is on SSL"),
            None => "security.protocol=SSL".to_owned(),
        };
        if errors.is_empty() && keystore.is_none() && side != Side::Client {
            errors.push(format!(
                "{it} and needs a certificate: set {KEYSTORE}, or {CHAIN} and {KEY}"
            ));
        }
        if errors.is_empty() && truststore.is_none() && verifies {
            errors.push(format!(
                "{it}, verifies certificates, and needs the authorities that it trusts: set {TRUSTSTORE} or {TRUSTED}"
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Settings {
            keystore,
            key_password: self.secret("ssl.key.password"),
            truststore,
            client_auth,
            versions,
            verifies_name,
        })
    }

    fn secret(self, setting: &str) -> Option<Secret> {
        self.find(setting)
            .map(|(_, value)| Secret(value.to_owned()))
    }

    /// Refuses a store that is not PEM.
    fn check_type(self, setting: &str) -> Result<(), String> {
        let (name, value) = self.get(setting);
        match value.eq_ignore_ascii_case("PEM") {
            true => Ok(()),
            false => Err(format!("{name}={value}: {CONVERT}")),
        }
    }

    fn keystore(self) -> Result<Option<Keystore>, String> {
        let text = |(setting, value): Found<'_>| Source::Text {
            setting,
            text: Secret(value.to_owned()),
        };
        let keystore = match (self.find(KEYSTORE), self.find(CHAIN), self.find(KEY)) {
            (None, None, None) => return Ok(None),
            (Some((_, path)), None, None) => Keystore::File(PathBuf::from(path)),
            (None, Some(chain), Some(key)) => Keystore::Texts {
                chain: text(chain),
                key: text(key),
            },
            (Some((name, _)), ..) => {
                return Err(format!(
                    "{name}: only one of it and {CHAIN} with {KEY} may be set"
                ));
            }
            (None, Some((name, _)), None) => return Err(format!("{name}: {KEY} is needed too")),
            (None, None, Some((name, _))) => return Err(format!("{name}: {CHAIN} is needed too")),
        };
        self.check_type("ssl.keystore.type")?;
        Ok(Some(keystore))
    }

    fn truststore(self) -> Result<Option<Source>, String> {
        let truststore = match (self.find(TRUSTSTORE), self.find(TRUSTED)) {
            (None, None) => return Ok(None),
            (Some((_, path)), None) => Source::File(PathBuf::from(path)),
            (None, Some((setting, value))) => Source::Text {
                setting,
                text: Secret(value.to_owned()),
            },
            (Some((name, _)), Some(_)) => {
                return Err(format!("{name}: only one of it and {TRUSTED} may be set"));
            }
        };
        self.check_type("ssl.truststore.type")?;
        Ok(Some(truststore))
    }

    /// A controllers' listener asks for certificates whatever is set for all listeners, because a call without one is
    /// refused.
    fn client_auth(self, side: Side) -> Result<ClientAuth, String> {
        let (name, value) = self.get(CLIENT_AUTH);
        let is_own = name != CLIENT_AUTH;
        match (side == Side::Both, is_own, value) {
            (true, true, "none") => Err(format!(
                "{name}=none: nodes show each other their certificates: use required or requested"
            )),
            (true, false, _) | (_, _, "required") => Ok(ClientAuth::Required),
            (_, _, "requested") => Ok(ClientAuth::Requested),
            _ => Ok(ClientAuth::None),
        }
    }

    fn versions(self) -> Result<Versions, String> {
        let (name, value) = self.get(PROTOCOLS);
        let has = |version| value.split(',').any(|one| one.trim() == version);
        let versions = Versions {
            tls12: has("TLSv1.2"),
            tls13: has("TLSv1.3"),
        };
        match versions.tls12 || versions.tls13 {
            true => Ok(versions),
            false => Err(format!(
                "{name}: at least one of TLSv1.2 and TLSv1.3 is needed"
            )),
        }
    }

    fn verifies_name(self) -> Result<bool, String> {
        let (name, value) = self.get(IDENTIFICATION);
        match value {
            "" => Ok(false),
            other if other.eq_ignore_ascii_case("https") => Ok(true),
            other => Err(format!("{name}={other}: neither https nor empty")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of a broker with these settings, in the form of a `server.properties`.
    fn load(text: &str) -> Result<Config, String> {
        let name = "server.properties";
        let file = super::super::File { name, text };
        Config::load(Some(file), [], &[]).map_err(|errors| errors.to_string())
    }

    const CLIENTS: &str =
        "listeners=SSL://127.0.0.1:9093\nssl.keystore.type=PEM\nssl.truststore.type=PEM\n";
    const CONTROLLERS: &str = "process.roles=broker\nnode.id=2\ncontroller.listener.names=CONTROLLER\n\
        listeners=PLAINTEXT://127.0.0.1:9092\ncontroller.quorum.voters=1@localhost:9094\n\
        listener.security.protocol.map=CONTROLLER:SSL,PLAINTEXT:PLAINTEXT\n\
        ssl.keystore.type=PEM\nssl.truststore.type=PEM\nssl.keystore.location=/k.pem\n";

    #[test]
    fn a_listener_of_clients_needs_a_key_alone() {
        let tls = load(&format!("{CLIENTS}ssl.keystore.location=/k.pem"))
            .expect("is sound")
            .tls;
        let settings = &tls.listeners["SSL"];
        assert_eq!(settings.keystore, Some(Keystore::File("/k.pem".into())));
        assert_eq!(
            (settings.client_auth, &settings.truststore),
            (ClientAuth::None, &None)
        );
        assert!(settings.verifies_name && tls.controllers.is_none());
        let inline = "ssl.keystore.key=K\nssl.keystore.certificate.chain=C\nssl.client.auth=required\n\
            ssl.truststore.certificates=T\nssl.key.password=P\nssl.enabled.protocols=TLSv1.3";
        let tls = load(&format!("{CLIENTS}{inline}")).expect("is sound").tls;
        let settings = &tls.listeners["SSL"];
        assert!(matches!(&settings.keystore, Some(Keystore::Texts { .. })));
        assert_eq!(settings.key_password, Some(Secret("P".to_owned())));
        assert!(settings.versions.tls13 && !settings.versions.tls12);
    }

    #[test]
    fn settings_of_a_listener_override_those_of_all() {
        let text = format!(
            "{CLIENTS}ssl.keystore.location=/k.pem\nssl.truststore.location=/t.pem\n\
             listener.name.ssl.ssl.keystore.location=/own.pem\nlistener.name.ssl.ssl.client.auth=requested\n\
             listener.name.ssl.ssl.endpoint.identification.algorithm=\n"
        );
        let tls = load(&text).expect("is sound").tls;
        let settings = &tls.listeners["SSL"];
        assert_eq!(settings.keystore, Some(Keystore::File("/own.pem".into())));
        assert_eq!(settings.client_auth, ClientAuth::Requested);
        assert!(!settings.verifies_name);
    }

    #[test]
    fn nodes_call_a_controllers_listener_as_the_map_says() {
        let both = "ssl.truststore.location=/t.pem\nssl.client.auth=none\n";
        let tls = load(&format!("{CONTROLLERS}{both}")).expect("is sound").tls;
        let (name, settings) = tls.controllers.expect("is on SSL");
        assert_eq!(
            (&*name, settings.client_auth),
            ("CONTROLLER", ClientAuth::Required)
        );
        assert!(tls.listeners.is_empty());
        let controller = CONTROLLERS
            .replace("process.roles=broker", "process.roles=controller")
            .replace("node.id=2", "node.id=1")
            .replace("PLAINTEXT://127.0.0.1:9092", "CONTROLLER://127.0.0.1:9094");
        let tls = load(&format!("{controller}{both}")).expect("is sound").tls;
        assert_eq!(
            tls.controllers.map(|(_, own)| own),
            tls.listeners.get("CONTROLLER").cloned()
        );
    }

    // Kafka adds no default of PLAINTEXT where a listener is named after another protocol
    #[test]
    fn a_controllers_listener_is_never_in_plaintext_by_surprise() {
        let broker = CONTROLLERS.replace(
            "listener.security.protocol.map=CONTROLLER:SSL,PLAINTEXT:PLAINTEXT\n",
            "",
        );
        let both = "ssl.truststore.location=/t.pem\n";
        let plain = load(&format!("{broker}{both}")).expect("is sound");
        assert!(plain.tls.controllers.is_none());
        let named = broker.replace("names=CONTROLLER", "names=SSL");
        let tls = load(&format!("{named}{both}")).expect("is sound").tls;
        assert!(tls.controllers.is_some(), "the default map says so");
        let beside = broker.replace("PLAINTEXT://", "SSL://");
        let told = load(&format!("{beside}{both}")).expect_err("is refused");
        assert!(
            told.contains("there is no protocol for the listener CONTROLLER"),
            "{told}"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let key = "ssl.keystore.location=/k.pem\n";
        for (text, why) in [
            (
                CLIENTS.to_owned(),
                "SSL is on SSL and needs a certificate: set ssl.keystore.location",
            ),
            (
                format!("{CLIENTS}{key}ssl.client.auth=required"),
                "needs the authorities that it trusts",
            ),
            (
                format!("{CLIENTS}{key}ssl.client.auth=maybe"),
                "not one of required, requested, none",
            ),
            (
                format!("{CLIENTS}{key}ssl.enabled.protocols=TLSv1.1"),
                "not a list of TLSv1.2, TLSv1.3",
            ),
            (
                format!("{CLIENTS}{key}ssl.enabled.protocols="),
                "at least one of TLSv1.2 and TLSv1.3",
            ),
            (
                format!("{CLIENTS}{key}ssl.endpoint.identification.algorithm=http"),
                "neither https nor empty",
            ),
            (
                format!("{CLIENTS}{key}ssl.keystore.key=K"),
                "only one of it and",
            ),
            (
                format!("{CLIENTS}ssl.keystore.key=K"),
                "ssl.keystore.key: ssl.keystore.certificate.chain is needed too",
            ),
            (
                format!("{CLIENTS}{key}ssl.keystore.type=JKS"),
                "ssl.keystore.type=JKS: only PEM is supported: convert",
            ),
            (
                format!("{CLIENTS}{key}ssl.truststore.location=/t\nssl.truststore.type=PKCS12"),
                "ssl.truststore.type=PKCS12: only PEM",
            ),
            (
                format!("{CLIENTS}{key}ssl.cipher.suites=X"),
                "a setting of Kafka that Highwater does not have",
            ),
            (
                format!("{CLIENTS}{key}listener.name.ssl.ssl.cipher.suites=X"),
                "a setting of Kafka that Highwater does not have",
            ),
            (
                format!("{CLIENTS}{key}listener.name.other.ssl.key.password=X"),
                "there is no listener other",
            ),
            (
                CONTROLLERS.to_owned(),
                "CONTROLLER is on SSL, verifies certificates",
            ),
            (
                format!(
                    "{CONTROLLERS}ssl.truststore.location=/t\nlistener.name.controller.ssl.client.auth=none"
                ),
                "nodes show each other their certificates",
            ),
        ] {
            let told = load(&text).expect_err("is refused");
            assert!(told.contains(why), "{why}: {told}");
        }
    }

    #[test]
    fn passwords_and_keys_are_not_shown() {
        let secrets = "ssl.key.password=hunter2\nlistener.name.ssl.ssl.keystore.key=hunter2\n\
            listener.name.ssl.ssl.keystore.certificate.chain=C\n";
        let config = load(&format!("{CLIENTS}{secrets}")).expect("is sound");
        let shown = format!("{}{:?}{:?}", config.render(), config.tls, config);
        assert!(shown.contains("ssl.key.password=[hidden]"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
