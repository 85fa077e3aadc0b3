//! Records under way while something happens to the cluster: `tests/clients/go/stream` writes and reads them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::broker::end;
use crate::report::say;
use crate::time::pause;

const PARTITIONS: &str = "6";
const PER_SECOND: &str = "200";
/// How long the stream runs before anything happens to the cluster.
const WARM_UP: Duration = Duration::from_secs(3);

/// A running program, which is killed when it is dropped.
pub(super) struct Stream {
    topic: String,
    child: Option<Child>,
}

impl Stream {
    /// Starts to write records to a new topic.
    pub(super) fn start(mut program: Command, bootstrap: &str, topic: &str) -> Result<Self> {
        // a cluster that was left up has the topics of the former run
        let topic = format!("{topic}-{}", std::process::id());
        program.args([bootstrap, &topic, PARTITIONS, PER_SECOND]);
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = program.spawn().context("cannot start the stream")?;
        pause(WARM_UP);
        Ok(Self {
            topic,
            child: Some(child),
        })
    }

    /// Ends the stream; fails if a record is lost or there twice, or if the client gave an error to the program.
    pub(super) fn finish(mut self, what: &str) -> Result<()> {
        let mut child = self.child.take().context("the stream has ended")?;
        drop(child.stdin.take());
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the stream {} failed", self.topic);
        let told: Value = serde_json::from_slice(&output.stdout)?;
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
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}
