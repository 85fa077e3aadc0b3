//! The scenario of every client against a listener on TLS, where both sides verify each other's certificate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::broker::Broker;
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
    let dir = certificates()?;
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

/// Makes the keys and certificates: `ca.crt`, and `node` and `client`, each as `.key`, `.crt`, and both in one `.pem`.
fn certificates() -> Result<PathBuf> {
    let dir = Path::new("target/test-run").join(format!("{NAME}-certificates"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    let make = |name: &str, more: &[&str]| -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ]);
        openssl.args(["-nodes", "-days", "365", "-subj", &format!("/CN={name}")]);
        openssl.args([
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
        ]);
        run(openssl.args(more).current_dir(&dir))
    };
    make("ca", &[])?;
    for name in ["node", "client"] {
        let issued = ["-CA", "ca.crt", "-CAkey", "ca.key"];
        let leaf = [
            "-addext",
            "basicConstraints=CA:FALSE",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ];
        make(name, &[&issued[..], &leaf[..]].concat())?;
        let read = |end| std::fs::read_to_string(dir.join(format!("{name}.{end}")));
        std::fs::write(
            dir.join(format!("{name}.pem")),
            read("key")? + &read("crt")?,
        )?;
    }
    Ok(std::fs::canonicalize(dir)?)
}

/// The settings of the broker, whose only listener keeps its name and is on TLS.
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
