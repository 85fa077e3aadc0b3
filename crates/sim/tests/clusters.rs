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

/// Runs five seeds, the first one twice, and checks by the number of records that there was a real load. Returns how often
/// the voters changed.
fn five(from: u64) -> Result<u64> {
    let first = seed(from)?;
    ensure!(first == seed(from)?, "seed {from} is not the same twice");
    let (mut records, mut changes) = (first.records, first.voter_changes);
    for number in from + 1..from + 5 {
        let outcome = seed(number)?;
        records += outcome.records;
        changes += outcome.voter_changes;
    }
    ensure!(records > 500, "only {records} records");
    Ok(changes)
}

#[test]
fn seeds_0_to_4_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    five(0).map(drop)
}

#[test]
fn seeds_5_to_9_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    ensure!(five(5)? > 0, "the voters did not change");
    Ok(())
}

#[test]
fn seeds_10_to_14_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    ensure!(five(10)? > 0, "the voters did not change");
    Ok(())
}

#[test]
fn seeds_15_to_19_of_a_cluster_keep_every_acknowledged_record() -> Result<()> {
    five(15).map(drop)
}

#[test]
fn a_broker_of_seed_49_that_alone_does_not_reach_the_store_is_fenced() -> Result<()> {
    let fences = seed(49)?.store_fences;
    ensure!(
        fences > 0,
        "it draws no such broker any more: choose another seed"
    );
    Ok(())
}
