//! Listeners, and the addresses that clients are told.

use std::collections::BTreeMap;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Host or address; empty means every address.
    pub host: String,
    /// Port; 0 means a port that the machine chooses.
    pub port: u16,
    /// Its security protocol.
    pub protocol: Protocol,
}

/// How the connections of a listener are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// They are not.
    #[default]
    Plaintext,
    /// By TLS.
    Ssl,
}

/// `listener.security.protocol.map`: the security protocol of each name of a listener.
#[derive(Debug, Default)]
pub(super) struct Protocols(BTreeMap<String, String>);

impl Protocols {
    /// Reads the map. Kafka compares names and protocols without regard to case: `ListenerName.normalised`.
    pub(super) fn new(text: &str) -> Self {
        let text = text.to_ascii_uppercase();
        let pairs = text
            .split(',')
            .filter_map(|pair| pair.trim().split_once(':'));
        let pairs =
            pairs.map(|(name, protocol)| (name.trim().to_owned(), protocol.trim().to_owned()));
        Self(pairs.collect())
    }

    /// Whether the map has a listener of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The security protocol of a listener.
    ///
    /// # Errors
    /// The setting that is wrong, and the reason.
    pub(super) fn of(&self, name: &str) -> Result<Protocol, String> {
        let refused = |what: &str| {
            Err(format!(
                "listeners: {name} asks for {what}, which Highwater does not have yet: use PLAINTEXT or SSL"
            ))
        };
        match self.0.get(name).map(String::as_str) {
            Some("PLAINTEXT") => Ok(Protocol::Plaintext),
            Some("SSL") => Ok(Protocol::Ssl),
            Some("SASL_PLAINTEXT") => refused("SASL"),
            Some("SASL_SSL") => refused("SASL and TLS"),
            Some(other) => Err(format!(
                "listener.security.protocol.map: {other}, the protocol of {name}, is not a security protocol"
            )),
            None => Err(format!(
                "listener.security.protocol.map: there is no protocol for the listener {name}"
            )),
        }
    }
}

/// An address that clients of one listener connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The listener's name.
    pub name: String,
    /// Host.
    pub host: String,
    /// Port; 0 means the port that the listener got.
    pub port: u16,
}

/// Resolves `listeners`, `advertised.listeners` and the protocol map; `host` is the machine's name.
pub(super) fn resolve(
    listeners: &str,
    advertised: Option<&str>,
    protocols: &Protocols,
    host: Option<&str>,
) -> Result<(Vec<Listener>, Vec<Advertised>), Vec<String>> {
    let mut errors = Vec::new();
    let mut found: Vec<Listener> = Vec::new();
    for text in listeners
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        match parse(text) {
            Ok((name, host, port)) => {
                let protocol = protocols.of(&name).unwrap_or_else(|why| {
                    errors.push(why);
                    Protocol::default()
                });
                if found.iter().any(|other| other.name == name) {
                    errors.push(format!("listeners: the name {name} is used twice"));
                }
                found.push(Listener {
                    name,
                    host,
                    port,
                    protocol,
                });
            }
            Err(why) => errors.push(format!("listeners: {why}")),
        }
    }
    if found.is_empty() && errors.is_empty() {
        errors.push("listeners: at least one listener is needed".to_owned());
    }
    let told = told(&found, advertised, host, &mut errors);
    if errors.is_empty() {
        Ok((found, told))
    } else {
        Err(errors)
    }
}

fn told(
    found: &[Listener],
    advertised: Option<&str>,
    host: Option<&str>,
    errors: &mut Vec<String>,
) -> Vec<Advertised> {
    let mut told: Vec<Advertised> = Vec::new();
    for text in advertised.unwrap_or_default().split(',').map(str::trim) {
        if text.is_empty() {
            continue;
        }
        match parse(text) {
            Ok((name, host, _)) if unroutable(&host) => errors.push(format!(
                "advertised.listeners: {name} needs an address that clients can reach, not {host}"
            )),
            Ok((name, host, port)) if found.iter().any(|listener| listener.name == name) => {
                told.push(Advertised { name, host, port });
            }
            Ok((name, ..)) => {
                errors.push(format!("advertised.listeners: there is no listener {name}"));
            }
            Err(why) => errors.push(format!("advertised.listeners: {why}")),
        }
    }
    for listener in found {
        if told.iter().any(|other| other.name == listener.name) {
            continue;
        }
        // As in Kafka, no host means the machine's name, and 0.0.0.0 is never advertised.
        let named = host.filter(|_| listener.host.is_empty());
        let host = named.unwrap_or(&listener.host);
        if unroutable(host) {
            errors.push(format!(
                "advertised.listeners: an address is needed for {}, which listens on every address",
                listener.name
            ));
        }
        told.push(Advertised {
            name: listener.name.clone(),
            host: host.to_owned(),
            port: listener.port,
        });
    }
    told
}

fn unroutable(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

fn parse(text: &str) -> Result<(String, String, u16), String> {
    let wrong = || format!("{text} is not of the form NAME://host:port");
    let (name, rest) = text.split_once("://").ok_or_else(wrong)?;
    if name.is_empty() || !rest.contains(':') {
        return Err(wrong());
    }
    let (host, port) = address(rest).map_err(|why| format!("{text}: {why}"))?;
    Ok((name.to_ascii_uppercase(), host, port))
}

/// Reads `host:port`, where an IPv6 address may be in brackets; an empty host means every address.
///
/// # Errors
/// The reason why it can't be read.
pub fn address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("not of the form host:port")?;
    let port = port
        .parse()
        .map_err(|_cause| "the port is from 0 to 65535")?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL";

    fn map(text: &str) -> Protocols {
        Protocols::new(text)
    }

    #[test]
    fn several_listeners_with_their_addresses() {
        let (listeners, told) = resolve(
            "PLAINTEXT://127.0.0.1:9092,INSIDE://[::1]:0",
            Some("PLAINTEXT://broker.example:19092"),
            &map(MAP),
            None,
        )
        .expect("sound");
        assert_eq!(listeners[1].host, "::1");
        assert_eq!(listeners[1].protocol, Protocol::Plaintext);
        assert_eq!(
            (told[0].host.as_str(), told[0].port),
            ("broker.example", 19092)
        );
        assert_eq!((told[1].host.as_str(), told[1].port), ("::1", 0));
    }

    #[test]
    fn names_of_listeners_are_the_same_in_any_case() {
        let map = map("plaintext:PLAINTEXT,Inside:plaintext");
        let (listeners, told) = resolve(
            "plaintext://a:1,INSIDE://b:2",
            Some("Plaintext://c:3,inside://d:4"),
            &map,
            None,
        )
        .expect("sound");
        assert_eq!(
            (listeners[0].name.as_str(), listeners[1].name.as_str()),
            ("PLAINTEXT", "INSIDE")
        );
        assert_eq!((told[0].host.as_str(), told[1].host.as_str()), ("c", "d"));
        assert!(resolve("inside://a:1,INSIDE://b:2", None, &map, None).is_err());
    }

    #[test]
    fn what_clients_cannot_reach_is_refused() {
        let resolve =
            |listeners, advertised| resolve(listeners, advertised, &map(MAP), Some("machine"));
        assert!(resolve("PLAINTEXT://0.0.0.0:9092", None).is_err());
        assert!(resolve("PLAINTEXT://:9092", Some("PLAINTEXT://host:1")).is_ok());
        assert!(resolve("PLAINTEXT://a:1", Some("OTHER://host:1")).is_err());
        assert!(resolve("SASL_SSL://a:1", None).is_err());
        assert!(resolve("PLAINTEXT://a:1,PLAINTEXT://b:2", None).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_listener_is_said() {
        for (listeners, why) in [
            (
                "PLAINTEXT://a:99999",
                "PLAINTEXT://a:99999: the port is from 0 to 65535",
            ),
            ("a:9092", "a:9092 is not of the form NAME://host:port"),
            (
                "SASL_SSL://a:1",
                "SASL_SSL asks for SASL and TLS, which Highwater does not have yet: use PLAINTEXT or SSL",
            ),
        ] {
            let told = resolve(listeners, None, &map(MAP), None).expect_err("refused");
            assert_eq!(told, [format!("listeners: {why}")]);
        }
    }

    #[test]
    fn a_listener_without_a_host_advertises_the_machines_name() {
        let (listeners, told) =
            resolve("PLAINTEXT://:9092", None, &map(MAP), Some("machine")).expect("sound");
        assert_eq!(listeners[0].host, "");
        assert_eq!((told[0].host.as_str(), told[0].port), ("machine", 9092));
        assert!(resolve("PLAINTEXT://:9092", None, &map(MAP), None).is_err());
    }
}
