//! What the disk takes: a write of 4 KiB and fdatasync, in a file that is there already.

use std::fs::File;
use std::io::Write;

use anyhow::Result;
use rustix::fs::fdatasync;
use rustix::io::pwrite;

use super::lab::{DIR, Lab};
use super::results::Who;
use crate::figures::Latency;
use crate::machine;

const BLOCK_BYTES: usize = 4096;
const BLOCKS: u64 = 512;
pub(super) const METRIC: &str = "fdatasync p50 us";
pub(super) const METRIC_P99: &str = "fdatasync p99 us";

/// One round of it.
pub(super) fn fdatasync_once(lab: &mut Lab, case: &'static str, round: u32) -> Result<()> {
    let path = std::path::Path::new(DIR).join("fdatasync");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; BLOCK_BYTES * usize::try_from(BLOCKS)?])?;
    file.sync_all()?;
    let block = vec![1; BLOCK_BYTES];
    let mut latency = Latency::new()?;
    for index in 0..BLOCKS {
        let since = machine::now();
        pwrite(&file, &block, index * u64::try_from(BLOCK_BYTES)?)?;
        fdatasync(&file)?;
        latency.record(since.elapsed());
    }
    std::fs::remove_file(path)?;
    for (metric, share) in [(METRIC, 0.5), (METRIC_P99, 0.99)] {
        let micros = latency.at(share).as_secs_f64() * 1e6;
        lab.note((case, metric), Who::Machine, round, micros);
        lab.progress(&format!("{case} {round} disk: {metric} {micros:.0}"))?;
    }
    Ok(())
}
