//! What every benchmark does first: it chooses its cases, builds the binary, and looks whether the machine is quiet.

use std::process::Command;

use anyhow::{Result, ensure};
use highwater_kafka_peer::process::run;

use crate::{machine, say};

/// Above this load, another program is running.
const LOAD_MAX: f64 = 0.5;

/// The cases whose names begin with one of these; all if none is given. Fails if there is no such case.
pub(crate) fn chosen<T: Copy>(
    all: &[(&'static str, T)],
    only: &[String],
) -> Result<Vec<(&'static str, T)>> {
    let asked = |name: &str| only.is_empty() || only.iter().any(|only| name.starts_with(only));
    let cases = all.iter().filter(|(name, _)| asked(name));
    let cases: Vec<_> = cases.copied().collect();
    ensure!(!cases.is_empty(), "no case begins with {only:?}");
    Ok(cases)
}

/// Builds the binary that is measured, and returns the machine's load after that. Fails if other programs run, or only warns
/// if that is allowed.
pub(crate) fn build(even_if_busy: bool) -> Result<f64> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let build = ["build", "--release", "--locked", "--package", "highwater"];
    run(Command::new(cargo).args(build))?;
    let load = machine::load()?;
    if load > LOAD_MAX {
        let warning = format!("this machine is busy: its load is {load}");
        ensure!(
            even_if_busy,
            "{warning}; wait, or take rough figures with --even-if-busy"
        );
        say(&format!("WARNING: {warning}; the figures are rough"))?;
    }
    Ok(load)
}
