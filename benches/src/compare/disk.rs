//! The time that the disk takes for a write of 4 KiB and fdatasync, in an existing file.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::fdatasync;
use rustix::io::pwrite;

use super::lab::{DIR, Lab};
use super::results::Subject;
use crate::figures::Latency;
use crate::machine::{self, pause};

const BLOCK_BYTES: usize = 4096;
const BLOCKS: u64 = 512;
/// Writes with a pause after each.
const PACED: u32 = 4000;
/// About the time between two requests that are sent one at a time.
const PAUSE: Duration = Duration::from_micros(40);
pub(super) const METRIC: &str = "fdatasync p50 us";
const METRIC_P99: &str = "fdatasync p99 us";
/// A virtual processor and its disk that rest after each write sometimes take longer than those that never rest.
const METRIC_PACED_P99: &str = "fdatasync paced p99 us";

/// Measures one round.
pub(super) fn fdatasync_once(lab: &mut Lab, case: &'static str, round: u32) -> Result<()> {
    let path = std::path::Path::new(DIR).join("fdatasync");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; BLOCK_BYTES * usize::try_from(BLOCKS)?])?;
    file.sync_all()?;
    let mut back_to_back = Latency::new()?;
    for index in 0..BLOCKS {
        back_to_back.record(write(&file, index)?);
    }
    let mut paced = Latency::new()?;
    machine::sharpen_timers()?;
    for index in 0..PACED {
        paced.record(write(&file, u64::from(index) % BLOCKS)?);
        pause(PAUSE);
    }
    std::fs::remove_file(path)?;
    for (metric, latency, share) in [
        (METRIC, &back_to_back, 0.5),
        (METRIC_P99, &back_to_back, 0.99),
        (METRIC_PACED_P99, &paced, 0.99),
    ] {
        let micros = latency.at(share).as_secs_f64() * 1e6;
        lab.note((case, metric), Subject::Machine, round, micros);
        lab.progress(&format!("{case} {round} disk: {metric} {micros:.0}"))?;
    }
    Ok(())
}

fn write(file: &File, index: u64) -> Result<Duration> {
    let block = [1; BLOCK_BYTES];
    let since = machine::now();
    pwrite(file, &block, index * u64::try_from(BLOCK_BYTES)?)?;
    fdatasync(file)?;
    Ok(since.elapsed())
}
