//! Java's own tools at their defaults, which show what a user sees. They saturate their core, so they say little of a
//! broker.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use highwater_kafka_peer::jars;
use highwater_types::ByteSize;

use super::lab::{Lab, quiet};
use super::results::Subject;
use super::traffic::{Shape, extent};
use crate::produce;

const RECORD_BYTES: u64 = 1024;
/// Records per second of the stated rate, which is 5 MiB/s.
const RATE: u64 = 5_000;
const ALL: [Subject; 3] = [Subject::Highwater, Subject::Kafka, Subject::KafkaFlush];

fn tool(name: &str) -> Result<Command> {
    let jars: PathBuf = jars::fetch("tests/clients/tools", "kafka-tools-4.3.1")?;
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-Dorg.apache.logging.log4j.level=OFF", "-cp"]);
    java.arg(format!("{}/*", jars.display()));
    java.arg(format!("org.apache.kafka.tools.{name}"));
    java.stderr(Stdio::null());
    Ok(java)
}

/// Runs a tool, and returns the last line that it prints.
fn last_line(tool: &mut Command) -> Result<String> {
    let output = tool.output().context("cannot run java")?;
    ensure!(output.status.success(), "{tool:?} failed");
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    Ok(last.context("a tool prints its figures")?.to_owned())
}

/// The number before a unit.
fn before(line: &str, unit: &str) -> Result<f64> {
    let (head, _) = line
        .split_once(unit)
        .with_context(|| format!("no {unit} in: {line}"))?;
    let number = head.trim_end().rsplit([' ', '(', ',']).next();
    Ok(number.context("a number")?.parse()?)
}

/// Runs one default producer on one partition, at its highest rate or at the stated rate.
pub(super) fn produce(lab: &mut Lab, case: &'static str, is_paced: bool) -> Result<()> {
    for round in 1..=lab.rounds {
        for subject in ALL {
            let seconds = lab.seconds(6);
            let records = match (is_paced, subject) {
                (true, _) => RATE * seconds,
                (false, Subject::KafkaFlush) => 10_000 * seconds,
                (false, _) => 50_000 * seconds,
            };
            let throughput = if is_paced {
                RATE.to_string()
            } else {
                "-1".to_owned()
            };
            let topic = lab.topic(subject, 1)?;
            let mut tool = tool("ProducerPerformance")?;
            tool.args(["--bootstrap-server", &topic.address, "--topic", &topic.name]);
            tool.args(["--num-records", &records.to_string()]);
            tool.args(["--warmup-records", &(records / 4).to_string()]);
            tool.args(["--record-size", &RECORD_BYTES.to_string()]);
            let line = last_line(tool.args(["--throughput", &throughput]))?;
            lab.progress(&format!("{case} {round} {}: {line}", subject.name()))?;
            let metrics = [
                ("MB/s", "MB/sec"),
                ("p50 ms", "ms 50th"),
                ("p99 ms", "ms 99th,"),
                ("p99.9 ms", "ms 99.9th"),
            ];
            for (metric, unit) in metrics {
                let value = before(&line, unit)?;
                lab.note((case, metric), subject, round, value);
            }
            lab.delete(subject, topic)?;
        }
    }
    Ok(())
}

/// Runs one default consumer that reads the existing records.
pub(super) fn consume(lab: &mut Lab, case: &'static str) -> Result<()> {
    let shape = Shape {
        record: RECORD_BYTES,
        batch: 16 << 10,
        partitions: 1,
        connections: 1,
    };
    for round in 1..=lab.rounds {
        for subject in [Subject::Highwater, Subject::Kafka] {
            let topic = lab.topic(subject, 1)?;
            let extent = extent(lab.bytes(ByteSize::mib(512)));
            let written = produce::run(&topic.address, topic.id, &shape.load(), &extent, None)?;
            quiet(lab.pid(subject)?)?;
            let mut tool = tool("ConsumerPerformance")?;
            tool.args(["--bootstrap-server", &topic.address, "--topic", &topic.name]);
            let line = last_line(tool.args(["--num-records", &written.records.to_string()]))?;
            lab.progress(&format!("{case} {round} {}: {line}", subject.name()))?;
            let column = line.split(',').nth(8).context("fetch.MB.sec")?;
            lab.note((case, "fetch MB/s"), subject, round, column.trim().parse()?);
            lab.delete(subject, topic)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_line_are_found() {
        let line = "200000 steady state records sent, 33818.058843 records/sec (33.03 MB/sec), 801.71 ms avg latency, \
                    1291.00 ms max latency, 790 ms 50th, 1189 ms 95th, 1225 ms 99th, 1281 ms 99.9th.";
        let figures = ["MB/sec", "ms 50th", "ms 99th,", "ms 99.9th"].map(|unit| before(line, unit));
        let figures = figures.map(|figure| figure.expect("it is there"));
        assert_eq!(figures, [33.03, 790.0, 1225.0, 1281.0]);
        assert!(before(line, "ms 42nd").is_err());
    }
}
