//! Settings as they are given, each checked on its own.

use std::collections::BTreeMap;

use super::environment;
use super::keys::{self, Key, Kind, find, kafka};
use super::nearest;
use super::properties;
use super::providers;
use super::source::{File, Source};

/// A value and its source.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) value: String,
    pub(super) source: Source,
}

// it may be a password
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Given({})", self.source)
    }
}

/// The given settings, by name.
pub(super) type Settings = BTreeMap<String, Given>;

/// Reads each source; a later one overrides an earlier one.
pub(super) fn read(
    file: Option<File<'_>>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
    errors: &mut Vec<String>,
) -> Settings {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let mut settings = Settings::new();
    if let Some(file) = file {
        match properties::parse(file.text) {
            Ok(found) => settings.extend(found.into_iter().map(|property| {
                let (name, line) = (file.name.to_owned(), property.line);
                let source = Source::File { name, line };
                let value = property.value;
                (property.key, Given { value, source })
            })),
            Err(malformed) => {
                let name = file.name;
                errors.extend(malformed.iter().map(|why| format!("{name}, {why}")));
            }
        }
    }
    providers::expand(&mut settings, &environment, errors);
    for (variable, value) in environment {
        match environment::setting(&variable, &value) {
            Ok(Some(name)) => {
                let source = Source::Variable(variable);
                settings.insert(name, Given { value, source });
            }
            Ok(None) => {}
            Err(why) => errors.push(why),
        }
    }
    settings.extend(flags.iter().map(|(name, value)| {
        let (value, source) = (value.clone(), Source::Flag);
        (name.clone(), Given { value, source })
    }));
    settings
}

/// Removes the settings without effect; returns their names.
pub(super) fn take_without_effect(settings: &mut Settings) -> Vec<String> {
    let taken = settings.extract_if(.., |name, _| keys::WITHOUT_EFFECT.contains(&name.as_str()));
    taken.map(|(name, _)| name).collect()
}

/// Removes the settings whose value is wrong, so that the others can be checked together and all errors are reported.
pub(super) fn check(settings: &mut Settings, errors: &mut Vec<String>) {
    settings.retain(|name, given| match wrong(name, given) {
        Some(why) => {
            errors.push(why);
            false
        }
        None => true,
    });
}

/// The refusal of a value: its setting, its source, and the reason.
pub(super) fn refused(name: &str, given: &Given, why: &str) -> String {
    match known(name).map(|key| key.kind) {
        Some(Kind::Password) => format!("{name} ({}): {why}", given.source),
        _ => format!("{name}={} ({}): {why}", given.value, given.source),
    }
}

/// The setting of a name, with the prefix of a listener or without.
pub(super) fn known(name: &str) -> Option<&'static Key> {
    find(name).or_else(|| keys::of_listener(name).map(|(_, key)| key))
}

fn wrong(name: &str, given: &Given) -> Option<String> {
    let Some(key) = known(name) else {
        return Some(format!("{name} ({}): {}", given.source, unknown(name)));
    };
    if key.kind.check(&given.value).is_err() {
        return Some(refused(name, given, &key.kind.refusal()));
    }
    if name == "compression.gzip.level" && given.value.trim() == "0" {
        return Some(refused(name, given, "not -1, and not from 1 to 9"));
    }
    if name == "highwater.data.dir" && given.value.trim().is_empty() {
        return Some(format!("{name} ({}): a directory is needed", given.source));
    }
    None
}

fn unknown(name: &str) -> String {
    if name == "broker.id" {
        return format!("{}; is node.id meant?", kafka::ABSENT);
    }
    if kafka::has(name) {
        return kafka::ABSENT.to_owned();
    }
    let hint = nearest::nearest(name).map(|key| format!("; is {} meant?", key.name));
    let hint = hint.unwrap_or_else(|| "; `highwater config` prints all settings".to_owned());
    format!("no such setting{hint}")
}
