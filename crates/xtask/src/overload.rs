//! A broker with more clients than it has memory for.

use anyhow::Result;

use crate::report::Outcome;
use crate::rust::cargo;

/// The memory that the node accounts for stays within its limit, and the process's memory little above that.
pub(crate) fn run() -> Result<Outcome> {
    let run = ["run", "--release", "--locked", "--quiet"];
    let driver = ["--package", "highwater-tests", "--bin", "overload", "--"];
    let args = ["target/release/highwater", "target/test-run/overload"];
    cargo(&[&run[..], &driver, &args].concat())
}
