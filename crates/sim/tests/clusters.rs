//! Twenty seeds of a cluster: brokers and controllers lose no acknowledged record and no committed offset, whatever dies,
//! is cut off or fails, and all partitions are served in the end (E4, E7, W7 to W11).

use anyhow::{Result, ensure};
use highwater_sim::{Options, Outcome, run};

fn seed(seed: u64) -> Result<Outcome> {
    let options = Options {
        seed,
        cluster: true,
        ..Options::default()
    };
    Ok(run(&options)?)
}

/// What happened in five runs.
struct Sums {
    voter_changes: u64,
    store_fences: u64,
}

/// Runs five seeds, the first one twice, and checks by the number of records that there was a real load.
fn five(from: u64) -> Result<Sums> {
    let first = seed(from)?;
    ensure!(first == seed(from)?, "seed {from} is not the same twice");
    let mut records = first.records;
    let mut sums = Sums {
        voter_changes: first.voter_changes,
        store_fences: first.store_fences,
    };
    for number in from + 1..from + 5 {
        let outcome = seed(number)?;
        records += outcome.records;
        sums.voter_changes += outcome.voter_changes;
        sums.store_fences += outcome.store_fences;
    }
    ensure!(records > 500, "only {records} records");
    Ok(sums)
}

#[test]
fn seeds_0_to_4_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    five(0).map(drop)
}

#[test]
fn seeds_5_to_9_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    let sums = five(5)?;
    ensure!(sums.voter_changes > 0, "the voters did not change");
    ensure!(
        sums.store_fences > 0,
        "no broker was without the store for long"
    );
    Ok(())
}

#[test]
fn seeds_10_to_14_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    ensure!(five(10)?.voter_changes > 0, "the voters did not change");
    Ok(())
}

#[test]
fn seeds_15_to_19_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    five(15).map(drop)
}
