//! Twenty seeds, each run twice: nothing that may never happen happens, and the same happens both times.

use anyhow::{Result, ensure};
use highwater_sim::{Options, run};

fn twice(seed: u64) -> Result<usize> {
    let options = || Options {
        seed,
        ..Options::default()
    };
    let first = run(&options())?;
    let second = run(&options())?;
    ensure!(
        first == second,
        "seed {seed} is not the same twice: replay with --repeat 2 --trace FILE and compare"
    );
    Ok(first.records)
}

/// Five seeds; that the load is real is seen from what it left.
fn five(from: u64) -> Result<()> {
    let records: usize = (from..from + 5).map(twice).sum::<Result<_>>()?;
    ensure!(records > 500, "only {records} records");
    Ok(())
}

#[test]
fn seeds_0_to_4_keep_every_acknowledged_record() -> Result<()> {
    five(0)
}

#[test]
fn seeds_5_to_9_keep_every_acknowledged_record() -> Result<()> {
    five(5)
}

#[test]
fn seeds_10_to_14_keep_every_acknowledged_record() -> Result<()> {
    five(10)
}

#[test]
fn seeds_15_to_19_keep_every_acknowledged_record() -> Result<()> {
    five(15)
}
