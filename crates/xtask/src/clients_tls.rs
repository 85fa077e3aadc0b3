//! The scenario of every client against a listener on TLS, where both sides verify each other's certificate.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::broker::Broker;
use crate::certificates;
use crate::jars::has;
use crate::report::Outcome;
use crate::rust::run;
use crate::scenario::{self, Program};

const NAME: &str = "clients-tls";
/// Java reads PEM from version 2.7 on.
const LEFT_OUT: &str = "scenario-java-2.1";

/// Runs the programs one after the other against one broker.
pub(crate) fn check() -> Result<Outcome> {
    if !has("openssl", "version") {
        return Ok(Outcome::Skipped("openssl is missing".to_owned()));
    }
    let dir = Path::new("target/test-run").join(format!("{NAME}-certificates"));
    certificates::make(&dir)?;
    let dir = std::fs::canonicalize(dir)?;
    let broker = Broker::start_with(NAME, true, "", &settings(&dir))?;
    let programs = scenario::programs().into_iter();
    for (name, prepare) in programs.filter(|(name, _)| *name != LEFT_OUT) {
        let mut program = match prepare()? {
            Program::Ready(program) => program,
            Program::Missing(missing) => return Ok(Outcome::Skipped(missing)),
        };
        program.env("SCENARIO_TLS", &dir);
        run(program.args([broker.address.as_str(), &format!("tls-{name}")]))?;
    }
    // the start waits until the port takes a connection
    broker
        .stop_but(|line| line.contains("TLS handshake failed") && line.contains("handshake eof"))?;
    Ok(Outcome::Passed)
}

/// The settings of the broker. Its only listener keeps the name PLAINTEXT, and is on TLS.
fn settings(dir: &Path) -> BTreeMap<String, String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let settings = [
        ("LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:SSL".to_owned()),
        ("SSL_KEYSTORE_TYPE", "PEM".to_owned()),
        ("SSL_TRUSTSTORE_TYPE", "PEM".to_owned()),
        ("SSL_KEYSTORE_LOCATION", path("node.pem")),
        ("SSL_TRUSTSTORE_LOCATION", path("ca.crt")),
        ("SSL_CLIENT_AUTH", "required".to_owned()),
    ];
    let named = settings.map(|(name, value)| (format!("HIGHWATER_{name}"), value));
    named.into()
}
