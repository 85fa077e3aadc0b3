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
    protocols: &str,
    host: Option<&str>,
) -> Result<(Vec<Listener>, Vec<Advertised>), Vec<String>> {
    let mut errors = Vec::new();
    // Kafka compares names and protocols without regard to case: `ListenerName.normalised`.
    let protocols = protocols.to_ascii_uppercase();
    let protocols: BTreeMap<&str, &str> = protocols
        .split(',')
        .filter_map(|pair| pair.trim().split_once(':'))
        .collect();
    let mut found: Vec<Listener> = Vec::new();
    for text in listeners
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        match parse(text) {
            Ok((name, host, port)) => {
                check_protocol(&name, &protocols, &mut errors);
                if found.iter().any(|other| other.name == name) {
                    errors.push(format!("listeners: the name {name} is used twice"));
                }
                found.push(Listener { name, host, port });
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

fn check_protocol(name: &str, protocols: &BTreeMap<&str, &str>, errors: &mut Vec<String>) {
    let mut refuse = |what: &str| {
        errors.push(format!(
            "listeners: {name} asks for {what}, which Highwater does not have yet: use PLAINTEXT"
        ));
    };
    match protocols.get(name) {
        Some(&"PLAINTEXT") => {}
        Some(&"SSL") => refuse("TLS"),
        Some(&"SASL_PLAINTEXT") => refuse("SASL"),
        Some(&"SASL_SSL") => refuse("SASL and TLS"),
        Some(other) => errors.push(format!(
            "listener.security.protocol.map: {other}, the protocol of {name}, is not a security protocol"
        )),
        None => errors.push(format!(
            "listener.security.protocol.map: there is no protocol for the listener {name}"
        )),
    }
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

/// Reads `host:port`; an empty host means every address.
///
/// # Errors
/// The reason why it can't be read.
pub(super) fn address(text: &str) -> Result<(String, u16), String> {
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

    const MAP: &str = "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,SSL:SSL";

    #[test]
    fn several_listeners_with_their_addresses() {
        let (listeners, told) = resolve(
            "PLAINTEXT://127.0.0.1:9092,INSIDE://[::1]:0",
            Some("PLAINTEXT://broker.example:19092"),
            MAP,
            None,
        )
        .expect("sound");
        assert_eq!(listeners[1].host, "::1");
        assert_eq!(
            (told[0].host.as_str(), told[0].port),
            ("broker.example", 19092)
        );
        assert_eq!((told[1].host.as_str(), told[1].port), ("::1", 0));
    }

    #[test]
    fn names_of_listeners_are_the_same_in_any_case() {
        let map = "plaintext:PLAINTEXT,Inside:plaintext";
        let (listeners, told) = resolve(
            "plaintext://a:1,INSIDE://b:2",
            Some("Plaintext://c:3,inside://d:4"),
            map,
            None,
        )
        .expect("sound");
        assert_eq!(
            (listeners[0].name.as_str(), listeners[1].name.as_str()),
            ("PLAINTEXT", "INSIDE")
        );
        assert_eq!((told[0].host.as_str(), told[1].host.as_str()), ("c", "d"));
        assert!(resolve("inside://a:1,INSIDE://b:2", None, map, None).is_err());
    }

    #[test]
    fn what_clients_cannot_reach_is_refused() {
        let resolve = |listeners, advertised| resolve(listeners, advertised, MAP, Some("machine"));
        assert!(resolve("PLAINTEXT://0.0.0.0:9092", None).is_err());
        assert!(resolve("PLAINTEXT://:9092", Some("PLAINTEXT://host:1")).is_ok());
        assert!(resolve("PLAINTEXT://a:1", Some("OTHER://host:1")).is_err());
        assert!(resolve("SSL://a:1", None).is_err());
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
                "SSL://a:1",
                "SSL asks for TLS, which Highwater does not have yet: use PLAINTEXT",
            ),
        ] {
            let told = resolve(listeners, None, MAP, None).expect_err("refused");
            assert_eq!(told, [format!("listeners: {why}")]);
        }
    }

    #[test]
    fn a_listener_without_a_host_advertises_the_machines_name() {
        let (listeners, told) =
            resolve("PLAINTEXT://:9092", None, MAP, Some("machine")).expect("sound");
        assert_eq!(listeners[0].host, "");
        assert_eq!((told[0].host.as_str(), told[0].port), ("machine", 9092));
        assert!(resolve("PLAINTEXT://:9092", None, MAP, None).is_err());
    }
}
