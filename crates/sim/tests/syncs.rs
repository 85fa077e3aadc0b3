//! Syncs whose absence a whole node hardly ever shows. Each is tested at the layer that issues it, on a disk that does
//! it and on one that does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use highwater_disk_log::{Config, DiskLog, Group, GroupReceiver, LogError, Recovery};
use highwater_io::Device;
use highwater_kraft_meta::command::{CreateTopic, Replicas};
use highwater_kraft_meta::{Action, MetadataStore, RaftMetadata};
use highwater_object_storage::{
    IoClass, LocalStorage, ObjectKey, ObjectStorage, PutMode, StorageError,
};
use highwater_runtime::SeededRng;
use highwater_sim::{Crash, Disk, SimThreads, SyncClass, Trace};
use highwater_types::{NodeId, Uuid};

const SEEDS: u64 = 20;

fn disk(seed: u64, lie: Option<&str>) -> Result<Disk> {
    let lie: Option<SyncClass> = lie
        .map(str::parse)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    Ok(Disk::new(SeededRng::from_seed(seed), Trace::default(), lie))
}

async fn objects(disk: &Disk) -> Result<LocalStorage> {
    let opened = LocalStorage::open(
        Arc::new(disk.boot()),
        Path::new("/objects/highwater"),
        &SeededRng::from_seed(1),
    )
    .await;
    opened.context("the store opens")
}

fn key() -> ObjectKey {
    ObjectKey::new("data/a/1")
}

async fn put(storage: &LocalStorage) -> Result<(), StorageError> {
    put_at(storage, &key()).await
}

async fn put_at(storage: &LocalStorage, key: &ObjectKey) -> Result<(), StorageError> {
    let body = vec![Bytes::from_static(b"body")];
    let put = storage.put(key, body, PutMode::IfAbsent, IoClass::Upload);
    put.await.map(drop)
}

/// Runs the work of a process until it is done or its device hangs, and then kills the process.
async fn killed<T>(disk: &Disk, operation: u64, process: impl Future<Output = T>) -> Option<T> {
    disk.die_in(operation);
    let done = tokio::time::timeout(Duration::from_secs(10), process).await;
    disk.crash(Crash::Process);
    done.ok()
}

/// Returns whether a deleted object is still there. A process is killed at an operation of the deletion, the next
/// process deletes again, and the power fails.
async fn returns(seed: u64, operation: u64, lie: Option<&str>) -> Result<bool> {
    let disk = disk(seed, lie)?;
    let storage = objects(&disk).await?;
    put(&storage).await?;
    // The directory of the object stays.
    let other = ObjectKey::new("data/a/2");
    put_at(&storage, &other).await?;
    drop(killed(&disk, operation, storage.delete(&[key()])).await);
    let storage = objects(&disk).await?;
    storage.delete(&[key()]).await?;
    disk.crash(Crash::Power);
    let storage = objects(&disk).await?;
    let left: Vec<_> = storage
        .list(&ObjectKey::new("data"), None)
        .try_collect()
        .await?;
    ensure!(left.iter().any(|entry| entry.key == other), "the other one");
    Ok(left.len() > 1)
}

// L1: a removal is synced before it is recorded, even if an earlier process made it.
#[tokio::test(start_paused = true)]
async fn a_deleted_object_stays_deleted() -> Result<()> {
    for (operation, lie) in [(1, "object-removal"), (2, "inherited-object-removal")] {
        let mut returned = 0;
        for seed in 0..SEEDS {
            ensure!(!returns(seed, operation, None).await?, "seed {seed}");
            returned += u32::from(returns(seed, operation, Some(lie)).await?);
        }
        ensure!(returned > 0, "the sync of a removal is not needed: {lie}");
    }
    Ok(())
}

/// Returns whether an object is missing or incomplete. A process is killed at any point of a put, the next process puts
/// the object or learns that it exists, and the power fails.
async fn is_lost(seed: u64, operation: u64, lie: Option<&str>) -> Result<bool> {
    let disk = disk(seed, lie)?;
    let first = async {
        put(&objects(&disk).await?)
            .await
            .map_err(anyhow::Error::from)
    };
    drop(killed(&disk, operation, first).await);
    match put(&objects(&disk).await?).await {
        Ok(()) | Err(StorageError::Precondition { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    disk.crash(Crash::Power);
    let found = objects(&disk)
        .await?
        .get(&key(), 0..9, IoClass::ColdRead)
        .await;
    Ok(found.ok().as_deref() != Some(b"body"))
}

// L1: an object that an earlier process linked and did not sync counts only once it is durable, together with the
// directories above it.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_there_already_is_there_after_a_power_failure() -> Result<()> {
    const OPERATIONS: u64 = 40;
    let runs = || (0..SEEDS / 2).flat_map(|seed| (1..OPERATIONS).map(move |at| (seed, at)));
    for (seed, operation) in runs() {
        let lost = is_lost(seed, operation, None).await?;
        ensure!(!lost, "seed {seed} operation {operation}");
    }
    for lie in ["inherited-object-dir", "inherited-object-parents"] {
        let mut lost = 0;
        for (seed, operation) in runs() {
            lost += u32::from(is_lost(seed, operation, Some(lie)).await?);
        }
        ensure!(lost > 0, "the sync is not needed: {lie}");
    }
    Ok(())
}

// L1: a directory that a deletion emptied is created again, and synced again.
#[tokio::test(start_paused = true)]
async fn an_object_in_a_directory_that_was_removed_is_there_after_a_power_failure() -> Result<()> {
    for seed in 0..SEEDS {
        let disk = disk(seed, None)?;
        let storage = objects(&disk).await?;
        put(&storage).await?;
        storage.delete(&[key()]).await?;
        put(&storage).await?;
        disk.crash(Crash::Power);
        let found = objects(&disk).await?;
        let found = found.get(&key(), 0..9, IoClass::ColdRead).await;
        ensure!(found.is_ok(), "seed {seed}");
    }
    Ok(())
}

#[derive(Debug)]
struct IgnoredGroups;

impl GroupReceiver<()> for IgnoredGroups {
    fn durable(&self, _groups: Vec<Group<()>>) {}
    fn ended(&self) {}
}

const CONFIG: Config = Config {
    file_bytes: 1 << 20,
};
/// The write-ahead log's directory and the Raft log's, with the classes of their syncs.
const LOGS: [(&str, &str); 2] = [("/data/wal", "wal"), ("/data/metadata/log", "raft")];

async fn recover(disk: &Disk, dir: &str) -> Result<(Recovery, usize), LogError> {
    let device: Arc<dyn Device> = Arc::new(disk.boot());
    let mut recovery = Recovery::open(device, Path::new(dir), CONFIG, [7; 16]).await?;
    let mut groups = 0;
    while recovery.next().await?.is_some() {
        groups += 1;
    }
    Ok((recovery, groups))
}

fn start(recovery: Recovery) -> DiskLog<()> {
    let opening = recovery.opening() + 1;
    DiskLog::start(
        recovery,
        opening,
        &SimThreads::default(),
        "log",
        Arc::new(IgnoredGroups),
    )
}

fn whole_file() -> Vec<u8> {
    vec![7; (1 << 20) - 48]
}

/// Kills a process between the write of a whole file and its sync; the next process reads the file and writes into the
/// next file, and the power fails. Returns how many groups are there then.
async fn groups_after_a_kill(dir: &str, seed: u64, lie: Option<&str>) -> Result<usize> {
    let disk = disk(seed, lie)?;
    let log = start(recover(&disk, dir).await?.0);
    // This waits until files are created ahead, including the file that a block's header may need.
    log.request_room(2 << 20);
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The write is done, and its sync is not.
    disk.die_in(2);
    log.append(&[whole_file()[..].into()], ());
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(disk.is_dead(), "it hangs in the sync");
    disk.crash(Crash::Process);
    let (recovery, groups) = recover(&disk, dir).await?;
    ensure!(groups == 1, "what a killed process wrote is there");
    let log = start(recovery);
    let appended = log.append(&[b"next"[..].into()], ());
    ensure!(appended.wait(log.state()).await, "is durable");
    disk.crash(Crash::Power);
    Ok(recover(&disk, dir).await?.1)
}

#[tokio::test(start_paused = true)]
async fn what_was_read_back_is_synced_before_it_counts() -> Result<()> {
    for (dir, name) in LOGS {
        let lie = format!("inherited-{name}-file");
        let mut lost = 0;
        for seed in 0..SEEDS {
            let groups = groups_after_a_kill(dir, seed, None).await?;
            ensure!(groups == 2, "seed {seed}: {groups} groups");
            let found = groups_after_a_kill(dir, seed, Some(&lie)).await;
            lost += usize::from(!matches!(found, Ok(2)));
        }
        ensure!(lost > 0, "the sync after reading back is not needed: {lie}");
    }
    Ok(())
}

/// Kills a process at any point of creating the log's first two files; the next process fills the first and goes on in
/// the second, and the power fails. Returns how many of its two groups are there then.
async fn groups_in_files_that_were_found(
    dir: &str,
    seed: u64,
    operation: u64,
    lie: Option<&str>,
) -> Result<usize> {
    let disk = disk(seed, lie)?;
    let first = async {
        let log = start(recover(&disk, dir).await?.0);
        // Once the first file has content, the second is created ahead.
        log.append(&[b"first"[..].into()], ());
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok::<_, LogError>(())
    };
    drop(killed(&disk, operation, first).await);
    let (recovery, found) = recover(&disk, dir).await?;
    let whole = whole_file();
    let rest = whole.len() - usize::try_from(recovery.end())?;
    let log = start(recovery);
    for group in [&whole[..rest], b"next"] {
        let appended = log.append(&[group.into()], ());
        ensure!(appended.wait(log.state()).await, "is durable");
    }
    disk.crash(Crash::Power);
    let groups = recover(&disk, dir).await?.1;
    groups
        .checked_sub(found)
        .context("what was read back is there")
}

#[tokio::test(start_paused = true)]
async fn the_names_of_files_that_were_found_are_synced_before_they_are_used() -> Result<()> {
    const OPERATIONS: u64 = 40;
    let runs = || (0..SEEDS / 2).flat_map(|seed| (1..OPERATIONS).map(move |at| (seed, at)));
    for (dir, name) in LOGS {
        for (seed, operation) in runs() {
            let groups = groups_in_files_that_were_found(dir, seed, operation, None).await?;
            ensure!(groups == 2, "seed {seed} operation {operation}: {groups}");
        }
        let lie = format!("inherited-{name}-dir");
        let mut lost = 0;
        for (seed, operation) in runs() {
            let found = groups_in_files_that_were_found(dir, seed, operation, Some(&lie)).await;
            lost += usize::from(!matches!(found, Ok(2)));
        }
        ensure!(lost > 0, "the sync is not needed: {lie}");
    }
    Ok(())
}

/// Kills a process at any point of creating a directory; the next process creates it or learns that it exists, and the
/// power fails.
#[tokio::test(start_paused = true)]
async fn a_directory_that_a_killed_process_made_is_there_after_a_power_failure() -> Result<()> {
    let path = Path::new("/srv/highwater/data");
    for (seed, operation) in (0..SEEDS).flat_map(|seed| (1..8).map(move |at| (seed, at))) {
        let disk = disk(seed, None)?;
        let device = disk.boot();
        drop(killed(&disk, operation, device.create_dir_all(path)).await);
        disk.boot().create_dir_all(path).await?;
        disk.crash(Crash::Power);
        let listed = disk.boot().list_dir(path).await;
        listed.with_context(|| format!("seed {seed} operation {operation}"))?;
    }
    Ok(())
}

const TOPICS: u8 = 8;

async fn metadata(disk: &Disk) -> Result<RaftMetadata> {
    let config = highwater_kraft_meta::Config {
        dir: "/data/metadata".into(),
        node: NodeId(1),
        cluster: Uuid([7; 16]),
        seed: 1,
        new_log_seed: [8; 16],
        new_directory_id: Uuid([8; 16]),
        snapshot_entries: 3,
        snapshot_bytes: 1 << 20,
    };
    let opened = RaftMetadata::open(config, Arc::new(disk.boot()), &SimThreads::default()).await;
    opened.context("the metadata opens")
}

async fn create(metadata: &RaftMetadata, id: u8) -> Result<()> {
    let topic = CreateTopic {
        name: id.to_string(),
        id: vec![id; 16],
        partitions: vec![Replicas { nodes: vec![1] }],
        ..CreateTopic::default()
    };
    let created = metadata.propose(Action::CreateTopic(topic).into()).await;
    created.map(drop).context("is created")
}

/// Returns whether topics are lost that were created before a process was killed, at any point, or by the next process
/// before the power failed.
async fn loses_a_topic(seed: u64, operation: u64, lie: Option<&str>) -> Result<bool> {
    let disk = disk(seed, lie)?;
    let created = AtomicU8::new(0);
    let first = async {
        let metadata = metadata(&disk).await?;
        for id in 0..TOPICS {
            create(&metadata, id).await?;
            created.store(id + 1, Ordering::SeqCst);
        }
        Ok::<_, anyhow::Error>(())
    };
    drop(killed(&disk, operation, Box::pin(first)).await);
    let next = metadata(&disk).await?;
    create(&next, TOPICS).await?;
    disk.crash(Crash::Power);
    let Ok(last) = metadata(&disk).await else {
        return Ok(true);
    };
    let image = last.image();
    let mut ids = (0..created.into_inner()).chain([TOPICS]);
    Ok(ids.any(|id| image.topic(&id.to_string()).is_none()))
}

/// Does one run in a runtime of its own, which ends the tasks of its processes.
fn topic_is_lost(seed: u64, operation: u64, lie: Option<&str>) -> Result<bool> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build()?;
    runtime.block_on(loses_a_topic(seed, operation, lie))
}

// The name of a snapshot that an earlier process took needs no sync: until the next process has taken a snapshot, the
// log keeps everything that is in this one.
#[test]
fn metadata_is_there_after_a_kill_anywhere_and_a_power_failure() -> Result<()> {
    for lie in [None, Some("inherited-snapshot-dir")] {
        for operation in 1..160 {
            let lost = topic_is_lost(operation, operation, lie)?;
            ensure!(!lost, "operation {operation} {lie:?}");
        }
    }
    Ok(())
}
