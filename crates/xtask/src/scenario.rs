//! One scenario that runs with every client; `tests/clients/scenario/README.md` describes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::broker::Broker;
use crate::jars::{self, has, hash};
use crate::peer::Peer;
use crate::python;
use crate::report::{Body, Outcome, Report};
use crate::rust::run;

const DIR: &str = "tests/clients/scenario";
const GO: &str = "tests/clients/go";
const KAFKAJS: &str = "tests/clients/scenario/kafkajs";
/// Java clients, from the oldest that Kafka 4 supports to the newest.
const JAVA: &[(&str, &str, &str)] = &[
    ("scenario-java-2.1", "tests/clients/java-2.1.1", "2.1.1"),
    ("scenario-java-3.9", "tests/clients/java-3.9.2", "3.9.2"),
    ("scenario-java", "tests/clients/java", "4.4.0"),
];
/// Java clients that Kafka 4 doesn't support: the last one that still works, and two that don't.
const OLD: &[&str] = &["0.9.0.1", "0.10.2.2", "1.1.1"];
const OLD_ANSWERS: &str = "tests/clients/old/answers.txt";

/// A program that runs the scenario: what it needs is fetched and built, or missing.
pub(crate) enum Program {
    Ready(Command),
    Missing(String),
}

type Prepare = Box<dyn FnOnce() -> Result<Program> + Send>;

/// The programs with the names of their suites.
pub(crate) fn programs() -> Vec<(&'static str, Prepare)> {
    let mut all: Vec<(&'static str, Prepare)> = Vec::new();
    for (name, from, version) in JAVA {
        all.push((name, Box::new(|| java(from, version))));
    }
    all.push((
        "scenario-librdkafka",
        Box::new(|| Ok(python_client("confluent", python::newest()?))),
    ));
    all.push((
        "scenario-librdkafka-1.9",
        Box::new(|| match python::librdkafka_1_9()? {
            Ok(python) => Ok(python_client("confluent", Some(python))),
            Err(missing) => Ok(Program::Missing(missing)),
        }),
    ));
    all.push((
        "scenario-kafka-python",
        Box::new(|| Ok(python_client("kafka_python", python::newest()?))),
    ));
    for name in ["scenario-franz", "scenario-sarama"] {
        all.push((name, Box::new(move || go(name))));
    }
    all.push(("scenario-kafkajs", Box::new(kafkajs)));
    all
}

/// A suite for each client, and one for those that are too old.
pub(crate) fn run_all(report: &mut Report) {
    let played = |(name, prepare): (&'static str, Prepare)| {
        let body: Body<'_> = Box::new(move || play(name, prepare()?));
        (name, body)
    };
    let mut suites: Vec<(&str, Body<'_>)> = programs().into_iter().map(played).collect();
    suites.push(("old-clients", Box::new(old_clients)));
    report.together(suites);
}

fn play(suite: &str, program: Program) -> Result<Outcome> {
    let mut program = match program {
        Program::Ready(program) => program,
        Program::Missing(missing) => return Ok(Outcome::Skipped(missing)),
    };
    let broker = Broker::start(suite)?;
    run(program.args([broker.address.as_str(), suite]))?;
    broker.stop()?;
    Ok(Outcome::Passed)
}

fn java_missing() -> Option<String> {
    let there = has("java", "-version") && has("mvn", "--version");
    (!there).then(|| "java or mvn is missing".to_owned())
}

fn java_source(jars: &Path, source: &str) -> Command {
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
    java.arg(format!("{}/*", jars.display())).arg(source);
    java
}

fn java(from: &str, version: &str) -> Result<Program> {
    if let Some(missing) = java_missing() {
        return Ok(Program::Missing(missing));
    }
    let jars = jars::fetch(from, &format!("kafka-clients-{version}"))?;
    let program = java_source(&jars, &format!("{DIR}/Scenario.java"));
    Ok(Program::Ready(program))
}

fn python_client(script: &str, python: Option<PathBuf>) -> Program {
    let Some(python) = python else {
        return Program::Missing("python3 is missing".to_owned());
    };
    let mut program = Command::new(python);
    program.arg(format!("{DIR}/{script}.py"));
    Program::Ready(program)
}

/// A Go module; `go.sum` pins the versions and checksums of its dependencies.
fn go(suite: &str) -> Result<Program> {
    if !has("go", "version") {
        return Ok(Program::Missing("go is missing".to_owned()));
    }
    let binary = build_go(suite.trim_start_matches("scenario-"), suite)?;
    Ok(Program::Ready(Command::new(binary)))
}

/// Builds a program of the Go module, which needs no library of the machine.
pub(crate) fn build_go(package: &str, name: &str) -> Result<PathBuf> {
    let binary = std::fs::canonicalize("target")?
        .join("test-deps")
        .join(name);
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"]);
    build.arg("-o").arg(&binary).arg(format!("./{package}"));
    run(build.env("CGO_ENABLED", "0").current_dir(GO))?;
    Ok(binary)
}

/// kafkajs; `package-lock.json` pins the versions and checksums of its packages.
fn kafkajs() -> Result<Program> {
    if !has("node", "--version") || !has("npm", "--version") {
        return Ok(Program::Missing("node or npm is missing".to_owned()));
    }
    let from = Path::new(KAFKAJS);
    let stamp = hash(&std::fs::read(from.join("package-lock.json"))?);
    let dir = PathBuf::from(format!("target/test-deps/kafkajs-{}", &stamp[..12]));
    if !dir.join("done").exists() {
        std::fs::create_dir_all(&dir)?;
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(from.join(name), dir.join(name))?;
        }
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]);
        run(npm.current_dir(&dir))?;
        std::fs::write(dir.join("done"), "")?;
    }
    let mut node = Command::new("node");
    node.env("NODE_PATH", dir.join("node_modules"));
    node.arg(from.join("main.js"));
    Ok(Program::Ready(node))
}

/// What a broker answers to each old client.
fn old_answers(address: &str) -> Result<String> {
    let mut answers = String::new();
    for version in OLD {
        let jars = jars::fetch(
            &format!("tests/clients/java-{version}"),
            &format!("kafka-clients-{version}"),
        )?;
        let mut java = java_source(&jars, "tests/clients/old/Old.java");
        let output = java.args([address, &format!("old-{version}")]).output()?;
        if !output.status.success() {
            bail!("{version}: {}", String::from_utf8_lossy(&output.stderr));
        }
        answers.push_str(&String::from_utf8(output.stdout)?);
    }
    Ok(answers)
}

/// Clients that are older than Kafka 4 supports get the answers that Kafka gives.
fn old_clients() -> Result<Outcome> {
    if let Some(missing) = java_missing() {
        return Ok(Outcome::Skipped(missing));
    }
    let broker = Broker::start("old-clients")?;
    let answers = old_answers(&broker.address)?;
    broker.stop()?;
    let expected = std::fs::read_to_string(OLD_ANSWERS)
        .context("Kafka's answers to old clients aren't recorded")?;
    if answers != expected {
        bail!("Kafka answers\n{expected}and Highwater\n{answers}");
    }
    Ok(Outcome::Passed)
}

/// Records what Apache Kafka answers to the old clients.
pub(crate) fn record_old_answers() -> Result<()> {
    let peer = Peer::start()?;
    std::fs::write(OLD_ANSWERS, old_answers(&peer.address)?)?;
    Ok(())
}
