//! A node whose object store has bad days keeps every acknowledged record, and goes on without a restart.

use anyhow::{Result, ensure};
use highwater_sim::{Options, StoreKind, run};

const SEEDS: u64 = 6;

fn options(seed: u64, store: StoreKind) -> Options {
    Options {
        seed,
        store,
        ..Options::default()
    }
}

#[test]
fn nothing_is_lost_in_a_store_that_fails() -> Result<()> {
    let (mut records, mut faults) = (0, 0);
    for seed in 0..SEEDS {
        let first = run(&options(seed, StoreKind::Failing))?;
        records += first.records;
        faults += first.store_faults;
        if seed == 0 {
            let second = run(&options(seed, StoreKind::Failing))?;
            ensure!(first == second, "seed {seed} is not the same twice");
        }
    }
    ensure!(
        records > 500 && faults > 50,
        "{records} records, {faults} faults"
    );
    Ok(())
}

#[test]
fn a_store_that_forgets_what_it_accepted_is_found() -> Result<()> {
    let found = (0..SEEDS).any(|seed| run(&options(seed, StoreKind::Forgetting)).is_err());
    ensure!(found, "objects were lost, and no client missed a record");
    Ok(())
}
