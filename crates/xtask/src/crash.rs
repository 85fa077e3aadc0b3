//! Crashes of the real binary under load: the suite `crash`, and the soak, which repeats it for a given time.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::broker::free_port;
use crate::jars::has;
use crate::python;
use crate::report::{Outcome, say};
use crate::rust::{self, run};
use crate::time::now;
use crate::worktree;

const SCRIPT: &str = "tests/clients/python/crash.py";
const BINARY: &str = "target/release/highwater";
const DIR: &str = "target/test-run/crash";
const CLUSTER_SCRIPT: &str = "tests/clients/python/cluster.py";
const CLUSTER_DIR: &str = "target/test-run/cluster";
const CLUSTER_EXAMPLE: &str = "examples/cluster/run.py";
const CLUSTER_EXAMPLE_DIR: &str = "target/test-run/cluster-example";
const SOAK_DIR: &str = "target/test-run/soak";
const FORMER_DIR: &str = "target/former";

/// Kills the broker at named points and at random while producers write, then looks for every acknowledged record.
///
/// The write-ahead log is a ring on the disk (`disk`), or lies in the object store (`object`).
pub(crate) fn suite(wal: &str) -> Result<Outcome> {
    let Some(python) = python::newest()? else {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    };
    clear(DIR)?;
    let port = free_port()?.to_string();
    let mut script = Command::new(python);
    script.args([SCRIPT, BINARY, DIR, &port, "--wal", wal]);
    run(&mut script)?;
    Ok(Outcome::Passed)
}

/// Kills, stops and continues the nodes of a cluster under load, then looks for every acknowledged record. Does the same
/// with nodes that are restarted cleanly, one after the other, if the store is a directory.
pub(crate) fn cluster() -> Result<Outcome> {
    let Some(python) = python::newest()? else {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    };
    clear(CLUSTER_DIR)?;
    run(Command::new(&python).args([CLUSTER_SCRIPT, BINARY, CLUSTER_DIR]))?;
    // a cluster needs a store of its own, and the suite on S3 gives one
    if std::env::var("HIGHWATER_OBJECT_STORAGE").is_err() {
        clear(CLUSTER_DIR)?;
        run(Command::new(python).args([CLUSTER_SCRIPT, BINARY, CLUSTER_DIR, "--rolling"]))?;
    }
    Ok(Outcome::Passed)
}

/// Restarts all nodes of a cluster under load, twice: they begin as processes of an earlier commit's binary, which is built
/// under `target/former`, and become processes of this tree's.
pub(crate) fn upgrade(from: &str) -> Result<()> {
    let python = python::newest()?.context("python3 is missing")?;
    rust::build_binaries()?;
    let tree = Path::new(FORMER_DIR).join("tree");
    worktree::add(&tree, from)?;
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "--package", "highwater"]);
    build.args(["--target-dir", "../target"]).current_dir(&tree);
    run(&mut build)?;
    clear(CLUSTER_DIR)?;
    let former = format!("{FORMER_DIR}/target/release/highwater");
    let mut script = Command::new(python);
    script.args([CLUSTER_SCRIPT, BINARY, CLUSTER_DIR, "--rolling"]);
    run(script.args(["--former", &former]))?;
    worktree::remove(&tree)
}

/// The example of a cluster: one broker is killed and another one stops, and no record is lost. It needs no package.
pub(crate) fn cluster_example() -> Result<Outcome> {
    if !has("python3", "--version") {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    }
    clear(CLUSTER_EXAMPLE_DIR)?;
    let mut example = Command::new("python3");
    example.args([CLUSTER_EXAMPLE, "--binary", BINARY]);
    example.args(["--dir", CLUSTER_EXAMPLE_DIR]);
    if let Ok(url) = std::env::var("HIGHWATER_OBJECT_STORAGE") {
        example.args(["--s3", &url]);
    }
    run(&mut example)?;
    Ok(Outcome::Passed)
}

/// What a soak repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Soaked {
    /// One broker that is killed, on one data directory.
    Crash,
    /// Clusters of three and of five controllers and brokers in network namespaces, whose nodes die and whose links are
    /// cut. It needs root.
    Cluster,
}

/// Repeats a suite until the time is over. Each round has its own seed; one of `crash` has its own topic, one of
/// `cluster` takes two minutes of failures and has its own cluster.
///
/// A round that has begun is finished. The first round that fails ends the soak and leaves its data for inspection.
pub(crate) fn soak(what: Soaked, minutes: u64, first_seed: u64) -> Result<()> {
    let python = python::newest()?.context("python3 is missing")?;
    rust::build_binaries()?;
    clear(SOAK_DIR)?;
    let time = Duration::from_secs(minutes.saturating_mul(60));
    let port = free_port()?.to_string();
    let since = now();
    for seed in first_seed.. {
        let number = seed.to_string();
        let mut script = Command::new(&python);
        match what {
            Soaked::Crash => script.args([SCRIPT, BINARY, SOAK_DIR, &port, "--seed", &number]),
            Soaked::Cluster => {
                clear(SOAK_DIR)?;
                let nodes = if seed % 2 == 0 { "3" } else { "5" };
                script.args([CLUSTER_SCRIPT, BINARY, SOAK_DIR, "--seed", &number]);
                script.args(["--seconds", "120", "--namespaces"]);
                script.args(["--controllers", nodes, "--brokers", nodes])
            }
        };
        run(&mut script).with_context(|| format!("seed {seed} failed: see {SOAK_DIR}"))?;
        let took = since.elapsed();
        say(&format!("seed {seed} passed, {:.0} s", took.as_secs_f64()));
        if took >= time {
            break;
        }
    }
    Ok(())
}

fn clear(dir: &str) -> Result<()> {
    if Path::new(dir).exists() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}
