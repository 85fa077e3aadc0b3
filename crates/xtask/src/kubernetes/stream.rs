//! Records under way while something happens to the cluster: `tests/clients/go/stream` writes and reads them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::broker::end;
use crate::report::say;

const PARTITIONS: &str = "6";
const PER_SECOND: &str = "200";
/// The line that the program prints once a record was acknowledged and one was read.
const FLOWING: &str = "flowing\n";

/// A running program, which is killed when it is dropped.
pub(super) struct Stream {
    topic: String,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Stream {
    /// Starts to write records to a new topic, and waits until they flow. The program bounds that, and all that it waits
    /// for.
    pub(super) fn start(mut program: Command, bootstrap: &str, topic: &str) -> Result<Self> {
        program.args([bootstrap, topic, PARTITIONS, PER_SECOND]);
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = program.spawn().context("cannot start the stream")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut stream = Self {
            topic: topic.to_owned(),
            child,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        stream.output.read_line(&mut line)?;
        ensure!(
            line == FLOWING,
            "no records flow: the stream {topic}: {line}"
        );
        Ok(stream)
    }

    /// Ends the stream; fails if a record is lost or there twice, or if the client gave an error to the program.
    pub(super) fn finish(mut self, what: &str) -> Result<()> {
        drop(self.child.stdin.take());
        let mut output = String::new();
        self.output.read_to_string(&mut output)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the stream {}: {status}", self.topic);
        let told: Value = serde_json::from_str(&output)?;
        say(&format!(
            "{what}: {} records acknowledged, p50 {} ms, p99 {} ms, at most {} ms, longest pause {} ms",
            told["acked"], told["p50_ms"], told["p99_ms"], told["max_ms"], told["pause_ms"]
        ));
        if told["rejoins"] != 0 {
            say(&format!(
                "   the group joined again {} times",
                told["rejoins"]
            ));
        }
        let is_none = |key: &str| told[key] == 0;
        ensure!(
            is_none("lost") && is_none("twice") && told["errors"].is_null(),
            "{what}: {told}"
        );
        ensure!(
            told["acked"] == told["written"] && told["acked"] != 0,
            "{what}: {told}"
        );
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
