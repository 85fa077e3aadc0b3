//! The operating system's view: processor time, pinning and the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The time of the clock that every measurement uses.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, for the timestamps of records.
#[expect(clippy::disallowed_methods, reason = "records carry real time")]
pub(crate) fn timestamp() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

/// Lets the calling thread wait.
pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a tool that waits for a broker")]
    std::thread::sleep(time);
}

/// Pins the calling thread, and the threads that it starts from now on, to one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin to core {core}"))
}

/// Lets timers fire within a microsecond instead of the usual fifty.
pub(crate) fn sharpen_timers() -> Result<()> {
    rustix::thread::set_current_timer_slack(1_000.try_into().ok())?;
    Ok(())
}

/// The processor time that all threads of a process have used so far, user and system.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    stat(&format!("/proc/{pid}/stat"), 2)
}

/// The processor time of this process and of all its child processes that have ended.
pub(crate) fn cpu_with_children() -> Result<Duration> {
    stat("/proc/self/stat", 4)
}

/// The sum of `times` fields of proc(5) from the 14th on, which are utime, stime, cutime and cstime.
fn stat(path: &str, times: usize) -> Result<Duration> {
    let stat = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    // The third field is the first after the name.
    let fields = fields.split_whitespace().skip(11).take(times);
    let times = fields.map(str::parse::<u64>);
    Ok(ticks(times.sum::<Result<u64, _>>()?))
}

/// The processor time of all cores since the machine started, including the kernel's and that of interrupts.
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

/// The processor time of a process's present threads, to the nanosecond. Threads that have ended are not included.
pub(crate) fn cpu_of_threads(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end during the iteration.
        if let Ok(stat) = std::fs::read_to_string(thread?.path().join("schedstat")) {
            let first = stat.split_whitespace().next().context("a time")?;
            nanos += first.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// A value in KiB from `/proc/<pid>/status`, such as `VmRSS` or `VmHWM`.
pub(crate) fn memory_kib(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rest = status
        .lines()
        .find_map(|one| one.strip_prefix(line)?.strip_prefix(':'));
    let value = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(value.context("a line of that name")?.parse()?)
}

/// The number of threads that wanted to run, averaged over the last minute.
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
