//! Finds the setting that an environment variable sets.

use std::net::IpAddr;

use super::keys::{self, bare, kafka};
use super::nearest;

const PREFIX: &str = "HIGHWATER_";

/// The rule for sources and names, with which the rendered configuration begins.
pub(super) const RULE: &str = "\
# Later sources override earlier ones: --config FILE, environment variables, --set KEY=VALUE.
# A variable's name is HIGHWATER_ and the setting's name without its own highwater., in capitals, with _ for each dot:
# HIGHWATER_NUM_PARTITIONS sets num.partitions, HIGHWATER_DATA_DIR sets highwater.data.dir.
";

/// Variables that Highwater's processes, tests and builds read themselves.
const NO_SETTINGS: &[&str] = &["HIGHWATER_CRASH_AT", "HIGHWATER_COMMIT"];

/// The protocols of a service in Kubernetes.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// The setting that a variable sets; `None` for a variable that is not Highwater's.
///
/// # Errors
/// The variable has our prefix, and there is no such setting.
pub(super) fn setting(variable: &str, value: &str) -> Result<Option<String>, String> {
    let Some(rest) = variable.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    let names = keys::all().map(|key| key.name);
    let mut names = names.chain(keys::WITHOUT_EFFECT.iter().copied());
    if let Some(name) = names.find(|name| env_name(name) == variable) {
        return Ok(Some(name.to_owned()));
    }
    if let Some(name) = of_listener(rest) {
        return Ok(Some(name));
    }
    if NO_SETTINGS.contains(&variable) || rest.starts_with("TEST_") || is_of_kubernetes(rest, value)
    {
        return Ok(None);
    }
    let dotted = rest.to_ascii_lowercase().replace('_', ".");
    if kafka::has(&dotted) {
        return Err(format!("{variable}: {}", kafka::ABSENT));
    }
    let hint = nearest::nearest(&dotted);
    let hint = hint.map(|key| format!("; is {} meant?", env_name(key.name)));
    let hint = hint.unwrap_or_default();
    Err(format!("{variable}: no such setting{hint}"))
}

/// The setting for one listener that an environment variable sets; `rest` is the name of the variable after the prefix
/// `HIGHWATER_`. The setting has the name of the listener in lower case.
fn of_listener(rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("LISTENER_NAME_")?;
    let mut settings = keys::by_listener();
    settings.find_map(|key| {
        let own = env_name(key.name);
        let listener = rest.strip_suffix(own.strip_prefix(PREFIX)?)?;
        let listener = listener.strip_suffix('_').filter(|name| !name.is_empty())?;
        Some(keys::for_listener(listener, key.name))
    })
}

/// Whether Kubernetes sets this variable in the pods of a service named highwater or highwater-something. Both its name
/// and the form of its value tell.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let is_number = || value.parse::<u16>().is_ok();
    let is_address = || value.parse::<IpAddr>().is_ok();
    let is_protocol = |text: &str| PROTOCOLS.iter().any(|one| text.eq_ignore_ascii_case(one));
    let is_url = || {
        value
            .split_once("://")
            .is_some_and(|(one, _)| is_protocol(one))
    };
    let words: Vec<&str> = rest.split('_').collect();
    match words.as_slice() {
        [.., "PORT", _, one, "PROTO"] if is_protocol(one) => is_protocol(value),
        [.., "PORT", _, one, "PORT"] if is_protocol(one) => is_number(),
        [.., "PORT", _, one, "ADDR"] if is_protocol(one) => is_address(),
        [.., "PORT", _, one] if is_protocol(one) => is_url(),
        [.., "SERVICE", "HOST"] => is_address(),
        // Kubernetes also sets a variable for each port that has a name.
        words if words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]) => is_number(),
        [.., "PORT"] => is_url(),
        _ => false,
    }
}

fn env_name(name: &str) -> String {
    format!(
        "{PREFIX}{}",
        bare(name).to_ascii_uppercase().replace('.', "_")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_a_variable_of_its_own() {
        for key in keys::all() {
            let name = setting(&env_name(key.name), "");
            assert_eq!(name, Ok(Some(key.name.to_owned())));
        }
        for (variable, name) in [
            ("HIGHWATER_DATA_DIR", "highwater.data.dir"),
            ("HIGHWATER_LOG_DIRS", "log.dirs"),
            (
                "HIGHWATER_LISTENER_NAME_MY_SSL_SSL_KEY_PASSWORD",
                "listener.name.my_ssl.ssl.key.password",
            ),
        ] {
            assert_eq!(setting(variable, ""), Ok(Some(name.to_owned())));
        }
    }

    #[test]
    fn what_kubernetes_and_tests_set_is_no_typo_in_their_form_alone() {
        for (other, value, of_another_form) in [
            ("HIGHWATER_PORT", "tcp://10.0.0.1:9092", "9093"),
            ("HIGHWATER_PORT_9092_TCP", "tcp://10.0.0.1:9092", "9092"),
            ("HIGHWATER_PORT_9092_TCP_ADDR", "10.0.0.1", "host"),
            ("HIGHWATER_PORT_9092_TCP_PORT", "9092", "x"),
            ("HIGHWATER_PORT_9092_TCP_PROTO", "tcp", "http"),
            ("HIGHWATER_SERVICE_PORT", "9092", "x"),
            ("HIGHWATER_SERVICE_PORT_KAFKA", "9092", "x"),
            ("HIGHWATER_HEADLESS_SERVICE_HOST", "fd00::1", "host"),
        ] {
            assert_eq!(setting(other, value), Ok(None), "{other}");
            assert!(setting(other, of_another_form).is_err(), "{other}");
        }
        for other in [
            "HIGHWATER_TEST_OBJECT_STORAGE",
            "HIGHWATER_CRASH_AT",
            "PATH",
        ] {
            assert_eq!(setting(other, "x"), Ok(None), "{other}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_told_the_one_that_is_meant() {
        for typo in ["HIGHWATER_DATA_DR", "HIGHWATER_HIGHWATER_DATA_DIR"] {
            let told = setting(typo, "/x").expect_err("a typo");
            assert!(told.ends_with("; is HIGHWATER_DATA_DIR meant?"), "{told}");
        }
        let told = setting("HIGHWATER_SSL_CIPHER_SUITES", "x").expect_err("refused");
        assert!(told.ends_with(kafka::ABSENT), "{told}");
    }
}
