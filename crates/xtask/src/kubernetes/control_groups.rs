//! The control groups (version 1) under which the nodes' pods are: one in each hierarchy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::time::pause;

const HIERARCHIES: &str = "/sys/fs/cgroup";
/// The hierarchies that containers need.
const NEEDED: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "devices", "freezer"];
/// The name of our group in each hierarchy.
const GROUP: &str = "highwater-kubernetes";
/// The name of a group that shows that groups can be made.
const PROBE: &str = "highwater-probe";
const TRY_EVERY: Duration = Duration::from_millis(500);
const REMOVE_TRIES: u32 = 20;

/// The hierarchies that are not there, or in which this process can make no group.
pub(super) fn missing() -> Vec<&'static str> {
    let can_be_made = |hierarchy: &&str| {
        let hierarchy = Path::new(HIERARCHIES).join(hierarchy);
        let probe = hierarchy.join(PROBE);
        // the file tells a hierarchy from a group of version 2
        hierarchy.join("tasks").exists()
            && std::fs::create_dir(&probe).is_ok()
            && std::fs::remove_dir(&probe).is_ok()
    };
    let missing = NEEDED.into_iter();
    missing.filter(|name| !can_be_made(name)).collect()
}

/// Makes a group for the pods of each node, because the kubelet does not.
pub(super) fn make(nodes: u32) -> Result<()> {
    for group in ours()? {
        let mut groups = vec![group.clone()];
        groups.extend((1..=nodes).map(|node| group.join(format!("node{node}"))));
        for group in groups {
            std::fs::create_dir_all(&group)?;
            // a new group of this hierarchy has no processors until it is given some
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = group.parent().context("a group has a parent")?.join(file);
                if above.exists() {
                    std::fs::copy(above, group.join(file))?;
                }
            }
        }
    }
    Ok(())
}

/// Removes the groups, in which processes that were killed may be for a moment.
pub(super) fn remove() -> Result<()> {
    let groups = ours()?;
    for tries in 1.. {
        let left = groups
            .iter()
            .try_for_each(|group| remove_with_those_below(group));
        match left {
            Ok(()) => break,
            Err(error) if tries == REMOVE_TRIES => return Err(error),
            Err(_) => pause(TRY_EVERY),
        }
    }
    Ok(())
}

/// The directories of our group.
fn ours() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for hierarchy in std::fs::read_dir(HIERARCHIES)? {
        let hierarchy = hierarchy?;
        if hierarchy.file_type()?.is_dir() {
            all.push(hierarchy.path().join(GROUP));
        }
    }
    Ok(all)
}

/// Removes only the directories, because the files in them are the kernel's.
fn remove_with_those_below(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for below in std::fs::read_dir(group)? {
        let below = below?;
        if below.file_type()?.is_dir() {
            remove_with_those_below(&below.path())?;
        }
    }
    Ok(std::fs::remove_dir(group)?)
}
