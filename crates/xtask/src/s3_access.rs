//! Credentials and certificates: a broker with its real settings against MinIO over TLS with a certificate of our
//! own, an OpenID provider that MinIO trusts, and the host of a container's credentials.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use highwater_kafka_peer::process::{end, free_port, get, wait};

use crate::broker::Broker;
use crate::certificates;
use crate::jars::has;
use crate::python;
use crate::report::{Outcome, Report, say};
use crate::server::{BUCKET, Kind, Options, Server};

/// The lifetime of a container's credentials.
const CREDENTIAL_SECONDS: u32 = 4;
/// The duration of the writing, which is twice that lifetime.
const WRITE_SECONDS: u32 = 9;
const NAME: &str = "s3-access";
const NODE: &str = "s3-access-node";

/// The suite.
pub(crate) fn run_all(report: &mut Report) {
    report.suite(NAME, access);
}

fn access() -> Result<Outcome> {
    let Some(minio) = Kind::Minio.build()? else {
        return Ok(Outcome::Skipped("go is missing".to_owned()));
    };
    let Some(python) = python::newest()? else {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    };
    if !has("openssl", "version") {
        return Ok(Outcome::Skipped("openssl is missing".to_owned()));
    }
    let world = World::start(&minio, python)?;
    world.an_unknown_authority_is_refused()?;
    world.a_ca_file_makes_the_authority_known()?;
    world.an_invalid_token_is_refused()?;
    world.a_web_identity_gives_credentials()?;
    world.a_container_with_another_authorization_is_refused()?;
    world.a_containers_credentials_are_renewed()?;
    Ok(Outcome::Passed)
}

/// The servers, and the directory of their files.
struct World {
    dir: PathBuf,
    python: PathBuf,
    identity: Identity,
    store: Server,
}

/// The OpenID provider and the host of a container's credentials; killed when dropped.
struct Identity {
    child: Child,
    address: String,
}

impl Drop for Identity {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Identity {
    fn start(python: &Path, dir: &Path, store: &str) -> Result<Self> {
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        let log = dir.join("identity.log");
        let output = File::create(&log)?;
        let mut command = Command::new(python);
        command.args(["tests/servers/identity/identity.py", &port.to_string()]);
        command.arg(dir).arg(store);
        command.arg(CREDENTIAL_SECONDS.to_string());
        let child = command.stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut identity = Self { child, address };
        wait(&mut identity.child, &identity.address, &log)?;
        Ok(identity)
    }

    /// A field of the provider's JSON answer.
    fn field(&self, path: &str, name: &str) -> Result<serde_json::Value> {
        let answer = get(&self.address, path)?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer has no body")?;
        let body: serde_json::Value = serde_json::from_str(body)?;
        body.get(name)
            .cloned()
            .context("the answer has no such field")
    }
}

/// Makes a certificate authority and a certificate for loopback, in the files that MinIO expects.
fn certify(dir: &Path) -> Result<()> {
    certificates::make(dir)?;
    let of_server = dir.join("certs");
    std::fs::create_dir_all(&of_server)?;
    std::fs::copy(dir.join("node.key"), of_server.join("private.key"))?;
    std::fs::copy(dir.join("node.crt"), of_server.join("public.crt"))?;
    Ok(())
}

impl World {
    fn start(minio: &Path, python: PathBuf) -> Result<Self> {
        let dir = Path::new("target/test-run").join(NAME);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let dir = std::fs::canonicalize(dir)?;
        certify(&dir)?;
        std::fs::write(dir.join("authorization"), "a container's own")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let identity = Identity::start(&python, &dir, &format!("https://{address}"))?;
        let discovery = format!(
            "http://{}/.well-known/openid-configuration",
            identity.address
        );
        let options = Options {
            address,
            certificates: Some(dir.join("certs")),
            environment: vec![
                ("MINIO_IDENTITY_OPENID_CONFIG_URL", discovery),
                ("MINIO_IDENTITY_OPENID_CLIENT_ID", "highwater".to_owned()),
                ("MINIO_IDENTITY_OPENID_CLAIM_NAME", "policy".to_owned()),
            ],
        };
        let ready = || Ok(get(&identity.address, "/store")?.contains(" 200 "));
        let store = Server::start_with(Kind::Minio, minio, NAME, options, ready)?;
        Ok(Self {
            dir,
            python,
            identity,
            store,
        })
    }

    /// A broker's environment, with `more` added. It has no credentials of its own; `source` says where they come
    /// from.
    fn environment(&self, source: &str, more: &[(&str, String)]) -> BTreeMap<String, String> {
        let bucket = format!("s3://{BUCKET}/{source}");
        let ca = self.dir.join("ca.crt").display().to_string();
        let all = [
            ("HIGHWATER_OBJECT_STORAGE", bucket),
            (
                "HIGHWATER_OBJECT_STORAGE_ENDPOINT",
                self.store.endpoint.clone(),
            ),
            ("HIGHWATER_OBJECT_STORAGE_CREDENTIALS", source.to_owned()),
            ("HIGHWATER_OBJECT_STORAGE_CA_FILE", ca),
        ];
        let more = more.iter().map(|(name, value)| (*name, value.clone()));
        let all = all.into_iter().chain(more);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn keys(&self) -> BTreeMap<String, String> {
        self.environment("environment", &self.store.environment())
    }

    fn container(&self, authorization: &str) -> BTreeMap<String, String> {
        let uri = format!("http://{}/credentials", self.identity.address);
        let file = self.dir.join(authorization).display().to_string();
        let more = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
        ];
        self.environment("container", &more)
    }

    fn web_identity(&self, token: &str) -> Result<BTreeMap<String, String>> {
        let file = self.dir.join("token");
        std::fs::write(&file, token)?;
        let more = [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
            ("AWS_ROLE_ARN", "arn:aws:iam::0:role/highwater".to_owned()),
            ("AWS_ENDPOINT_URL_STS", self.store.endpoint.clone()),
        ];
        Ok(self.environment("web-identity", &more))
    }

    fn trickle(&self, broker: &Broker, what: &str, number: &str) -> Result<String> {
        let mut script = Command::new(&self.python);
        script.args(["tests/clients/python/trickle.py", &broker.address]);
        let ran = script.args([what, number]).output()?;
        let why = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "trickle.py {what} {number}: {why}");
        Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
    }

    /// Writes for some seconds; another process reads the records back from the store.
    fn goes_on(&self, environment: &BTreeMap<String, String>, seconds: u32) -> Result<()> {
        let start = |fresh| Broker::start_with(NODE, fresh, "", environment);
        let broker = start(true)?;
        let written = self.trickle(&broker, "write", &seconds.to_string())?;
        // a warning in the log fails: no upload had to be repeated
        broker.stop()?;
        let broker = start(false)?;
        self.trickle(&broker, "read", &written)?;
        broker.stop()
    }

    fn an_unknown_authority_is_refused(&self) -> Result<()> {
        let mut environment = self.keys();
        environment.remove("HIGHWATER_OBJECT_STORAGE_CA_FILE");
        refuses(&environment, "invalid peer certificate: UnknownIssuer")
    }

    fn a_ca_file_makes_the_authority_known(&self) -> Result<()> {
        self.goes_on(&self.keys(), 1)
    }

    fn an_invalid_token_is_refused(&self) -> Result<()> {
        refuses(&self.web_identity("no.such.token")?, "no credentials")
    }

    fn a_web_identity_gives_credentials(&self) -> Result<()> {
        let token = self.identity.field("/token", "token")?;
        let environment = self.web_identity(token.as_str().context("the token is no text")?)?;
        self.goes_on(&environment, 1)
    }

    fn a_container_with_another_authorization_is_refused(&self) -> Result<()> {
        std::fs::write(self.dir.join("other"), "another's")?;
        refuses(&self.container("other"), "no credentials")
    }

    fn a_containers_credentials_are_renewed(&self) -> Result<()> {
        self.goes_on(&self.container("authorization"), WRITE_SECONDS)?;
        let count = self.identity.field("/handed-out", "different")?;
        let count = count.as_u64().unwrap_or_default();
        say(&format!(
            "credentials that last {CREDENTIAL_SECONDS} s were fetched {count} times"
        ));
        ensure!(
            count > u64::from(WRITE_SECONDS / CREDENTIAL_SECONDS),
            "{count}"
        );
        Ok(())
    }
}

/// Checks that a broker doesn't start, and gives this reason.
fn refuses(environment: &BTreeMap<String, String>, reason: &str) -> Result<()> {
    // the broker may listen before it has reached the store
    let refused = match Broker::start_with(NODE, true, "", environment) {
        Ok(broker) => broker.ends()?,
        Err(refused) => format!("{refused:#}"),
    };
    let last = refused.lines().last().unwrap_or_default();
    say(&format!("refused: {last}"));
    ensure!(refused.contains(reason), "{refused}");
    Ok(())
}
