//! Opening partitions while the object store does not answer for some of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use highwater_client::Connection;
use highwater_io::Faults;
use highwater_protocol::ErrorCode;
use highwater_tests::{TestNode, files_below, producer_fields};
use tempfile::TempDir;

use super::{T0, producer_batch};

/// The node uploads only when it stops.
const SETTINGS: &[(&str, &str)] = &[("highwater.upload.interval.ms", "600000")];

/// Writes to several topics in one upload, and returns the object that has all their records.
async fn upload(dir: TempDir, topics: &[&str]) -> Result<(TempDir, PathBuf)> {
    let node = TestNode::start_local(dir, SETTINGS).await?;
    let objects = node.objects();
    for topic in topics {
        node.create_topic(topic, 1, &[]).await?;
        produce(&mut node.client().await?, topic, 0).await?;
    }
    let before = files_below(&objects)?;
    let dir = node.stop().await?;
    let after: BTreeSet<_> = files_below(&objects)?;
    let object = after.difference(&before).next().context("it uploads")?;
    Ok((dir, object.clone()))
}

/// Makes ten records of a producer with an id, so that the partition has producer state that is read when it is opened.
async fn produce(client: &mut Connection, topic: &str, at: i64) -> Result<()> {
    let batch = producer_batch(10, T0, producer_fields(1, i32::try_from(at)?));
    let answer = client.produce(topic, 0, batch).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, at), "{topic}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_answer_holds_up_its_own_partitions_alone() -> Result<()> {
    let (dir, object) = upload(TempDir::new()?, &["slow", "gone"]).await?;
    let (dir, _) = upload(dir, &["t"]).await?;
    let faults = Arc::<Faults>::default();
    faults.hang_reads_below(Some(object));
    let node = TestNode::start_with_faults(dir, SETTINGS, &faults).await?;
    let mut client = node.client().await?;
    produce(&mut client, "t", 10).await?;
    let (code, _) = highwater_tests::read(&mut client, "slow", 0).await?;
    assert_eq!(code, ErrorCode::NotLeaderOrFollower.code(), "not yet");
    // The node follows the image meanwhile, and does not later open partitions that the image has taken away.
    node.delete_topic("gone").await?;
    for topic in ["new", "gone"] {
        node.create_topic(topic, 1, &[]).await?;
        produce(&mut client, topic, 0).await?;
    }
    faults.hang_reads_below(None);
    produce(&mut client, "slow", 10).await?;
    produce(&mut client, "gone", 10).await?;
    node.stop().await?;
    Ok(())
}
