//! Tests of a voter.

mod three_voters;

use std::sync::atomic::Ordering;

use futures::FutureExt;
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
use highwater_runtime::reasons;
use highwater_types::Uuid;

use super::*;
use crate::command::{Action, CreateTopic, Replicas};
use crate::raft::state_store::FULL_REST;

async fn open(dir: &Path) -> RaftMetadata {
    try_open(dir).await.expect("opens")
}

async fn try_open(dir: &Path) -> Result<RaftMetadata, OpenError> {
    open_on(dir, Arc::new(RealDevice)).await
}

const SNAPSHOT_BYTES: u64 = 4 << 20;
/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open_on(dir: &Path, device: Arc<dyn Device>) -> Result<RaftMetadata, OpenError> {
    open_with(dir, device, SNAPSHOT_BYTES).await
}

async fn open_with(
    dir: &Path,
    device: Arc<dyn Device>,
    snapshot_bytes: u64,
) -> Result<RaftMetadata, OpenError> {
    let config = Config {
        dir: dir.to_owned(),
        node: NodeId(1),
        cluster: Uuid([7; 16]),
        seed: 1,
        new_log_seed: [9; 16],
        new_directory_id: Uuid([9; 16]),
        snapshot_entries: 5000,
        snapshot_bytes,
    };
    RaftMetadata::open(config, device, &RealThreads).await
}

/// The refusal of a start while a file has other content, or a file or directory is missing.
async fn refusal(dir: &Path, name: &str, content: Option<&[u8]>) -> String {
    let (path, kept) = (dir.join(name), dir.with_extension("kept"));
    std::fs::rename(&path, &kept).expect("is there");
    if let Some(content) = content {
        std::fs::write(&path, content).expect("writes");
    }
    let refused = try_open(dir).await.expect_err("is refused");
    match path.is_dir() {
        true => std::fs::remove_dir_all(&path).expect("removes"),
        false => drop(std::fs::remove_file(&path)),
    }
    std::fs::rename(&kept, &path).expect("returns");
    reasons(&refused)
}

const LARGE_BYTES: usize = 1 << 20;

#[tokio::test]
async fn a_lone_voter_is_the_active_controller_until_it_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let metadata = open(dir.path()).await;
    assert_eq!(metadata.leads(), Some(Term(1)));
    metadata.shutdown().await.expect("stops");
    assert_eq!(metadata.leads(), None);
}

fn large_topic(id: u8) -> Command {
    topic(id, LARGE_BYTES)
}

fn topic(id: u8, bytes: usize) -> Command {
    Command::from(Action::CreateTopic(CreateTopic {
        name: format!("topic-{id}"),
        id: vec![id; 16],
        configs: [("large".to_owned(), "x".repeat(bytes))].into(),
        ..CreateTopic::default()
    }))
}

async fn until_purged(metadata: &RaftMetadata) {
    let purged = metadata.voter.raft.wait(Some(PATIENCE));
    purged
        .metrics(|metrics| metrics.purged.is_some(), "log is let go of")
        .await
        .expect("is let go of");
}

// commands may have any size, and the log stays in memory until a snapshot covers it
#[tokio::test]
async fn a_log_of_few_large_entries_is_replaced_by_a_snapshot_too() {
    let temporary = tempfile::tempdir().expect("a directory");
    let metadata = open(temporary.path()).await;
    for id in 1..=9 {
        metadata.propose(large_topic(id)).await.expect("creates");
    }
    until_purged(&metadata).await;
    metadata.shutdown().await.expect("stops");
    let metadata = open(temporary.path()).await;
    assert_eq!(metadata.image().topics().count(), 9);
    metadata.shutdown().await.expect("stops");
}

// each command is larger than the bound of the log: it waits for the snapshot that covers the one before it
#[tokio::test]
async fn commands_of_any_size_are_taken_whatever_the_bound_on_the_log() {
    for snapshot_bytes in [1, 30, 1000] {
        let temporary = tempfile::tempdir().expect("a directory");
        let device: Arc<dyn Device> = Arc::new(RealDevice);
        for start in 0..3 {
            let opened = open_with(temporary.path(), Arc::clone(&device), snapshot_bytes).await;
            let metadata = opened.expect("opens");
            for id in 1..=4 {
                let created = metadata.propose(topic(start * 4 + id, 5000)).await;
                created.expect("is taken");
            }
            assert_eq!(
                metadata.image().topics().count(),
                usize::from(start + 1) * 4
            );
            metadata.shutdown().await.expect("stops");
        }
    }
}

#[tokio::test]
async fn commands_at_once_wait_for_snapshots_too() {
    let temporary = tempfile::tempdir().expect("a directory");
    let opened = open_with(temporary.path(), Arc::new(RealDevice), 1000).await;
    let metadata = opened.expect("opens");
    let larger_than_the_log_may_be = metadata.propose(topic(101, 5000)).await;
    larger_than_the_log_may_be.expect("is taken");
    let all = (1..=100).map(|id| metadata.propose(topic(id, 500)));
    for created in futures::future::join_all(all).await {
        created.expect("is taken");
    }
    metadata.shutdown().await.expect("stops");
}

/// A voter whose log takes no more, because its snapshot finds the disk full; the files of the log exist already.
/// Returns the number of its topics too.
async fn full(dir: &Path, faults: &Arc<Faults>) -> (RaftMetadata, u8) {
    faults.fill_below(Some(dir.join("snapshot.new")));
    let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(faults));
    let metadata = open_on(dir, Arc::new(device)).await.expect("opens");
    let mut created = 0;
    while !metadata.voter.is_too_long() {
        created += 1;
        let proposed = metadata.propose(large_topic(created)).await;
        proposed.expect("is taken");
    }
    let mut lacking = metadata.voter.waiting.lacking.clone();
    drop(lacking.wait_for(Option::is_some).await.expect("lives"));
    (metadata, created)
}

#[tokio::test]
async fn a_log_that_no_snapshot_replaces_is_bounded_and_goes_on_when_one_does() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    let (metadata, created) = full(dir, &Arc::default()).await;
    let most = SNAPSHOT_BYTES * LOG_BYTES_FACTOR;
    assert!(metadata.voter.log.bytes() < most + 2 * LARGE_BYTES as u64);
    let refused = metadata.propose(large_topic(created + 1)).now_or_never();
    let why = refused.expect("at once").expect_err("is refused");
    let why = why.to_string();
    let file = dir.join("snapshot").display().to_string();
    let told = why.contains("its log waits for a snapshot: cannot write") && why.contains(&file);
    assert!(told, "{why}");
    assert!(metadata.check().is_err_and(|why| why.contains(&file)));
    metadata.shutdown().await.expect("stops");

    // the log of the last process goes into a snapshot first, so that the first proposals of a start are taken
    let metadata = open(dir).await;
    metadata
        .propose(large_topic(created + 1))
        .await
        .expect("creates");
    assert_eq!(metadata.image().topics().count(), usize::from(created) + 1);
    until_purged(&metadata).await;
    assert!(metadata.voter.log.bytes() < 2 * LARGE_BYTES as u64);
    metadata.shutdown().await.expect("stops");
}

#[tokio::test]
async fn what_waits_for_a_snapshot_is_bounded_and_is_taken_when_there_is_room() {
    let temporary = tempfile::tempdir().expect("a directory");
    let faults = Arc::<Faults>::default();
    let (mut metadata, created) = full(temporary.path(), &faults).await;
    // this voter learns nothing of the full disk, as though the snapshot were written slowly
    let lacking = watch::Sender::default().subscribe();
    metadata.voter.waiting = Arc::new(Waiting::new(lacking));
    // the clock stands still but for the rest before a snapshot is tried again
    tokio::time::pause();
    let mut waits = metadata.propose(large_topic(created + 1));
    assert!((&mut waits).now_or_never().is_none());
    let refused = metadata.propose(topic(200, 1)).now_or_never();
    let why = refused.expect("at once").expect_err("is refused");
    assert!(why.to_string().contains("too many"), "{why}");
    faults.fill_below(None);
    tokio::time::advance(FULL_REST).await;
    tokio::time::resume();
    waits.await.expect("is taken");
    metadata.propose(topic(200, 1)).await.expect("is taken");
    metadata.check().expect("is well");
    metadata.shutdown().await.expect("stops");
}

// D3: a start names the file and the reason, as a running node does
#[tokio::test]
async fn a_start_that_cannot_write_its_snapshot_says_why() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    let (metadata, _) = full(dir, &Arc::default()).await;
    metadata.shutdown().await.expect("stops");
    std::fs::create_dir(dir.join("snapshot.new")).expect("is in the way");
    let why = reasons(&try_open(dir).await.expect_err("is refused"));
    let told = format!("cannot write {}: ", dir.join("snapshot").display());
    assert!(why.contains(&told), "{why}");
}

#[tokio::test]
async fn a_log_that_cannot_be_synced_says_so_to_a_start_and_to_what_is_proposed() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    let log = dir.join("log").display().to_string();
    let faults = Arc::<Faults>::default();
    let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults));
    let device: Arc<dyn Device> = Arc::new(device);
    let opened = open_on(dir, Arc::clone(&device)).await;
    let metadata = opened.expect("opens");
    faults.syncs_fail.store(true, Ordering::SeqCst);
    for id in 1..=2 {
        let refused = metadata.propose(topic(id, 1)).await;
        let why = refused.expect_err("is not durable").to_string();
        assert!(why.contains(&log), "{why}");
    }
    let why = reasons(&open_on(dir, device).await.expect_err("is refused"));
    assert!(why.contains(&log), "{why}");
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_after_a_snapshot() {
    let dir = std::env::temp_dir().join(format!("highwater-raft-{}", std::process::id()));
    let create = |name: &str, id: u8| {
        Command::from(Action::CreateTopic(CreateTopic {
            name: name.to_owned(),
            id: vec![id; 16],
            partitions: vec![Replicas { nodes: vec![1] }],
            ..CreateTopic::default()
        }))
    };
    let metadata = open(&dir).await;
    metadata.propose(create("first", 1)).await.expect("creates");
    assert!(
        metadata.image().topic("first").is_some(),
        "the answer waits for the image"
    );
    metadata.shutdown().await.expect("stops");
    drop(metadata);

    let metadata = open(&dir).await;
    let image = metadata.image();
    assert_eq!(image.cluster(), Uuid([7; 16]));
    assert!(image.topic("first").is_some());
    let refused = metadata.propose(create("first", 2)).await;
    let exists = ProposeError::Rejected(crate::Rejection::TopicExists);
    assert_eq!(refused, Err(exists));
    let raft = &metadata.voter.raft;
    raft.trigger().snapshot().await.expect("asks");
    let last = metadata.image().at();
    let taken = raft.wait(Some(PATIENCE));
    taken
        .metrics(
            |metrics| metrics.snapshot.is_some_and(|id| id.index >= last.0),
            "snapshot is taken",
        )
        .await
        .expect("is taken");
    raft.trigger().purge_log(last.0).await.expect("asks");
    metadata
        .propose(create("second", 3))
        .await
        .expect("creates");
    metadata.shutdown().await.expect("stops");
    drop(metadata);

    // D2: a missing or cut file must not be taken for metadata that begins anew, or that knows less
    let (log, snapshot) = (dir.join("log"), dir.join("snapshot"));
    let whole = std::fs::read(&snapshot).expect("is there");
    let half = &whole[..whole.len() / 2];
    for (name, content, path, reason) in [
        ("log", None, &log, "ends before the snapshot"),
        ("snapshot", None, &snapshot, "begins after it"),
        ("snapshot", Some(half), &snapshot, "cannot be read"),
        ("snapshot", Some(&[][..]), &snapshot, "beginning is missing"),
    ] {
        let why = refusal(&dir, name, content).await;
        let named = why.contains(&path.display().to_string());
        assert!(named && why.contains(reason), "{name}: {why}");
    }
    let first = log.join("0000000000000000.log");
    let only = std::fs::read_dir(&log).expect("is there").count() == 2;
    assert!(!only && first.exists(), "a file is made ahead");
    let why = refusal(&dir, "log/0000000000000000.log", None).await;
    assert!(why.contains(&log.display().to_string()), "{why}");

    let metadata = open(&dir).await;
    let image = metadata.image();
    assert!(image.topic("first").is_some() && image.topic("second").is_some());
    metadata.shutdown().await.expect("stops");
    std::fs::remove_dir_all(&dir).expect("removes");
}

// D3
#[tokio::test]
async fn a_snapshot_that_cannot_be_written_ends_the_metadata_with_the_file() {
    let dir = std::env::temp_dir().join(format!("highwater-ended-{}", std::process::id()));
    let metadata = open(&dir).await;
    std::fs::create_dir(dir.join("snapshot.new")).expect("is in the way");
    metadata
        .voter
        .raft
        .trigger()
        .snapshot()
        .await
        .expect("asks");
    let why = tokio::time::timeout(PATIENCE, metadata.ended()).await;
    let why = why.expect("ends");
    let file = dir.join("snapshot").display().to_string();
    assert!(why.contains(&file), "{why}");
    std::fs::remove_dir_all(&dir).expect("removes");
}
