//! franz-go's own tests against the real binary, from the version of the module that `go.sum` pins.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::broker::Broker;
use crate::cluster::Cluster;
use crate::jars::has;
use crate::report::{Outcome, Report, say};

const MODULE: &str = "tests/clients/go";
const PACKAGES: &str = "github.com/twmb/franz-go/pkg/kgo/...";
const LIST: &str = "tests/clients/go/franz-go-suite.txt";
/// The number of records in the test of chained groups, whose default is 500 000.
const RECORDS: &str = "50000";
const OUTPUT_SHOWN_MAX: usize = 4000;

/// The listed tests, which don't pass.
struct Listed {
    left_out: BTreeSet<String>,
    skips: BTreeSet<String>,
}

/// How each test ended, and the output of those that failed.
#[derive(Default)]
struct Ran {
    passed: usize,
    skipped: BTreeSet<String>,
    failed: BTreeSet<String>,
    output: BTreeMap<String, String>,
}

/// The suites: with one node, and with a cluster.
pub(crate) fn run_all(report: &mut Report) {
    report.suite("franz-go-suite", || {
        compared(|listed| {
            let broker = Broker::start("franz-go-suite")?;
            let ran = tests(&broker.address, "1", listed)?;
            broker.stop()?;
            Ok(ran)
        })
    });
    report.suite("franz-go-suite@cluster", || {
        compared(|listed| {
            let settings = ["group.initial.rebalance.delay.ms=300"];
            let cluster = Cluster::start("franz-go-suite-cluster", &settings)?;
            let ran = tests(&cluster.bootstrap(), "3", listed)?;
            cluster.stop(&[])?;
            Ok(ran)
        })
    });
}

fn compared(ran: impl FnOnce(&Listed) -> Result<Ran>) -> Result<Outcome> {
    if !has("go", "version") {
        return Ok(Outcome::Skipped("go is missing".to_owned()));
    }
    let listed = Listed::read()?;
    ran(&listed)?.compare(&listed)?;
    Ok(Outcome::Passed)
}

impl Listed {
    fn read() -> Result<Self> {
        let mut listed = Self {
            left_out: BTreeSet::new(),
            skips: BTreeSet::new(),
        };
        let is_entry = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in std::fs::read_to_string(LIST)?.lines().filter(is_entry) {
            let (what, _) = line.split_once(": ").context("the line gives no reason")?;
            if let Some(name) = what.strip_prefix("left out ") {
                listed.left_out.insert(name.to_owned());
            } else {
                let name = what.strip_prefix("skips ");
                let name =
                    name.with_context(|| format!("the line has an unknown form: `{what}`"))?;
                listed.skips.insert(name.to_owned());
            }
        }
        Ok(listed)
    }

    /// The pattern of the tests that aren't run, for Go's option `-skip`.
    fn pattern(&self) -> String {
        let exact = |name: &String| -> String {
            let parts: Vec<String> = name.split('/').map(|part| format!("^{part}$")).collect();
            parts.join("/")
        };
        let patterns: Vec<String> = self.left_out.iter().map(exact).collect();
        patterns.join("|")
    }
}

fn tests(address: &str, replication_factor: &str, listed: &Listed) -> Result<Ran> {
    let mut go = Command::new("go");
    go.args(["test", "-mod=readonly", "-vet=off", "-count=1", "-json"]);
    go.args(["-timeout=400s", "-skip", &listed.pattern(), PACKAGES]);
    go.env("KGO_SEEDS", address);
    go.env("KGO_TEST_RF", replication_factor);
    go.env("KGO_TEST_RECORDS", RECORDS);
    go.env("KGO_LOG_LEVEL", "none");
    go.current_dir(MODULE).stderr(Stdio::inherit());
    let output = String::from_utf8(go.output().context("cannot run go")?.stdout)?;
    let mut ran = Ran::default();
    for line in output.lines() {
        let event: Value = serde_json::from_str(line).context("a line of `go test` is no event")?;
        ran.take(&event);
    }
    Ok(ran)
}

impl Ran {
    fn take(&mut self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        // an event about a whole package names no test
        let name = match text("Test") {
            "" => text("Package"),
            test => test,
        };
        match text("Action") {
            "output" | "build-output" => {
                let said = self.output.entry(name.to_owned()).or_default();
                if said.len() < OUTPUT_SHOWN_MAX {
                    said.push_str(text("Output"));
                }
            }
            "pass" if name == text("Test") => self.passed += 1,
            "skip" if name == text("Test") => {
                self.skipped.insert(name.to_owned());
            }
            "fail" | "build-fail" => {
                self.failed.insert(name.to_owned());
            }
            _ => {}
        }
    }

    fn compare(&self, listed: &Listed) -> Result<()> {
        let mut wrong = Vec::new();
        for name in &self.failed {
            let said = self.output.get(name).map_or("", String::as_str);
            wrong.push(format!("fails: {name}\n{said}"));
        }
        for name in self.skipped.difference(&listed.skips) {
            wrong.push(format!("a test skips itself and isn't listed: {name}"));
        }
        for name in listed.skips.difference(&self.skipped) {
            wrong.push(format!(
                "a test is listed and no longer skips itself: {name}"
            ));
        }
        if self.passed == 0 {
            wrong.push("no test passed".to_owned());
        }
        say(&format!(
            "{} passed, {} skipped themselves, {} left out",
            self.passed,
            self.skipped.len(),
            listed.left_out.len()
        ));
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        Ok(())
    }
}
