//! Syncs that a whole node hardly ever misses: each at the layer that asks for it, on a disk that does it and on one
//! that does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use highwater_disk_log::{Config, DiskLog, Group, GroupSink, LogError, Recovery};
use highwater_io::Device;
use highwater_object_storage::{IoClass, LocalStorage, ObjectKey, ObjectStorage, PutMode};
use highwater_runtime::SeededRng;
use highwater_sim::{Crash, Disk, SimThreads, SyncClass, Trace};

const SEEDS: u64 = 20;

fn disk(seed: u64, lie: Option<&str>) -> Result<Disk> {
    let lie: Option<SyncClass> = lie
        .map(str::parse)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    Ok(Disk::new(SeededRng::from_seed(seed), Trace::default(), lie))
}

/// How many objects are there after one was deleted and the power failed.
async fn left_of_a_deleted_object(seed: u64, lie: Option<&str>) -> Result<usize> {
    let disk = disk(seed, lie)?;
    let root = Path::new("/objects/highwater");
    let open = || LocalStorage::open(Arc::new(disk.boot()), root);
    let key = ObjectKey::parse("data/a/1").context("is a key")?;
    let prefix = ObjectKey::parse("data").context("is a key")?;
    let storage = open().await?;
    let body = vec![Bytes::from_static(b"body")];
    storage
        .put(&key, body, PutMode::IfAbsent, IoClass::Upload)
        .await?;
    storage.delete(std::slice::from_ref(&key)).await?;
    drop(storage);
    disk.crash(Crash::Power);
    let storage = open().await?;
    let left: Vec<_> = storage.list(&prefix, None).try_collect().await?;
    Ok(left.len())
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_stays_deleted() -> Result<()> {
    let mut returned = 0;
    for seed in 0..SEEDS {
        ensure!(left_of_a_deleted_object(seed, None).await? == 0);
        returned += left_of_a_deleted_object(seed, Some("object-removal")).await?;
    }
    ensure!(returned > 0, "the sync of a removal is not needed");
    Ok(())
}

#[derive(Debug)]
struct Sink;

impl GroupSink<()> for Sink {
    fn durable(&self, _groups: Vec<Group<()>>) {}
    fn ended(&self) {}
}

const CONFIG: Config = Config {
    file_bytes: 1 << 20,
};
const DIR: &str = "/data/wal";

async fn recover(disk: &Disk) -> Result<(Recovery, usize), LogError> {
    let device: Arc<dyn Device> = Arc::new(disk.boot());
    let mut recovery = Recovery::open(device, Path::new(DIR), CONFIG).await?;
    let mut groups = 0;
    while recovery.next().await?.is_some() {
        groups += 1;
    }
    Ok((recovery, groups))
}

fn start(recovery: Recovery) -> DiskLog<()> {
    let opening = recovery.opening() + 1;
    DiskLog::start(recovery, opening, &SimThreads, "log", Arc::new(Sink))
}

/// A process is killed between the write of a whole file and its sync; the next one reads it, writes into the next file,
/// and the power fails. Answers how many groups are there then.
async fn groups_after_a_kill_and_a_power_failure(seed: u64, lie: Option<&str>) -> Result<usize> {
    let disk = disk(seed, lie)?;
    let log = start(recover(&disk).await?.0);
    // until files are made ahead
    tokio::time::sleep(Duration::from_secs(5)).await;
    let whole_file = vec![7; (1 << 20) - 48];
    // the write is done, the sync is not
    disk.die_in(2);
    log.append(&[whole_file[..].into()], ());
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(disk.is_dead(), "it hangs in the sync");
    disk.crash(Crash::Process);
    let (recovery, groups) = recover(&disk).await?;
    ensure!(groups == 1, "what a killed process wrote is there");
    let log = start(recovery);
    let appended = log.append(&[b"next"[..].into()], ());
    ensure!(appended.wait(log.state()).await, "is durable");
    disk.crash(Crash::Power);
    Ok(recover(&disk).await?.1)
}

#[tokio::test(start_paused = true)]
async fn what_was_read_back_is_synced_before_it_counts() -> Result<()> {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let groups = groups_after_a_kill_and_a_power_failure(seed, None).await?;
        ensure!(groups == 2, "seed {seed}: {groups} groups");
        let lie = Some("inherited-wal-file");
        let found = groups_after_a_kill_and_a_power_failure(seed, lie).await;
        lost += usize::from(!matches!(found, Ok(2)));
    }
    ensure!(lost > 0, "the sync after reading back is not needed");
    Ok(())
}

/// A process is killed anywhere in making a directory; the next one makes it and is told that it is there, and the power
/// fails.
#[tokio::test(start_paused = true)]
async fn a_directory_that_a_killed_process_made_is_there_after_a_power_failure() -> Result<()> {
    let path = Path::new("/srv/highwater/data");
    for (seed, operation) in (0..SEEDS).flat_map(|seed| (1..8).map(move |at| (seed, at))) {
        let disk = disk(seed, None)?;
        disk.die_in(operation);
        let device = disk.boot();
        // a dead device never answers
        let made = tokio::time::timeout(Duration::from_secs(5), device.create_dir_all(path)).await;
        ensure!(made.is_ok() != disk.is_dead(), "it hangs where it died");
        disk.crash(Crash::Process);
        disk.boot().create_dir_all(path).await?;
        disk.crash(Crash::Power);
        let listed = disk.boot().list_dir(path).await;
        listed.with_context(|| format!("seed {seed} operation {operation}"))?;
    }
    Ok(())
}
