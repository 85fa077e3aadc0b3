//! Apache Kafka's command-line tools: their output against Highwater is compared with their output against Apache
//! Kafka.
//!
//! A transcript under `tests/clients/goldens` is a list of commands, each with the tools' output, and is recorded by
//! `cargo xtask goldens`. To add a command, write its line with `$ ` and record. `Tools.java` describes the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::broker::Broker;
use crate::jars::{self, has};
use crate::peer::Peer;
use crate::report::{Outcome, say};
use crate::rust::run;

/// The transcripts in the order in which they run; that of groups is last because groups leave their internal topic
/// behind.
const TRANSCRIPTS: &[&str] = &[
    "api-versions",
    "cluster",
    "topics",
    "configs",
    "records",
    "offsets",
    "load",
    "alter-configs",
    "groups",
];

/// Transcripts that are recorded and not compared yet, each with what it waits for.
const PENDING: &[(&str, &str)] = &[];

const GOLDENS: &str = "tests/clients/goldens";
const OWN: &str = "tests/clients/tools";
const API_VERSIONS: &str = "api-versions";
const LINES_SHOWN_MAX: usize = 60;
/// A pause between commands: Kafka answers before its broker has caught up with its controller.
const KAFKA_PAUSE_MS: u32 = 400;

/// The suite: every transcript that isn't pending.
pub(crate) fn compare() -> Result<Outcome> {
    if !has("java", "-version") || !has("mvn", "--version") {
        return Ok(Outcome::Skipped("java or mvn is missing".to_owned()));
    }
    let pending = |name: &str| PENDING.iter().any(|(pending, _)| *pending == name);
    let names: Vec<&str> = TRANSCRIPTS
        .iter()
        .copied()
        .filter(|name| !pending(name))
        .collect();
    let mut wrong = differences(&names)?;
    for (name, why) in PENDING {
        say(&format!(
            "pending: {} commands of {name}: {why}",
            commands(name)?
        ));
    }
    let compared: usize = names
        .iter()
        .map(|name| commands(name))
        .sum::<Result<usize>>()?;
    say(&format!("{compared} commands compared"));
    if wrong.is_empty() {
        return Ok(Outcome::Passed);
    }
    let count = wrong.len();
    wrong.truncate(LINES_SHOWN_MAX);
    bail!(
        "{count} line(s) differ from Kafka's (-):\n{}",
        wrong.join("\n")
    )
}

/// Prints the differences of one transcript.
pub(crate) fn show(name: &str) -> Result<()> {
    let wrong = differences(&[name])?;
    say(&wrong.join("\n"));
    say(&format!("{} line(s) differ", wrong.len()));
    Ok(())
}

/// Records transcripts from Apache Kafka; all of them if no name is given.
pub(crate) fn record(names: &[String]) -> Result<()> {
    let asked = |name: &&str| names.is_empty() || names.iter().any(|asked| asked == name);
    let names: Vec<&str> = TRANSCRIPTS.iter().copied().filter(asked).collect();
    let peer = Peer::start()?;
    let goldens = Path::new(GOLDENS);
    let names: Vec<PathBuf> = names.iter().map(|name| golden(name)).collect();
    replay(&peer.address, &[], KAFKA_PAUSE_MS, (&names, goldens))
}

fn golden(name: &str) -> PathBuf {
    Path::new(GOLDENS).join(format!("{name}.txt"))
}

fn commands(name: &str) -> Result<usize> {
    let text = std::fs::read_to_string(golden(name))?;
    Ok(text.lines().filter(|line| line.starts_with("$ ")).count())
}

/// Runs transcripts against a broker and writes its output into new ones; `names` are those of values, as `NAME=VALUE`.
pub(crate) fn replay(
    address: &str,
    names: &[String],
    pause_ms: u32,
    (transcripts, to): (&[PathBuf], &Path),
) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let jars = jars::fetch(OWN, "kafka-tools-4.3.1")?;
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.arg("-Dorg.apache.logging.log4j.level=OFF");
    java.arg("-cp").arg(format!("{}/*", jars.display()));
    java.arg("tests/clients/java/Tools.java").args(names);
    java.args([address, &pause_ms.to_string()]).arg(to);
    run(java.args(transcripts))
}

fn differences(names: &[&str]) -> Result<Vec<String>> {
    let broker = Broker::start("tools")?;
    let out = Path::new("target/test-run/tools/transcripts");
    let transcripts: Vec<PathBuf> = names.iter().map(|name| golden(name)).collect();
    replay(&broker.address, &[], 0, (&transcripts, out))?;
    broker.stop()?;
    let mut wrong = Vec::new();
    for name in names {
        let expected = std::fs::read_to_string(golden(name))?;
        let answered = std::fs::read_to_string(out.join(format!("{name}.txt")))?;
        if *name == API_VERSIONS {
            wrong.extend(api_differences(&expected, &answered)?);
        } else {
            wrong.extend(line_differences(&expected, &answered));
        }
    }
    Ok(wrong)
}

/// The lines of each command that differ, below the command; expected lines come first.
pub(crate) fn line_differences(expected: &str, answered: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (expected, answered) in expected.split("\n$").zip(answered.split("\n$")) {
        if expected == answered {
            continue;
        }
        let command = expected.lines().next().unwrap_or_default();
        wrong.push(format!("${command}"));
        let only = |sign: char, of: &str, other: &str| -> Vec<String> {
            of.lines()
                .filter(|line| !other.lines().any(|one| one == *line))
                .map(|line| format!("{sign} {line}"))
                .collect()
        };
        let (missing, added) = (only('-', expected, answered), only('+', answered, expected));
        if missing.is_empty() && added.is_empty() {
            wrong.push("  the same lines in another order or number".to_owned());
        }
        wrong.extend(missing);
        wrong.extend(added);
    }
    wrong
}

/// Every API and feature must be advertised as Kafka advertises it, except those that `api-exceptions.txt` gives a
/// reason for.
fn api_differences(expected: &str, answered: &str) -> Result<Vec<String>> {
    let exceptions = std::fs::read_to_string(Path::new(OWN).join("api-exceptions.txt"))?;
    let mut exceptions: BTreeMap<&str, &str> = exceptions
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.split_once(": ")
                .context("a line needs what we advertise and the reason")
        })
        .collect::<Result<_>>()?;
    let kafka: Vec<&str> = expected.lines().collect();
    let mut wrong = Vec::new();
    for line in answered.lines() {
        let excepted = exceptions.remove(line).is_some();
        if excepted == kafka.contains(&line) {
            wrong.push(format!("+ {line}"));
        }
    }
    for line in kafka.iter().filter(|line| line.starts_with("feature ")) {
        let name = line.split(' ').nth(1).unwrap_or_default();
        let of_it = |line: &str| line.split(' ').nth(1) == Some(name);
        if !answered.lines().any(of_it) && exceptions.remove(*line).is_none() {
            wrong.push(format!("- {line}"));
        }
    }
    wrong.extend(
        exceptions
            .keys()
            .map(|line| format!("an exception without a difference: {line}")),
    );
    Ok(wrong)
}
