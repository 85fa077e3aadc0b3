//! Records that retention removes are removed from the object store too: F6, G1, I8.

use std::path::{Path, PathBuf};

use anyhow::Result;
use highwater_client::Connection;
use highwater_protocol::records::BatchBuilder;
use highwater_tests::{TestNode, files_below, large_batch, until};
use tempfile::TempDir;

use super::T0;
use super::admin::delete_records;

const SETTINGS: &[(&str, &str)] = &[
    ("highwater.upload.interval.ms", "50"),
    ("log.retention.check.interval.ms", "200"),
    ("highwater.object.grace.ms", "200"),
];

/// Starts a node on the local store, whose files these tests read.
async fn start(dir: TempDir) -> Result<TestNode> {
    TestNode::start_local(dir, SETTINGS).await
}

/// The objects in the store, without those that are being put.
fn objects(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_object = |path: &PathBuf| {
        let within = path.strip_prefix(dir).unwrap_or(path);
        !within.iter().any(|name| name == ".tmp" || name == ".lock")
    };
    Ok(files_below(dir)?.into_iter().filter(is_object).collect())
}

async fn earliest(client: &mut Connection) -> Result<i64> {
    Ok(look(client, "t", -2).await?.0)
}

async fn until_earliest(client: &mut Connection, offset: i64) -> Result<()> {
    let is_there = async || Ok(earliest(client).await? >= offset);
    until("retention", is_there).await
}

/// The offset and the timestamp in an answer of ListOffsets.
async fn look(client: &mut Connection, topic: &str, timestamp: i64) -> Result<(i64, i64)> {
    let answer = client
        .call(&highwater_tests::offset_at(topic, timestamp), 10)
        .await?;
    let found = &answer.topics[0].partitions[0];
    anyhow::ensure!(found.error_code == 0, "{found:?}");
    Ok((found.offset, found.timestamp))
}

/// Produces batches of a megabyte, each into an object of its own.
async fn fill(node: &TestNode, client: &mut Connection, batches: usize, time: i64) -> Result<()> {
    for _ in 0..batches {
        let had = objects(&node.objects())?.len();
        let answer = client.produce("t", 0, large_batch(1_000_000, time)).await?;
        anyhow::ensure!(answer.error_code == 0, "{answer:?}");
        let is_uploaded = async || Ok(objects(&node.objects())?.len() > had);
        until("an upload", is_uploaded).await?;
    }
    Ok(())
}

fn now_ms() -> i64 {
    highwater_runtime::WallClock::system().now_ms()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_bytes_the_oldest_rolls_go_and_their_objects_with_them() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    let configs = [("segment.bytes", "1048576"), ("retention.bytes", "-1")];
    node.create_topic("t", 1, &configs).await?;
    let mut client = node.client().await?;
    fill(&node, &mut client, 6, now_ms()).await?;
    let before = objects(&node.objects())?;
    assert_eq!(earliest(&mut client).await?, 0);
    super::compression::alter(&mut client, "t", "retention.bytes", "2500000").await?;
    until_earliest(&mut client, 3).await?;
    until("three objects go", async || {
        let left = objects(&node.objects())?;
        Ok(before.iter().filter(|path| !left.contains(path)).count() == 3)
    })
    .await?;
    // Records that must stay do so, also after a restart.
    let dir = node.stop().await?;
    let node = start(dir).await?;
    let mut client = node.client().await?;
    for offset in 3..6 {
        let (code, records) = highwater_tests::read(&mut client, "t", offset).await?;
        assert_eq!(code, 0);
        assert!(records.len() > 1_000_000, "{offset}");
    }
    assert_eq!(earliest(&mut client).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_time_all_of_an_expired_log_goes_and_offsets_go_on() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
    node.create_topic("t", 1, &configs).await?;
    let mut client = node.client().await?;
    fill(&node, &mut client, 3, T0).await?;
    let before = objects(&node.objects())?;
    super::compression::alter(&mut client, "t", "retention.ms", "600000").await?;
    until_earliest(&mut client, 3).await?;
    until("three objects go", async || {
        let left = objects(&node.objects())?;
        Ok(before.iter().filter(|path| !left.contains(path)).count() == 3)
    })
    .await?;
    let (code, records) = highwater_tests::read(&mut client, "t", 3).await?;
    assert_eq!((code, records.len()), (0, 0));
    fill(&node, &mut client, 1, now_ms()).await?;
    let (code, records) = highwater_tests::read(&mut client, "t", 3).await?;
    assert!(code == 0 && !records.is_empty(), "{code}");
    Ok(())
}

async fn stop_and_start(node: TestNode) -> Result<(TestNode, Connection)> {
    let node = start(node.stop().await?).await?;
    let client = node.client().await?;
    Ok((node, client))
}

// Each batch is uploaded alone, and begins both a roll and its claim.
#[tokio::test(flavor = "multi_thread")]
async fn rolls_that_begin_with_their_claim_outlive_a_restart() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    let configs = [("segment.ms", "5000"), ("retention.ms", "-1")];
    node.create_topic("t", 1, &configs).await?;
    let mut client = node.client().await?;
    let first = now_ms() - 100_000;
    for i in 0..10 {
        fill(&node, &mut client, 1, first + i * 10_000).await?;
    }
    let (_node, mut client) = stop_and_start(node).await?;
    assert_eq!(earliest(&mut client).await?, 0);
    super::compression::alter(&mut client, "t", "retention.ms", "60000").await?;
    until_earliest(&mut client, 5).await
}

// The age of a roll counts from its first batch, even if the node was restarted since.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_put_off_a_roll() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    let configs = [("segment.ms", "5000000"), ("retention.ms", "-1")];
    node.create_topic("t", 1, &configs).await?;
    let mut client = node.client().await?;
    fill(&node, &mut client, 1, T0).await?;
    let (node, mut client) = stop_and_start(node).await?;
    fill(&node, &mut client, 1, T0 + 3_000_000).await?;
    let (node, mut client) = stop_and_start(node).await?;
    fill(&node, &mut client, 1, T0 + 6_000_000).await?;
    // Retention removes records older than halfway between the last two batches, if they are in a roll of their own.
    let retention = now_ms() - (T0 + 4_500_000);
    super::compression::alter(&mut client, "t", "retention.ms", &retention.to_string()).await?;
    until_earliest(&mut client, 2).await
}

// Kafka falls back to the modification time of the segment's file.
#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_time_expire_by_when_they_were_appended() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[("retention.ms", "-1")]).await?;
    let mut client = node.client().await?;
    fill(&node, &mut client, 3, -1).await?;
    let (_node, mut client) = stop_and_start(node).await?;
    assert_eq!(earliest(&mut client).await?, 0);
    super::compression::alter(&mut client, "t", "retention.ms", "1").await?;
    until_earliest(&mut client, 3).await
}

const DAY_MS: i64 = 86_400_000;

async fn put(client: &mut Connection, topic: &str, time: i64) -> Result<()> {
    let mut batch = BatchBuilder::default();
    batch.push(time, None, Some(b"value"));
    let answer = client.produce(topic, 0, batch.build()?).await?;
    anyhow::ensure!(answer.error_code == 0, "{answer:?}");
    Ok(())
}

/// Waits until retention has checked all logs. A record that is produced after the check of one topic is removed by the
/// next check.
async fn wait_for_retention(client: &mut Connection) -> Result<()> {
    for _ in 0..2 {
        put(client, "gone", now_ms() - DAY_MS).await?;
        let (end, _) = look(client, "gone", -1).await?;
        let is_empty = async || Ok(look(client, "gone", -2).await?.0 == end);
        until("retention", is_empty).await?;
    }
    Ok(())
}

// Apache Kafka 4.4 answers so: its active segment stays, even if all its records are deleted, until retention rolls and
// removes it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_all_deleted_goes_as_its_segment_would_and_hides_nothing_then() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[("retention.ms", "600000")])
        .await?;
    node.create_topic("gone", 1, &[("retention.ms", "1")])
        .await?;
    let mut client = node.client().await?;
    let now = now_ms();
    let old = now - DAY_MS;
    for time in [now - 2, now, now - 1] {
        put(&mut client, "t", time).await?;
    }
    delete_records(&mut client, "t", 3).await?;
    put(&mut client, "t", old).await?;
    wait_for_retention(&mut client).await?;
    assert_eq!(look(&mut client, "t", -3).await?, (1, now));
    assert_eq!(earliest(&mut client).await?, 3, "the older one stays too");
    delete_records(&mut client, "t", 4).await?;
    wait_for_retention(&mut client).await?;
    assert_eq!(look(&mut client, "t", -3).await?, (1, now));
    super::compression::alter(&mut client, "t", "retention.ms", "1").await?;
    let is_empty = async || Ok(look(&mut client, "t", -3).await? == (-1, -1));
    until("the segment goes", is_empty).await?;
    super::compression::alter(&mut client, "t", "retention.ms", "-1").await?;
    for time in [old + 20, old + 10] {
        put(&mut client, "t", time).await?;
        assert_eq!(look(&mut client, "t", -3).await?, (4, old + 20));
    }
    let (_node, mut client) = stop_and_start(node).await?;
    assert_eq!(look(&mut client, "t", -3).await?, (4, old + 20));
    assert_eq!(earliest(&mut client).await?, 4);
    Ok(())
}
