//! The binary that is published. Its debug information is in a file beside it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::jars::has;
use crate::report::{Outcome, say};
use crate::rust::{cargo, run};

const BUILT: &str = "target/release/highwater";
const DIR: &str = "target/dist";
const BINARY: &str = "target/dist/highwater";
const DEBUG: &str = "target/dist/highwater.debug";
/// A limit above the size of the binary; with debug information it would be several times as large.
const BYTES_MAX: u64 = 48 << 20;

/// Builds the binary, and writes `highwater.debug`, which debuggers find by a link in the binary.
pub(crate) fn build() -> Result<()> {
    cargo(&["build", "--release", "--locked", "--package", "highwater"])?;
    split()?;
    for file in [BINARY, DEBUG] {
        let mebibytes = std::fs::metadata(file)?.len() >> 20;
        say(&format!("{file}: {mebibytes} MiB"));
    }
    Ok(())
}

/// Splits the release binary into the one that is published and its debug information.
pub(crate) fn split() -> Result<()> {
    std::fs::create_dir_all(DIR)?;
    let mut keep = Command::new("objcopy");
    run(keep.args(["--only-keep-debug", BUILT, DEBUG]))?;
    let mut strip = Command::new("objcopy");
    let link = format!("--add-gnu-debuglink={DEBUG}");
    run(strip.args(["--strip-debug", &link, BUILT, BINARY]))
}

/// Checks that the binary is small, runs, and names the commit that it was built from.
pub(crate) fn check() -> Result<Outcome> {
    if !has("objcopy", "--version") {
        return Ok(Outcome::Skipped("objcopy (binutils) is missing".to_owned()));
    }
    split()?;
    let bytes = std::fs::metadata(BINARY)?.len();
    ensure!(bytes < BYTES_MAX, "{BINARY} has {bytes} bytes");
    ensure!(Path::new(DEBUG).exists(), "{DEBUG} is missing");
    let output = Command::new(BINARY)
        .arg("version")
        .output()
        .context("cannot run the binary")?;
    let told = String::from_utf8(output.stdout)?;
    let commit = match std::env::var("HIGHWATER_COMMIT") {
        Ok(commit) => commit,
        Err(_) => head()?,
    };
    ensure!(
        !commit.is_empty() && told.contains(&format!("(commit {commit})")),
        "`highwater version` prints {told:?}, but the commit is {commit}"
    );
    Ok(Outcome::Passed)
}

fn head() -> Result<String> {
    let mut git = Command::new("git");
    let output = git.args(["rev-parse", "--short=12", "HEAD"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
