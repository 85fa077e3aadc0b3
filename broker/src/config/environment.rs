//! From an environment variable to a setting.

use super::keys::{self, Key};
use super::nearest;

const PREFIX: &str = "HIGHWATER_";
const OURS: &str = "highwater.";

/// The rule, as the rendered configuration begins with it.
pub(super) const RULE: &str = "\
# Later sources win: --config FILE, environment variables, --set KEY=VALUE.
# A variable is HIGHWATER_ and a setting's name without its own highwater., in capitals, with _ for each dot:
# HIGHWATER_NUM_PARTITIONS sets num.partitions, HIGHWATER_DATA_DIR sets highwater.data.dir.
";

/// What processes of Highwater read themselves, tests and builds among them.
const NO_SETTINGS: &[&str] = &["HIGHWATER_CRASH_AT", "HIGHWATER_COMMIT"];

/// The setting that a variable sets; `None` for a variable that is none of ours.
///
/// # Errors
/// It begins as ours do, and there is no such setting.
pub(super) fn setting(variable: &str) -> Result<Option<&'static str>, String> {
    let Some(rest) = variable.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    let names = keys::all().map(|key| key.name);
    let mut names = names.chain(keys::WITHOUT_EFFECT.iter().copied());
    if let Some(name) = names.find(|name| env_name(name) == variable) {
        return Ok(Some(name));
    }
    if NO_SETTINGS.contains(&variable) || rest.starts_with("TEST_") || is_of_kubernetes(rest) {
        return Ok(None);
    }
    let dotted = rest.to_ascii_lowercase().replace('_', ".");
    let hint = nearest::nearest_of(&dotted, |key: &Key| bare(key.name));
    let hint = hint.map(|key| format!("; is {} meant?", env_name(key.name)));
    let hint = hint.unwrap_or_default();
    Err(format!("{variable}: no such setting{hint}"))
}

/// What Kubernetes tells every pod of a service named highwater, or highwater-something.
fn is_of_kubernetes(rest: &str) -> bool {
    let ends = ["PORT", "SERVICE_HOST", "SERVICE_PORT"];
    let within = ["PORT_", "SERVICE_PORT_"];
    let last = |end: &&str| rest == *end || rest.ends_with(&format!("_{end}"));
    let part = |part: &&str| rest.starts_with(*part) || rest.contains(&format!("_{part}"));
    ends.iter().any(last) || within.iter().any(part)
}

fn bare(name: &str) -> &str {
    name.strip_prefix(OURS).unwrap_or(name)
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
            assert_eq!(setting(&env_name(key.name)), Ok(Some(key.name)));
        }
        assert_eq!(
            setting("HIGHWATER_DATA_DIR"),
            Ok(Some("highwater.data.dir"))
        );
        assert_eq!(setting("HIGHWATER_LOG_DIRS"), Ok(Some("log.dirs")));
    }

    #[test]
    fn what_kubernetes_and_tests_set_is_no_typo() {
        for other in [
            "HIGHWATER_PORT",
            "HIGHWATER_PORT_9092_TCP_ADDR",
            "HIGHWATER_SERVICE_PORT_KAFKA",
            "HIGHWATER_HEADLESS_SERVICE_HOST",
            "HIGHWATER_TEST_OBJECT_STORAGE",
            "HIGHWATER_CRASH_AT",
            "PATH",
        ] {
            assert_eq!(setting(other), Ok(None), "{other}");
        }
        let typo = setting("HIGHWATER_DATA_DR").expect_err("a typo");
        assert!(typo.ends_with("is HIGHWATER_DATA_DIR meant?"), "{typo}");
        let doubled = setting("HIGHWATER_HIGHWATER_DATA_DIR").expect_err("no name");
        assert!(doubled.contains("HIGHWATER_DATA_DIR"), "{doubled}");
    }
}
