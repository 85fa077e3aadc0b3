//! Starts that a node refuses, and the reasons that it gives.

use std::path::Path;

use anyhow::Result;
use highwater_broker::node::{Machine, Node};
use highwater_tests::{TestNode, copy_directory, files_below};
use tempfile::TempDir;

use super::{T0, batch};

/// The reason why a node does not start in a directory that this test keeps.
pub(super) async fn refusal(dir: &TempDir, settings: &[(&str, &str)]) -> Result<String> {
    let config = TestNode::config(dir, settings)?;
    match Node::start(config, Machine::real()).await {
        Ok(node) => {
            node.stop().await?;
            anyhow::bail!("it starts")
        }
        // The text is as the program prints it.
        Err(error) => Ok(format!("{:#}", anyhow::Error::from(error))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused_and_its_node_goes_on() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let why = refusal(&node.dir, &[]).await?;
    assert!(
        why.contains("in use by another process") && why.contains("data"),
        "{why}"
    );
    let answer = node.client().await?.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_of_apache_kafka_is_refused() -> Result<()> {
    let dir = TempDir::new()?;
    let data = dir.path().join("data");
    std::fs::create_dir(&data)?;
    let theirs = "version=1\ncluster.id=J8qXRwI-Qyi2G0guFTiuYw\nnode.id=1\n";
    std::fs::write(data.join("meta.properties"), theirs)?;
    let why = refusal(&dir, &[]).await?;
    let told = "was not written by Highwater: use another directory";
    assert!(why.contains(told), "{why}");
    assert!(!data.join("metadata").exists(), "nothing is written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_another_cluster_is_refused() -> Result<()> {
    let dir = TempDir::new()?;
    let theirs = TestNode::local_store(&dir);
    let settings = [("highwater.object.storage", theirs.as_str())];
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    let _dir = node.stop().await?;
    let other = TempDir::new()?;
    let why = refusal(&other, &settings).await?;
    assert!(
        why.contains("another cluster") && why.contains("objects"),
        "{why}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_refused_before_anything_is_written() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listener = format!("PLAINTEXT://{}", taken.local_addr()?);
    let dir = TempDir::new()?;
    let why = refusal(&dir, &[("listeners", listener.as_str())]).await?;
    assert!(why.contains("cannot listen on"), "{why}");
    assert!(!dir.path().join("data").exists());
    Ok(())
}

// D2: no part of a log is replayed or uploaded if the metadata is older than the log.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_older_than_the_log_is_refused_before_anything_is_uploaded() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let settings = [("highwater.object.storage", store.as_str())];
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    node.create_topic("t", 1, &[]).await?;
    let dir = node.stop().await?;
    let data = dir.path().join("data");
    let (metadata, kept) = (data.join("metadata"), dir.path().join("kept"));
    copy_directory(&metadata, &kept)?;
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    let answer = node.client().await?.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, 0);
    let dir = node.stop().await?;
    std::fs::remove_dir_all(&metadata)?;
    copy_directory(&kept, &metadata)?;
    let before = files_below(&data.join("objects"))?;
    let why = refusal(&dir, &settings).await?;
    assert!(
        why.contains("the metadata is older than the log (D2)"),
        "{why}"
    );
    // A supervisor retries as often. The metadata's log grows meanwhile, and must not pass for the newer one.
    for attempt in 0..30 {
        assert_eq!(refusal(&dir, &settings).await?, why, "attempt {attempt}");
    }
    assert_eq!(files_below(&data.join("objects"))?, before);
    // The start is also refused without any metadata.
    std::fs::remove_dir_all(&metadata)?;
    let why = refusal(&dir, &settings).await?;
    assert!(
        why.contains("the metadata is older than the log (D2)"),
        "{why}"
    );
    assert_eq!(files_below(&data.join("objects"))?, before);
    Ok(())
}

/// Starts a node that uploads only when it stops, in a new directory or in that of an earlier node.
pub(super) async fn start(dir: TempDir) -> Result<TestNode> {
    TestNode::start_local(dir, &[("highwater.upload.interval.ms", "600000")]).await
}

/// The reason why a node does not start on the data in a directory; nothing is uploaded.
async fn refusal_in(dir: &TempDir) -> Result<String> {
    let objects = dir.path().join("data/objects");
    let before = files_below(&objects)?;
    let store = TestNode::local_store(dir);
    let why = refusal(dir, &[("highwater.object.storage", store.as_str())]).await?;
    assert_eq!(files_below(&objects)?, before);
    Ok(why)
}

/// Copies the directory as a killed process would leave it.
pub(super) fn left_by(node: &TestNode) -> Result<TempDir> {
    let dir = TempDir::new()?;
    copy_directory(&node.dir.path().join("data"), &dir.path().join("data"))?;
    Ok(dir)
}

pub(super) fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    how(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}

/// Produces and acknowledges batches of ten records in topic `t`.
async fn produce(node: &TestNode, batches: i64) -> Result<()> {
    let mut client = node.client().await?;
    for _ in 0..batches {
        let answer = client.produce("t", 0, batch(10, T0)).await?;
        assert_eq!(answer.error_code, 0);
    }
    Ok(())
}

async fn end_of_t(node: &TestNode) -> Result<i64> {
    let mut client = node.client().await?;
    let answer = client.call(&highwater_tests::latest("t"), 10).await?;
    Ok(answer.topics[0].partitions[0].offset)
}

pub(super) const FIRST: &str = "0000000000000000.log";

// D1
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_rots_before_the_tail_of_the_log_is_refused_by_file_and_place() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 4).await?;
    let dir = left_by(&node)?;
    let path = dir.path().join("data/wal").join(FIRST);
    let rot = |bytes: &mut Vec<u8>| bytes[4096 + 100] ^= 1;
    change(&path, rot)?;
    let why = refusal_in(&dir).await?;
    let file = path.display().to_string();
    assert!(why.contains(&file) && why.contains("offset=4096"), "{why}");
    change(&path, rot)?;
    assert_eq!(end_of_t(&start(dir).await?).await?, 40);
    Ok(())
}

// D2: records that are acknowledged after a log began again would be below the floor, and the next recovery would skip
// them.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_what_was_uploaded_of_it_is_refused() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 1).await?;
    let dir = node.stop().await?;
    let wal = dir.path().join("data/wal");
    let whole = std::fs::read(wal.join(FIRST))?;
    change(&wal.join(FIRST), |bytes| bytes.fill(0))?;
    let why = refusal_in(&dir).await?;
    assert!(
        why.contains(&wal.display().to_string()) && why.contains("(D2)"),
        "{why}"
    );
    std::fs::write(wal.join(FIRST), &whole)?;
    assert_eq!(end_of_t(&start(dir).await?).await?, 10);
    Ok(())
}

// D2: the start is refused even if nothing of the log was uploaded yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_is_lost_is_refused_until_it_is_back() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 1).await?;
    let dir = left_by(&node)?;
    let (wal, kept) = (dir.path().join("data/wal"), dir.path().join("kept"));
    std::fs::rename(&wal, &kept)?;
    for attempt in 0..2 {
        let why = refusal_in(&dir).await?;
        let named = why.contains(&wal.display().to_string());
        assert!(named && why.contains("is not there"), "{attempt}: {why}");
    }
    if wal.exists() {
        std::fs::remove_dir_all(&wal)?;
    }
    std::fs::rename(&kept, &wal)?;
    assert_eq!(end_of_t(&start(dir).await?).await?, 10);
    Ok(())
}

// D2
#[tokio::test(flavor = "multi_thread")]
async fn a_raft_log_that_is_cut_is_refused_by_file() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 1).await?;
    let dir = left_by(&node)?;
    let log = dir.path().join("data/metadata/log");
    let path = log.join(FIRST);
    let whole = std::fs::read(&path)?;
    for length in [0, 10_000, whole.len() / 2] {
        change(&path, |bytes| bytes.truncate(length))?;
        let why = refusal_in(&dir).await?;
        let file = path.display().to_string();
        assert!(why.contains(&file) && why.contains("bytes"), "{why}");
    }
    std::fs::remove_file(&path)?;
    let why = refusal_in(&dir).await?;
    assert!(why.contains(&log.display().to_string()), "{why}");
    std::fs::write(&path, &whole)?;
    assert_eq!(end_of_t(&start(dir).await?).await?, 10);
    Ok(())
}

/// The end of the blocks in a log's first file, after which there are zeroes.
pub(super) fn end_of(path: &Path) -> Result<usize> {
    let bytes = std::fs::read(path)?;
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    Ok(last.next_multiple_of(4096))
}

// D1, D2: a Raft log whose file keeps its length and loses its end looks like a torn tail. Records that were
// acknowledged on the strength of the lost entries prove otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_raft_log_that_loses_its_end_is_refused_for_what_the_write_ahead_log_holds() -> Result<()>
{
    let node = start(start(TempDir::new()?).await?.stop().await?).await?;
    let path = Path::new("data/metadata/log").join(FIRST);
    let registered = end_of(&node.dir.path().join(&path))?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 2).await?;
    let dir = left_by(&node)?;
    let raft = dir.path().join(&path);
    let whole = std::fs::read(&raft)?;
    change(&raft, |bytes| bytes[registered..].fill(0))?;
    let store = TestNode::local_store(&dir);
    let settings = [("highwater.object.storage", store.as_str())];
    let (wal, away) = (dir.path().join("data/wal"), dir.path().join("away"));
    // the refusal of a start without the log names the last epoch that the metadata knows
    let last_epoch = async || {
        std::fs::rename(&wal, &away)?;
        let why = refusal(&dir, &settings).await?;
        std::fs::rename(&away, &wal)?;
        anyhow::ensure!(why.contains("knows this node's epoch"), "{why}");
        Ok(why)
    };
    let before = last_epoch().await?;
    for _ in 0..3 {
        let why = refusal(&dir, &settings).await?;
        let is_told = why.contains(&wal.display().to_string()) && why.contains("never gave out");
        assert!(is_told, "{why}");
    }
    assert_eq!(
        last_epoch().await?,
        before,
        "a refused start leaves no epoch"
    );
    std::fs::write(&raft, &whole)?;
    assert_eq!(end_of_t(&start(dir).await?).await?, 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_start_on_one_empty_store_one_is_refused() -> Result<()> {
    let store = TempDir::new()?;
    let url = format!("file://{}", store.path().join("objects").display());
    let settings = [("highwater.object.storage", url.as_str())];
    let first = TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await?;
    let mut first = Some(first);
    let other = TempDir::new()?;
    // Nodes of one cluster may share the directory (L1), and these are of two.
    for is_stopped in [false, true] {
        let why = refusal(&other, &settings).await?;
        assert!(
            why.contains("belongs to another cluster") && why.contains(url.as_str()),
            "stopped: {is_stopped}: {why}"
        );
        if let Some(first) = first.take() {
            first.stop().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_refuses_another_store_than_its_own() -> Result<()> {
    let elsewhere = TempDir::new()?;
    let url = format!("file://{}", elsewhere.path().display());
    let own = [("highwater.object.storage", url.as_str())];
    let node = TestNode::start_in(TempDir::new()?, &own, Machine::real()).await?;
    let dir = node.stop().await?;
    let forgotten = TestNode::local_store(&dir);
    let why = refusal(&dir, &[("highwater.object.storage", &forgotten)]).await?;
    assert!(
        why.contains(url.as_str()) && why.contains(forgotten.as_str()),
        "{why}"
    );
    assert!(
        !dir.path().join("data/objects").exists(),
        "nothing is made there"
    );
    // The location is the same, and no object of the cluster is there.
    let kept = elsewhere.path().with_extension("kept");
    std::fs::rename(elsewhere.path(), &kept)?;
    let why = refusal(&dir, &own).await?;
    assert!(
        why.contains("is not the one") && why.contains(url.as_str()),
        "{why}"
    );
    assert!(!elsewhere.path().exists(), "nothing is made there");
    std::fs::rename(&kept, elsewhere.path())?;
    TestNode::start_in(dir, &own, Machine::real()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_was_moved_still_has_the_objects_in_it() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let settings = [("highwater.object.storage", store.as_str())];
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    let dir = node.stop().await?;
    let moved = TempDir::new()?;
    std::fs::rename(dir.path().join("data"), moved.path().join("data"))?;
    let store = TestNode::local_store(&moved);
    let settings = [("highwater.object.storage", store.as_str())];
    TestNode::start_in(moved, &settings, Machine::real()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_of_another_node_is_refused_with_both_named() -> Result<()> {
    let node = TestNode::start(&[("node.id", "1")]).await?;
    let dir = node.stop().await?;
    let why = refusal(&dir, &[("node.id", "2")]).await?;
    assert!(
        why.contains("belongs to node.id=1, not to node.id=2"),
        "{why}"
    );
    Ok(())
}

// Kafka accepts this limit, although every batch that the node proposes is larger.
#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_bound_on_the_metadata_log_starts_and_starts_again() -> Result<()> {
    let smallest = [("metadata.log.max.record.bytes.between.snapshots", "1")];
    let node = TestNode::start(&smallest).await?;
    node.create_topic("t", 100, &[]).await?;
    let dir = node.stop().await?;
    let node = TestNode::start_in(dir, &smallest, Machine::real()).await?;
    let answer = node.client().await?.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, 0);
    let _dir = node.stop().await?;
    Ok(())
}
