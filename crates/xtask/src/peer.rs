//! Apache Kafka itself, one node in KRaft mode on loopback: what its tools' transcripts are recorded from.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result};

use crate::{broker, jars};

/// A running Apache Kafka; killed when dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: String,
}

const FROM: &str = "tests/clients/kafka";
const JARS: &str = "kafka-broker-4.4.0";
const DIR: &str = "target/test-run/kafka";
const LOG4J: &str = "-Dorg.apache.logging.log4j.level=WARN";

fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", LOG4J, "-cp"]);
    java.arg(format!("{}/*", jars.display()));
    java
}

impl Peer {
    /// Formats an empty directory, starts Kafka on it and waits until it listens.
    pub(crate) fn start() -> Result<Self> {
        let jars = jars::fetch(FROM, JARS)?;
        let dir = PathBuf::from(DIR);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let address = format!("127.0.0.1:{}", broker::free_port()?);
        let controller = format!("127.0.0.1:{}", broker::free_port()?);
        let listeners = format!("PLAINTEXT://{address},CONTROLLER://{controller}");
        let settings = dir.join("server.properties");
        let text = format!(
            "{}listeners={listeners}\nadvertised.listeners={listeners}\n\
             controller.quorum.bootstrap.servers={controller}\nlog.dirs={}\n",
            std::fs::read_to_string(Path::new(FROM).join("server.properties"))?,
            dir.join("data").display()
        );
        std::fs::write(&settings, text)?;
        let log = File::create(dir.join("broker.log"))?;
        let mut storage = java(&jars);
        storage.args(["kafka.tools.StorageTool", "format", "--standalone"]);
        storage.args(["--feature", "eligible.leader.replicas.version=0"]);
        storage
            .args(["-t", "highwaterAAAAAAAAAAAAA", "-c"])
            .arg(&settings);
        crate::rust::run(storage.stdout(log.try_clone()?))?;
        let child = java(&jars)
            .arg("kafka.Kafka")
            .arg(&settings)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start Apache Kafka")?;
        let mut peer = Self { child, address };
        broker::wait(&mut peer.child, &peer.address, &dir.join("broker.log"))?;
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        broker::end(&mut self.child);
    }
}
