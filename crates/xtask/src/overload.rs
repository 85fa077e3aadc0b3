//! A broker with more clients than it has memory for.

use std::process::Command;

use anyhow::Result;

use crate::report::Outcome;
use crate::rust;

/// The memory that the node accounts for stays within its limit, and the process's memory little above that.
pub(crate) fn run() -> Result<Outcome> {
    // the suite `tests` has built it
    let mut driver = Command::new("target/release/overload");
    rust::run(driver.args(["target/release/highwater", "target/test-run/overload"]))?;
    Ok(Outcome::Passed)
}
