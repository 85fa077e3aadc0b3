//! What the operating system says: processor time, pinning, the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
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
    stat(&format!("/proc/{pid}/stat"), 2)
}

/// That of this process and of all that it started and that have ended.
pub(crate) fn cpu_with_children() -> Result<Duration> {
    stat("/proc/self/stat", 4)
}

/// The sum of so many fields from the 14th on, of proc(5): utime, stime, cutime, cstime.
fn stat(path: &str, times: usize) -> Result<Duration> {
    let stat = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    // the third field is the first after the name
    let fields = fields.split_whitespace().skip(11).take(times);
    let times = fields.map(str::parse::<u64>);
    Ok(ticks(times.sum::<Result<u64, _>>()?))
}

/// The processor time of all cores since the machine started, also of the kernel and of interrupts.
pub(crate) fn busy() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("a line for all cores")?;
    let fields = line.split_whitespace().skip(1).map(str::parse::<u64>);
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else {
        bail!("not a line of proc(5): {line}");
    };
    Ok(ticks(user + nice + system + irq + softirq))
}

/// The processor time of the threads that a process has, to the nanosecond; that of those that ended is not in it.
pub(crate) fn cpu_of_threads(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // a thread may end while we look
        if let Ok(stat) = std::fs::read_to_string(thread?.path().join("schedstat")) {
            let first = stat.split_whitespace().next().context("a time")?;
            nanos += first.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// A line of `/proc/<pid>/status` in KiB: `VmRSS`, `VmHWM`.
pub(crate) fn memory_kib(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rest = status
        .lines()
        .find_map(|one| one.strip_prefix(line)?.strip_prefix(':'));
    let value = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(value.context("a line of that name")?.parse()?)
}

/// How many threads wanted to run, over the last minute.
pub(crate) fn load() -> Result<f64> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let first = load.split_whitespace().next().context("a number")?;
    Ok(first.parse()?)
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
