//! The suites with real clients that run against the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::broker::Broker;
use crate::crash;
use crate::differential;
use crate::jars::{self, has};
use crate::overload;
use crate::python;
use crate::report::{Outcome, Report};
use crate::rust::{cargo, run};
use crate::tools;
use crate::tools_cluster;

const KAFKA: &str = "4.4.0";

/// Every suite with clients.
pub(crate) fn run_all(report: &mut Report) {
    report.suite("librdkafka", || python_suite("librdkafka"));
    report.suite("groups", || python_suite("groups"));
    report.suite("kcat", kcat);
    report.suite("java", java);
    report.suite("example", example);
    report.suite("tools", tools::compare);
    report.suite("differential", differential::compare);
    report.suite("differential@cluster", differential::compare_cluster);
    report.suite("crash", || crash::suite("disk"));
    report.suite("crash-object", || crash::suite("object"));
    report.suite("cluster", crash::cluster);
    report.suite("cluster-example", crash::cluster_example);
    report.suite("tools-cluster", tools_cluster::compare);
    report.suite("overload", overload::run);
}

fn python_suite(name: &str) -> Result<Outcome> {
    let Some(python) = python::newest()? else {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    };
    let broker = Broker::start(name)?;
    let script = format!("tests/clients/python/{name}.py");
    run(Command::new(python).arg(script).arg(&broker.address))?;
    broker.stop()?;
    Ok(Outcome::Passed)
}

/// The example at small scale, with its replay while the stream goes on; then once more on the data of the first run.
fn example() -> Result<Outcome> {
    let Some(python) = python::newest()? else {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    };
    let broker = Broker::start("example")?;
    for events in ["4000", "500"] {
        let mut example = Command::new(&python);
        example.args(["examples/fhir-events/fhir_events.py", "all"]);
        example.args(["--events", events, "--rate", "1000"]);
        run(example.args(["--bootstrap", &broker.address]))?;
    }
    broker.stop()?;
    Ok(Outcome::Passed)
}

fn kcat() -> Result<Outcome> {
    if !has("kcat", "-V") {
        return Ok(Outcome::Skipped("kcat is missing".to_owned()));
    }
    let broker = Broker::start("kcat")?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: String = (0..1000)
            .map(|i| format!("key-{i}:value-{codec}-{i}\n"))
            .collect();
        let topic = format!("kcat-{codec}");
        let mut producer = Command::new("kcat")
            .args([
                "-b",
                &broker.address,
                "-t",
                &topic,
                "-K:",
                "-z",
                codec,
                "-P",
            ])
            .stdin(Stdio::piped())
            .spawn()?;
        let input = producer
            .stdin
            .take()
            .context("kcat has no standard input")?;
        std::io::Write::write_all(&mut &input, lines.as_bytes())?;
        drop(input);
        if !producer.wait()?.success() {
            bail!("kcat could not produce with {codec}");
        }
        let mut consumer = Command::new("kcat");
        consumer.args([
            "-b",
            &broker.address,
            "-t",
            &topic,
            "-C",
            "-q",
            "-e",
            "-o",
            "beginning",
        ]);
        let read = consumer.args(["-f", "%k:%s\n"]).output()?;
        if String::from_utf8(read.stdout)? != lines {
            bail!("kcat read other records than it wrote with {codec}");
        }
    }
    broker.stop()?;
    Ok(Outcome::Passed)
}

fn java() -> Result<Outcome> {
    if !has("java", "-version") || !has("mvn", "--version") {
        return Ok(Outcome::Skipped("java or mvn is missing".to_owned()));
    }
    let jars = jars()?;
    schema_equals_the_definitions(&jars)?;
    encodings_survive_the_classes(&jars)?;
    let broker = Broker::start("java")?;
    run(java_program(&jars, "Group").arg(&broker.address))?;
    broker.stop()?;
    Ok(Outcome::Passed)
}

/// The folder of Kafka's clients and what they depend on.
pub(crate) fn jars() -> Result<PathBuf> {
    jars::fetch("tests/clients/java", &format!("kafka-clients-{KAFKA}"))
}

/// A program of the folder `tests/clients/java`.
pub(crate) fn java_program(jars: &Path, name: &str) -> Command {
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{}/*", jars.display()));
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]);
    java.arg(format!("tests/clients/java/{name}.java"));
    java
}

/// Every message and batch that we encode is read by Kafka's own classes, which encode it to the same bytes.
fn encodings_survive_the_classes(jars: &Path) -> Result<()> {
    let dir = Path::new("target/test-run");
    std::fs::create_dir_all(dir)?;
    let file = dir.join("encodings.txt").display().to_string();
    let package = ["--package", "highwater-protocol", "--example", "encodings"];
    cargo(
        &[
            &["run", "--release", "--locked", "--quiet"],
            &package[..],
            &["--", &file],
        ]
        .concat(),
    )?;
    run(java_program(jars, "RoundTrip").args(["read", &file]))
}

/// Our schema is compared, field by field, with the definitions in Kafka's clients jar.
fn schema_equals_the_definitions(jars: &Path) -> Result<()> {
    let jar = std::fs::canonicalize(jars.join(format!("kafka-clients-{KAFKA}.jar")))?;
    let out = jars.join("definitions");
    std::fs::create_dir_all(&out)?;
    run(Command::new("jar")
        .arg("xf")
        .arg(jar)
        .arg("common/message")
        .current_dir(&out))?;
    let schema = Path::new("protocol/schema");
    let differences = highwater_codegen::compare(&out.join("common/message"), schema)?;
    if !differences.is_empty() {
        bail!(
            "the schema differs from Kafka {KAFKA}:\n{}",
            differences.join("\n")
        );
    }
    Ok(())
}
