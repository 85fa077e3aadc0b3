//! The memory limit of the process's cgroup.

use std::path::{Path, PathBuf};

/// The smallest limit of the process's cgroups in bytes; `None` without a limit.
pub(crate) fn memory_max() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    least(&own, |path| std::fs::read_to_string(path).ok())
}

/// The smallest limit in the files of the cgroup and of its ancestors, in version 1 and version 2.
fn least(own: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut limits = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            one if one.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let below = Path::new(group.trim_start_matches('/'));
        // In a container the path may be the host's, of which only the root exists here.
        let files = below
            .ancestors()
            .map(|dir| PathBuf::from(root).join(dir).join(name));
        limits.extend(files.filter_map(|file| read(&file)?.trim().parse::<u64>().ok()));
    }
    // In version 1 a huge number stands for no limit.
    limits.into_iter().filter(|bytes| *bytes < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_above_a_process_counts() {
        let unified = |path: &Path| {
            let limit = match path.to_str()? {
                "/sys/fs/cgroup/system.slice/a.service/memory.max" => "max\n",
                "/sys/fs/cgroup/system.slice/memory.max" => "2147483648\n",
                _ => return None,
            };
            Some(limit.to_owned())
        };
        let own = "0::/system.slice/a.service\n";
        assert_eq!(least(own, unified), Some(2 << 30));
        assert_eq!(least("0::/\n", unified), None);
        let first = |path: &Path| {
            let limit = match path.to_str()? {
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "536870912\n",
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes" => "9223372036854771712\n",
                _ => return None,
            };
            Some(limit.to_owned())
        };
        let own = "12:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n";
        assert_eq!(least(own, first), Some(512 << 20));
    }
}
