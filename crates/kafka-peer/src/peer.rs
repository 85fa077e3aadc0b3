//! Apache Kafka itself, one node in KRaft mode on loopback.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result};

use crate::{jars, process};

const FROM: &str = "tests/clients/kafka";
const JARS: &str = "kafka-broker-4.4.0";
const DIR: &str = "target/test-run/kafka";
const LOG4J: &str = "-Dorg.apache.logging.log4j.level=WARN";
/// Options for Java that use little memory and start fast, which is enough for a test.
const SMALL: &[&str] = &["-Xmx512m", "-XX:+UseSerialGC"];

/// A node that is formatted and does not run.
#[derive(Debug)]
pub struct Setup {
    jars: PathBuf,
    settings: PathBuf,
    log: PathBuf,
    jvm: Vec<String>,
    /// The address on which it will listen.
    pub address: String,
}

impl Setup {
    /// Formats `dir` anew, with settings (`KEY=VALUE`) that override those of every peer; `jvm` are options for Java.
    ///
    /// # Errors
    /// The jars can't be fetched, or the directory can't be formatted.
    pub fn format(dir: &Path, jvm: &[&str], own: &[&str]) -> Result<Self> {
        let address = format!("127.0.0.1:{}", process::free_port()?);
        let controller = format!("127.0.0.1:{}", process::free_port()?);
        let listeners = format!("PLAINTEXT://{address},CONTROLLER://{controller}");
        let settings = [
            format!("listeners={listeners}"),
            format!("advertised.listeners={listeners}"),
            format!("controller.quorum.bootstrap.servers={controller}"),
        ];
        let own = own.iter().map(|&one| one.to_owned());
        let settings: Vec<String> = settings.into_iter().chain(own).collect();
        Self::format_as(dir, jvm, (&address, &settings), &["--standalone"])
    }

    /// Formats `dir` anew for a node of a cluster with several, whose settings name its roles, its id, its listeners and
    /// the voters (`controller.quorum.voters`); `address` is that of its first listener.
    ///
    /// # Errors
    /// As [`Setup::format`].
    pub fn format_member(
        dir: &Path,
        jvm: &[&str],
        address: &str,
        settings: &[String],
    ) -> Result<Self> {
        Self::format_as(dir, jvm, (address, settings), &[])
    }

    fn format_as(
        dir: &Path,
        jvm: &[&str],
        (address, settings): (&str, &[String]),
        how: &[&str],
    ) -> Result<Self> {
        let jars = jars::fetch(FROM, JARS)?;
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        let text = format!(
            "{}log.dirs={}\n{}\n",
            std::fs::read_to_string(Path::new(FROM).join("server.properties"))?,
            dir.join("data").display(),
            settings.join("\n")
        );
        let settings = dir.join("server.properties");
        std::fs::write(&settings, text)?;
        let setup = Self {
            jars,
            settings,
            log: dir.join("broker.log"),
            jvm: jvm.iter().map(|&option| option.to_owned()).collect(),
            address: address.to_owned(),
        };
        let mut storage = java(&setup.jars, SMALL);
        storage
            .args(["kafka.tools.StorageTool", "format"])
            .args(how);
        storage.args(["--feature", "eligible.leader.replicas.version=0"]);
        storage
            .args(["-t", "highwaterAAAAAAAAAAAAA", "-c"])
            .arg(&setup.settings);
        process::run(storage.stdout(File::create(&setup.log)?))?;
        Ok(setup)
    }

    /// Starts Kafka, and does not wait until it listens. It may be started again after it has ended.
    ///
    /// # Errors
    /// Java is missing.
    pub fn spawn(&self) -> Result<Child> {
        let log = File::options().append(true).open(&self.log)?;
        java(&self.jars, &self.jvm)
            .arg("kafka.Kafka")
            .arg(&self.settings)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start Apache Kafka")
    }
}

fn java(jars: &Path, options: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut java = Command::new("java");
    java.args(options).args([LOG4J, "-cp"]);
    java.arg(format!("{}/*", jars.display()));
    java
}

/// A running Apache Kafka, which is killed when this value is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// The address that it listens on.
    pub address: String,
}

impl Peer {
    /// Formats an empty directory, starts Kafka on it and waits until it listens.
    ///
    /// # Errors
    /// Kafka does not start; its log is in the error.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Does the same as [`Peer::start`], with additional settings.
    ///
    /// # Errors
    /// Kafka does not start; its log is in the error.
    pub fn start_with(own: &[&str]) -> Result<Self> {
        let setup = Setup::format(Path::new(DIR), SMALL, own)?;
        let mut peer = Self {
            child: setup.spawn()?,
            address: setup.address.clone(),
        };
        process::wait(&mut peer.child, &peer.address, &setup.log)?;
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}
