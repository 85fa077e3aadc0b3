//! The settings of a program that is a client of a cluster, as Kafka's tools read them with `--command-config`.

use super::ConfigErrors;
use super::given::{self, refused};
use super::source::File;
use super::tls::{Side, SslSettings};

const PROTOCOL: &str = "security.protocol";
/// Settings of Kafka's clients that concern Java's own implementation of TLS.
const OF_JAVA: [&str; 5] = [
    "ssl.protocol",
    "ssl.provider",
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
];

/// Reads `security.protocol`, `PLAINTEXT` or `SSL`, and the settings that begin with `ssl.`, with Kafka's names for
/// clients. Returns the settings of TLS; `None` for `PLAINTEXT`, Kafka's default. Other settings have no effect, because
/// a file of another client may have them. `environment` is what the provider of the class `EnvVarConfigProvider` reads,
/// if the file names it in `config.providers`.
///
/// # Errors
/// All violations together.
pub fn client(
    file: File<'_>,
    environment: Vec<(String, String)>,
) -> Result<Option<highwater_tls::Settings>, ConfigErrors> {
    let mut errors = Vec::new();
    // these are settings of a node
    let environment = environment
        .into_iter()
        .filter(|(name, _)| !name.starts_with("HIGHWATER_"));
    let mut given = given::read(Some(file), environment, &[], &mut errors);
    let protocol = given.remove(PROTOCOL);
    given.retain(|name, _| name.starts_with("ssl.") && !OF_JAVA.contains(&name.as_str()));
    let protocol = protocol.as_ref();
    let wanted = protocol.map_or("PLAINTEXT", |given| given.value.trim());
    let settings = match wanted.to_ascii_uppercase().as_str() {
        "PLAINTEXT" => Ok(None),
        "SSL" => {
            given::check(&mut given, &mut errors);
            SslSettings::of_client(&given)
                .settings(Side::Client)
                .map(Some)
        }
        _ => {
            let wrong = |given| refused(PROTOCOL, given, "Highwater has PLAINTEXT and SSL");
            Err(protocol.map(wrong).into_iter().collect())
        }
    };
    let settings = settings.unwrap_or_else(|wrong| {
        errors.extend(wrong);
        None
    });
    match errors.is_empty() {
        true => Ok(settings),
        false => Err(ConfigErrors(errors)),
    }
}

#[cfg(test)]
mod tests {
    use highwater_tls::{Keystore, Source};

    use super::*;

    fn read(text: &str) -> Result<Option<highwater_tls::Settings>, String> {
        let name = "client.properties";
        let environment = vec![
            ("DIR".to_owned(), "/etc".to_owned()),
            ("HIGHWATER_SSL_CLIENT_AUTH".to_owned(), "wrong".to_owned()),
        ];
        client(File { name, text }, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn a_client_on_tls_needs_trust_and_may_show_a_certificate() {
        const TLS: &str = "security.protocol=SSL\nssl.truststore.type=PEM\n\
            ssl.keystore.type=PEM\nclient.id=x\nssl.protocol=TLS\n";
        assert_eq!(read("client.id=x"), Ok(None));
        assert_eq!(
            read("security.protocol=plaintext\nssl.cipher.suites=x"),
            Ok(None)
        );
        const ENV: &str = "config.providers=env\nconfig.providers.env.class=\
            org.apache.kafka.common.config.provider.EnvVarConfigProvider\n";
        let trusting = format!("{TLS}{ENV}ssl.truststore.location=${{env:DIR}}/ca.crt\n");
        let settings = read(&trusting).expect("is sound").expect("is TLS");
        assert_eq!(
            settings.truststore,
            Some(Source::File("/etc/ca.crt".into()))
        );
        assert_eq!(settings.keystore, None);
        assert!(settings.verifies_name);
        let showing = format!("{trusting}ssl.keystore.location=/node.pem");
        let settings = read(&showing).expect("is sound").expect("is TLS");
        assert_eq!(settings.keystore, Some(Keystore::File("/node.pem".into())));
        for (text, told) in [
            (TLS.to_owned(), "set ssl.truststore.location or"),
            (
                "security.protocol=SASL_SSL".to_owned(),
                "security.protocol=SASL_SSL (client.properties:1): ",
            ),
            (format!("{trusting}ssl.truststore.type=JKS"), "only PEM"),
            (format!("{trusting}ssl.nonsense=1"), "ssl.nonsense"),
        ] {
            let refused = read(&text).expect_err(&text);
            assert!(refused.contains(told), "{refused}");
        }
    }
}
