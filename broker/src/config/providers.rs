//! `${env:NAME}` in the values of a file, as Kafka's `EnvVarConfigProvider` has it (KIP-421, KIP-887).

use super::given::{Settings, refused};
use super::source::Source;

const PROVIDERS: &str = "config.providers";
const CLASS: &str = "config.providers.env.class";
const OPEN: &str = "${env:";

/// Replaces the variables in the values that a file gives, if `config.providers` names the provider `env`. The variables
/// of the environment and flags have been expanded by whatever set them. Unlike in Kafka, which leaves the text of an
/// unknown variable as it is, an unknown variable is refused.
pub(super) fn expand(
    settings: &mut Settings,
    environment: &[(String, String)],
    errors: &mut Vec<String>,
) {
    let is_wanted = settings
        .get(PROVIDERS)
        .is_some_and(|given| given.value.trim() == "env");
    if !is_wanted {
        return;
    }
    if !settings.contains_key(CLASS) {
        errors.push(format!("{CLASS}: the class of the provider env is missing"));
    }
    for (name, given) in settings {
        if !matches!(given.source, Source::File { .. }) {
            continue;
        }
        match expanded(&given.value, environment) {
            Ok(value) => given.value = value,
            Err(why) => errors.push(refused(name, given, &why)),
        }
    }
}

fn expanded(value: &str, environment: &[(String, String)]) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((variable, after)) = after.split_once('}') else {
            break;
        };
        let mut known = environment.iter();
        let Some((_, text)) = known.find(|(name, _)| name == variable) else {
            return Err(format!("the environment has no variable {variable}"));
        };
        out.push_str(before);
        out.push_str(text);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, File};

    const ENV: &str = "config.providers=env\n\
        config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\n";

    fn load(text: &str) -> Result<Config, String> {
        let file = File { name: "f", text };
        let environment = [("POD", "7"), ("ZONE", "b"), ("NONE", "")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let flags = [("compression.type".to_owned(), "${env:POD}".to_owned())];
        let flags = &flags[..usize::from(text.contains("#flag"))];
        Config::load(Some(file), environment, flags).map_err(|refused| refused.to_string())
    }

    #[test]
    fn variables_in_a_file_are_replaced() {
        let text = "node.id=${env:POD}\nbroker.rack=z-${env:ZONE}${env:NONE}-${env:ZONE}${\n";
        let config = load(&format!("{ENV}{text}")).expect("sound");
        assert_eq!((config.int("node.id"), config.rack()), (7, "z-b-b${"));
    }

    #[test]
    fn they_are_left_alone_without_the_provider_and_in_flags() {
        let config = load("broker.rack=${env:ZONE}\n").expect("sound");
        assert_eq!(config.rack(), "${env:ZONE}");
        let refused = load(&format!("{ENV}#flag\n")).expect_err("no codec");
        assert!(
            refused.contains("compression.type=${env:POD} (--set)"),
            "{refused}"
        );
    }

    #[test]
    fn an_unknown_variable_provider_or_class_is_refused() {
        for (text, why) in [
            (
                format!("{ENV}broker.rack=${{env:NO}}\n"),
                "broker.rack=${env:NO} (f:3): the environment has no variable NO",
            ),
            (
                "config.providers=env\n".to_owned(),
                "config.providers.env.class: the class of the provider env is missing",
            ),
            (
                "config.providers=vault\n".to_owned(),
                "config.providers=vault (f:1): not a list of env",
            ),
            (
                "config.providers.env.class=a.B\n".to_owned(),
                "config.providers.env.class=a.B (f:1): not one of",
            ),
        ] {
            let refused = load(&text).expect_err("refused");
            assert!(refused.contains(why), "{refused}");
        }
    }
}
