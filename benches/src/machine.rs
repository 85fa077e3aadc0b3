//! What the operating system says: processor time, pinning, the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The clock of every measurement.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970: what records are stamped with.
#[expect(clippy::disallowed_methods, reason = "records carry real time")]
pub(crate) fn timestamp() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

/// Pins the calling thread, and those it starts from now on, to one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin to core {core}"))
}

/// Has timers fire within a microsecond instead of the usual fifty.
pub(crate) fn sharpen_timers() -> Result<()> {
    rustix::thread::set_current_timer_slack(1_000.try_into().ok())?;
    Ok(())
}

/// The processor time a process has used so far, all its threads, user and system.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    // fields 14 and 15 of proc(5); the third is the first after the name
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || -> Result<u64> { Ok(fields.next().context("a time")?.parse()?) };
    Ok(ticks(next()? + next()?))
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(count)
        / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_this_process_grows() {
        let pid = std::process::id();
        let before = cpu(pid).expect("readable");
        let since = now();
        while since.elapsed() < Duration::from_millis(100) {}
        assert!(cpu(pid).expect("readable") > before);
    }
}
