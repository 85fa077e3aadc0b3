//! A node keeps every acknowledged record also if its write-ahead log lies in the object store, and if the kind of the log
//! changes from one process to the next (D4).

use anyhow::{Result, ensure};
use highwater_sim::{Options, StoreKind, WalOfRun, run};

fn options(seed: u64, wal: WalOfRun, store: StoreKind) -> Options {
    Options {
        seed,
        store,
        wal,
        ..Options::default()
    }
}

/// Runs seeds, the first one twice, and checks by the number of records that there was a real load.
fn seeds(seeds: std::ops::Range<u64>, wal: WalOfRun, store: StoreKind) -> Result<()> {
    let mut records = 0;
    for seed in seeds.clone() {
        let first = run(&options(seed, wal, store))?;
        records += first.records;
        if seed == seeds.start {
            let second = run(&options(seed, wal, store))?;
            ensure!(first == second, "seed {seed} is not the same twice");
        }
    }
    ensure!(records > 500, "only {records} records");
    Ok(())
}

#[test]
fn nothing_is_lost_with_a_log_in_the_object_store() -> Result<()> {
    seeds(0..6, WalOfRun::Object, StoreKind::Directory)
}

#[test]
fn nothing_is_lost_with_a_log_in_a_store_that_fails() -> Result<()> {
    seeds(200..206, WalOfRun::Object, StoreKind::Failing)
}

#[test]
fn nothing_is_lost_when_the_kind_of_the_log_changes() -> Result<()> {
    seeds(100..106, WalOfRun::Changing, StoreKind::Directory)
}

#[test]
fn a_store_that_forgets_group_commits_is_found() -> Result<()> {
    let forgets = |seed| run(&options(seed, WalOfRun::Object, StoreKind::Forgetting)).is_err();
    ensure!(
        (0..6).any(forgets),
        "objects were lost, and no client missed a record"
    );
    Ok(())
}
