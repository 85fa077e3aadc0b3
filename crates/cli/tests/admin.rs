//! The commands of an installation, against a broker that runs: topics, a check, and brokers that are gone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use highwater_kafka_peer::process::free_port;
use highwater_tls::fixture::{Authority, Leaf};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_highwater");

/// A broker with its address; killed when dropped.
struct Broker {
    child: Child,
    address: String,
    dir: TempDir,
}

impl Broker {
    fn start() -> Result<Self> {
        Self::start_with("PLAINTEXT", |_dir| Ok(Vec::new()))
    }

    /// Starts a broker with a listener of this protocol, and the settings that are made in its directory.
    fn start_with(
        protocol: &str,
        settings: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<Self> {
        let dir = TempDir::new()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut start = Command::new(BINARY);
        start.arg("start");
        let data = dir.path().join("data");
        let mut all = settings(dir.path())?;
        all.extend([
            format!("highwater.data.dir={}", data.display()),
            format!("listeners={protocol}://{address}"),
            "highwater.admin.listener=".to_owned(),
            "auto.create.topics.enable=false".to_owned(),
        ]);
        for setting in &all {
            start.args(["--set", setting]);
        }
        let child = start.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut broker = Self {
            child,
            address,
            dir,
        };
        let banner = broker.child.stdout.take().context("a banner")?;
        let mut line = String::new();
        ensure!(
            BufReader::new(banner).read_line(&mut line)? > 0,
            "it starts"
        );
        Ok(broker)
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(BINARY);
        command.args(&args[..1]);
        command.args(["--timeout", "20", "--bootstrap-server", &self.address]);
        Ok(command.args(&args[1..]).output()?)
    }

    fn said(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let told = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{args:?}: {told}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn topics(&self, text: &str) -> Result<String> {
        self.file("topics", text)
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let file = self.dir.path().join(name);
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            assert!(self.child.wait().is_ok());
        }
    }
}

#[test]
fn topics_are_made_as_they_are_wanted_and_a_record_goes_through() -> Result<()> {
    let broker = Broker::start()?;
    let file = broker.topics("# a comment\nevents 2 retention.ms=60000\n\naudit 1\n")?;
    let said = broker.said(&["topics", &file])?;
    assert_eq!(said, "Topic events is created.\nTopic audit is created.\n");
    let same = "Topic events is as it should be.\nTopic audit is as it should be.\n";
    assert_eq!(broker.said(&["topics", &file])?, same);
    let file = broker.topics("events 5 retention.ms=90000\n")?;
    let said = broker.said(&["topics", &file])?;
    assert_eq!(
        said,
        "Topic events has 5 partitions.\nTopic events is as it should be.\n"
    );
    let file = broker.topics("events 3\n")?;
    assert_eq!(
        broker.said(&["topics", &file])?,
        "Topic events is as it should be.\n"
    );

    // a refusal for good is told at once, with the broker's reason
    let file = broker.topics("events 5 retention.ms=never\n")?;
    let refused = broker.run(&["topics", &file])?;
    let told = String::from_utf8(refused.stderr)?;
    assert!(
        !refused.status.success() && told.contains("INVALID_CONFIG"),
        "{told}"
    );

    let said = broker.said(&["check"])?;
    assert!(said.contains("wrote and read offset 0"), "{said}");
    assert!(broker.said(&["check"])?.contains("wrote and read offset 1"));
    assert_eq!(broker.said(&["unregister", "--from", "2"])?, "");
    let said = broker.said(&["finalize"])?;
    assert!(
        said.starts_with("The metadata.version of the cluster is "),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_broker_that_runs_is_not_unregistered() -> Result<()> {
    let broker = Broker::start()?;
    let mut command = Command::new(BINARY);
    command.args(["unregister", "--timeout", "1", "--from", "1"]);
    let refused = command
        .args(["--bootstrap-server", &broker.address])
        .output()?;
    let told = String::from_utf8(refused.stderr)?;
    assert!(told.contains("these brokers still run: [1]"), "{told}");
    assert!(!refused.status.success());
    assert!(broker.said(&["check"])?.contains("wrote and read"));
    Ok(())
}

#[test]
fn a_listener_on_tls_is_reached_with_the_settings_of_a_client() -> Result<()> {
    let authority = Authority::new("cluster");
    let broker = Broker::start_with("SSL", |dir| {
        let (keystore, truststore) = (dir.join("node.pem"), dir.join("ca.pem"));
        std::fs::write(&keystore, authority.keystore(&Leaf::local("node")))?;
        std::fs::write(&truststore, authority.pem())?;
        Ok(vec![
            "ssl.keystore.type=PEM".to_owned(),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", keystore.display()),
            format!("ssl.truststore.location={}", truststore.display()),
            "ssl.client.auth=required".to_owned(),
        ])
    })?;
    let path = |name: &str| broker.dir.path().join(name).display().to_string();
    let trusting = format!(
        "security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
        path("ca.pem")
    );
    let showing = format!(
        "{trusting}ssl.keystore.type=PEM\nssl.keystore.location={}\n",
        path("client.pem")
    );
    broker.file("client.pem", &authority.keystore(&Leaf::local("operator")))?;
    let config = broker.file("client.properties", &showing)?;
    let said = broker.said(&["check", "--command-config", &config])?;
    assert!(said.contains("wrote and read offset 0"), "{said}");
    let topics = broker.topics("events 2\n")?;
    let said = broker.said(&["topics", "--command-config", &config, &topics])?;
    assert_eq!(said, "Topic events is created.\n");

    let other = Authority::new("another");
    broker.file("ca.pem", &other.pem())?;
    for (name, text, reason) in [
        ("distrusting", &showing, "certificate"),
        (
            "unknown",
            &format!("{trusting}ssl.nonsense=1"),
            "ssl.nonsense",
        ),
    ] {
        let config = broker.file(name, text)?;
        let mut check = Command::new(BINARY);
        check.args(["check", "--timeout", "1", "--command-config", &config]);
        let refused = check
            .args(["--bootstrap-server", &broker.address])
            .output()?;
        let told = String::from_utf8(refused.stderr)?;
        assert!(!refused.status.success(), "{name}");
        assert!(told.contains(reason), "{name}: {told}");
    }
    Ok(())
}
