//! Producer state outlives the producers' records: I6, F2, F4, F5.

use std::path::PathBuf;

use anyhow::Result;
use highwater_client::Connection;
use highwater_protocol::ErrorCode;
use highwater_protocol::records::{BatchBuilder, Codec};
use highwater_tests::{TestNode, files_below, producer_fields, producer_id, until};
use tempfile::TempDir;

use super::admin::delete_records;
use super::{T0, producer_batch};

const SETTINGS: &[(&str, &str)] = &[
    ("highwater.upload.interval.ms", "50"),
    ("log.retention.check.interval.ms", "100"),
    ("highwater.object.grace.ms", "100"),
];

/// Starts a node on the local store, whose files these tests read.
async fn start(dir: TempDir, settings: &[(&str, &str)]) -> Result<TestNode> {
    TestNode::start_local(dir, &[SETTINGS, settings].concat()).await
}

/// The data objects in the store.
fn objects(node: &TestNode) -> Result<Vec<PathBuf>> {
    let store = node.objects();
    let is_data = |path: &PathBuf| {
        let within = path.strip_prefix(&store).unwrap_or(path);
        within.iter().nth(1).is_some_and(|name| name == "data")
    };
    Ok(files_below(&store)?.into_iter().filter(is_data).collect())
}

/// Sends one record, and returns its offset.
async fn send(client: &mut Connection, id: i64, sequence: i32) -> Result<i64> {
    let batch = producer_batch(1, T0, producer_fields(id, sequence));
    let answer = client.produce("t", 0, batch).await?;
    anyhow::ensure!(answer.error_code == 0, "{answer:?}");
    Ok(answer.base_offset)
}

async fn uploaded(node: &TestNode, objects_before: usize) -> Result<()> {
    until("an upload", async || {
        Ok(objects(node)?.len() > objects_before)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_to_the_end_forgets_no_producer() -> Result<()> {
    let node = start(TempDir::new()?, &[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    // The number is so large that later producer state does not outweigh the checkpoint.
    let mut offset = 0;
    for _ in 0..60 {
        let id = producer_id(&mut client).await?;
        assert_eq!(send(&mut client, id, 0).await?, offset);
        offset += 1;
    }
    uploaded(&node, 0).await?;
    let dir = node.stop().await?;
    let node = start(dir, &[]).await?;
    let mut client = node.client().await?;
    let before = objects(&node)?.len();
    let late = producer_id(&mut client).await?;
    for sequence in 0..3 {
        assert_eq!(send(&mut client, late, sequence).await?, offset);
        offset += 1;
    }
    uploaded(&node, before).await?;
    assert_eq!(delete_records(&mut client, "t", -1).await?.0, 0);
    let dir = node.stop().await?;
    let node = start(dir, &[]).await?;
    let mut client = node.client().await?;
    for sequence in 0..3 {
        let repeated = send(&mut client, late, sequence).await?;
        assert_eq!(repeated, offset - 3 + i64::from(sequence), "I6");
    }
    assert_eq!(send(&mut client, late, 3).await?, offset);
    Ok(())
}

// Otherwise an object of 20 MB would stay for one trimmed record.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_producers_keeps_no_object_with_records() -> Result<()> {
    let node = start(TempDir::new()?, &[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    let mut large = BatchBuilder::new(producer_fields(id, 0), Codec::None);
    large.push(T0, None, Some(&[7; 1_000_000]));
    let large = large.build()?;
    let answer = client.produce("t", 0, large.clone()).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    uploaded(&node, 0).await?;
    assert_eq!(delete_records(&mut client, "t", -1).await?.0, 0);
    // An object may vanish while its size is read.
    let size = |path: &PathBuf| path.metadata().map_or(0, |file| file.len());
    until("the object with records goes", async || {
        Ok(objects(&node)?.iter().map(size).sum::<u64>() < 10_000)
    })
    .await?;
    let dir = node.stop().await?;
    let node = start(dir, &[]).await?;
    let mut client = node.client().await?;
    let answer = client.produce("t", 0, large).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0), "I6");
    assert_eq!(send(&mut client, id, 1).await?, 1);
    Ok(())
}

// `producer.id.expiration.ms`
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_idle_for_too_long_is_forgotten_in_objects_too() -> Result<()> {
    let node = start(TempDir::new()?, &[("producer.id.expiration.ms", "60000")]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    assert_eq!(send(&mut client, id, 0).await?, 0);
    uploaded(&node, 0).await?;
    let dir = node.stop().await?;
    // This expiration makes the producer expire at once, as if the usual time had passed.
    let node = start(dir, &[("producer.id.expiration.ms", "1")]).await?;
    let mut client = node.client().await?;
    assert_eq!(delete_records(&mut client, "t", -1).await?.0, 0);
    until("all objects go", async || Ok(objects(&node)?.is_empty())).await?;
    let dir = node.stop().await?;
    let node = start(dir, &[]).await?;
    let mut client = node.client().await?;
    assert_eq!(send(&mut client, id, 0).await?, 1, "nobody knows it");
    let again = client
        .produce("t", 0, producer_batch(1, T0, producer_fields(id, 2)))
        .await?;
    let gap = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!(again.error_code, gap, "now it is known");
    Ok(())
}
