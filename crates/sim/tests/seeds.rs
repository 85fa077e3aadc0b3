//! Twenty seeds, each run twice: neither run finds a violation, and both runs are the same.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use highwater_sim::{Options, Outcome, Trace, run};

/// Runs a seed and writes its trace. The file is needed if two traces differ, because a rare difference might not occur
/// again in a further run.
fn traced(seed: u64, number: usize) -> Result<(Outcome, PathBuf)> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{seed}.{number}"));
    let out = BufWriter::new(File::create(&path)?);
    let options = Options {
        seed,
        trace: Trace::writing(Box::new(out)),
        ..Options::default()
    };
    Ok((run(&options)?, path))
}

fn twice(seed: u64) -> Result<usize> {
    let (first, one) = traced(seed, 1)?;
    let (second, other) = traced(seed, 2)?;
    ensure!(
        first == second,
        "seed {seed} is not the same twice: compare {} with {}",
        one.display(),
        other.display()
    );
    Ok(first.records)
}

/// Runs five seeds, and checks by the number of records that there was a real load.
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
