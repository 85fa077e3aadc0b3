//! A broker under more clients than it has memory for.

use anyhow::Result;

use crate::report::Outcome;
use crate::rust::cargo;

/// What the node counts stays within its memory limit, and the process little above it.
pub(crate) fn run() -> Result<Outcome> {
    let run = ["run", "--release", "--locked", "--quiet"];
    let driver = ["--package", "highwater-tests", "--bin", "overload", "--"];
    let args = ["target/release/highwater", "target/test-run/overload"];
    cargo(&[&run[..], &driver, &args].concat())
}
