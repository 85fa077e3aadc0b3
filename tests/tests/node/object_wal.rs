//! A node whose write-ahead log is in the object store: it is killed, and its next start registers the log where it
//! lies (rules W7 to W12, U4, G3).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use highwater_client::Connection;
use highwater_tests::{
    TestNode, fetch, files_below, large_batch, latest, offset_at, producer_fields, producer_id,
    records, until,
};
use tempfile::TempDir;

use super::admin::delete_records;
use super::starts::{FIRST, change, end_of, left_by, refusal};
use super::{T0, batch, producer_batch};

/// Nothing is uploaded before a stop.
const KEPT: &[(&str, &str)] = &[
    ("highwater.wal", "object"),
    ("highwater.upload.interval.ms", "600000"),
    ("highwater.object.grace.ms", "100"),
];
/// The same, but uploads are frequent.
const UPLOADED: &[(&str, &str)] = &[
    ("highwater.wal", "object"),
    ("highwater.upload.interval.ms", "50"),
    ("highwater.object.grace.ms", "100"),
];

/// The keys below the cluster's prefix in the local store.
fn keys(node: &TestNode) -> Result<BTreeSet<String>> {
    let store = node.objects();
    let below = |path: PathBuf| -> Option<String> {
        let path = path.strip_prefix(&store).ok()?;
        let mut segments = path.to_str()?.splitn(2, '/');
        let is_cluster = segments.next()?.starts_with("highwater-");
        segments.next().filter(|_| is_cluster).map(str::to_owned)
    };
    Ok(files_below(&store)?.into_iter().filter_map(below).collect())
}

/// Sends one record, and returns its offset.
async fn send(client: &mut Connection, id: i64, sequence: i32) -> Result<i64> {
    let timestamp = T0 + i64::from(sequence);
    let batch = producer_batch(1, timestamp, producer_fields(id, sequence));
    let answer = client.produce("t", 0, batch).await?;
    anyhow::ensure!(answer.error_code == 0, "{answer:?}");
    Ok(answer.base_offset)
}

async fn end_of_t(client: &mut Connection) -> Result<i64> {
    let answer = client.call(&latest("t"), 10).await?;
    Ok(answer.topics[0].partitions[0].offset)
}

/// The base offset of the first batch that a read finds.
async fn first_batch(client: &mut Connection, offset: i64) -> Result<(i16, i64)> {
    let answer = client.call(&fetch("t", offset, 1), 12).await?;
    let code = answer.responses[0].partitions[0].error_code;
    let batch = records(&answer, 0, 0);
    let base = batch
        .first_chunk()
        .map_or(-1, |base| i64::from_be_bytes(*base));
    Ok((code, base))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_serves_every_record_from_the_objects_of_its_log() -> Result<()> {
    let node = TestNode::start_local(TempDir::new()?, KEPT).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    for sequence in 0..20 {
        assert_eq!(send(&mut client, id, sequence).await?, i64::from(sequence));
    }
    let dir = left_by(&node)?;
    drop((client, node));

    let node = TestNode::start_local(dir, KEPT).await?;
    let mut client = node.client().await?;
    assert_eq!(end_of_t(&mut client).await?, 20);
    for offset in 0..20 {
        assert_eq!(first_batch(&mut client, offset).await?, (0, offset));
    }
    // I6: the producer goes on, and what it repeats is known
    assert_eq!(send(&mut client, id, 19).await?, 19);
    assert_eq!(send(&mut client, id, 20).await?, 20);
    let answer = client.call(&offset_at("t", T0 + 7), 10).await?;
    assert_eq!(answer.topics[0].partitions[0].offset, 7);
    // U4: a start in the middle of the sealed range
    assert_eq!(delete_records(&mut client, "t", 10).await?, (0, 10));
    assert_eq!(first_batch(&mut client, 9).await?.0, 1);
    assert_eq!(first_batch(&mut client, 10).await?, (0, 10));
    let left = keys(&node)?;
    assert!(left.iter().any(|key| key.starts_with("index/")), "{left:?}");
    assert!(
        !left.iter().any(|key| key.starts_with("data/")),
        "W9: {left:?}"
    );

    // killed again: the first range has its claims, and the second is sealed
    let dir = left_by(&node)?;
    drop((client, node));
    let node = TestNode::start_local(dir, UPLOADED).await?;
    let mut client = node.client().await?;
    assert_eq!(end_of_t(&mut client).await?, 21);
    for offset in 10..21 {
        assert_eq!(first_batch(&mut client, offset).await?, (0, offset));
    }
    assert_eq!(send(&mut client, id, 21).await?, 21);

    // W10, W12, G3: of all that nothing is left but the two seals
    node.delete_topic("t").await?;
    until("only the seals are left", async || {
        let left = keys(&node)?;
        Ok(left.len() == 2 && left.iter().all(|key| key.starts_with("wal/")))
    })
    .await?;
    node.stop().await?;
    Ok(())
}

// D4: the kind of the log belongs to the epoch, and no record is lost when the next start has another kind
#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_the_log_is_changed_both_ways_with_records_in_it() -> Result<()> {
    let kinds = ["disk", "object", "object", "disk", "disk", "object"];
    let mut dir = TempDir::new()?;
    let (mut sent, mut id) = (0, None);
    for kind in kinds {
        let settings = [
            ("highwater.wal", kind),
            ("highwater.upload.interval.ms", "600000"),
        ];
        let node = TestNode::start_local(dir, &settings).await?;
        let ring = node.dir.path().join("data/wal");
        assert_eq!(
            ring.exists(),
            kind == "disk",
            "D4: a ring that is not needed is removed"
        );
        let mut client = node.client().await?;
        if sent == 0 {
            node.create_topic("t", 1, &[]).await?;
        }
        let id = match id {
            Some(id) => id,
            None => *id.insert(producer_id(&mut client).await?),
        };
        assert_eq!(end_of_t(&mut client).await?, sent, "{kind}");
        for offset in 0..sent {
            assert_eq!(first_batch(&mut client, offset).await?, (0, offset));
        }
        for _ in 0..3 {
            let sequence = i32::try_from(sent)?;
            assert_eq!(send(&mut client, id, sequence).await?, sent, "I6");
            sent += 1;
        }
        // killed
        dir = left_by(&node)?;
    }
    let node = TestNode::start_local(dir, &[]).await?;
    let mut client = node.client().await?;
    assert_eq!(end_of_t(&mut client).await?, sent);
    node.stop().await?;
    Ok(())
}

// D2, D4: the ring that was removed had a floor far above the end of the next one
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_begins_again_after_an_earlier_one_was_removed() -> Result<()> {
    let node = TestNode::start_local(TempDir::new()?, &[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    for _ in 0..4 {
        let answer = client.produce("t", 0, large_batch(100_000, T0)).await?;
        assert_eq!(answer.error_code, 0);
    }
    // a stop uploads everything, and so raises the floor
    drop(client);
    let mut dir = node.stop().await?;
    let mut sent = 4;
    for kind in ["object", "disk", "disk"] {
        let settings = [
            ("highwater.wal", kind),
            ("highwater.upload.interval.ms", "600000"),
        ];
        let node = TestNode::start_local(dir, &settings).await?;
        let mut client = node.client().await?;
        assert_eq!(end_of_t(&mut client).await?, sent, "{kind}");
        assert_eq!(first_batch(&mut client, sent - 1).await?, (0, sent - 1));
        let answer = client.produce("t", 0, batch(1, T0)).await?;
        assert_eq!((answer.error_code, answer.base_offset), (0, sent));
        sent += 1;
        // killed
        dir = left_by(&node)?;
    }
    let node = TestNode::start_local(dir, &[]).await?;
    assert_eq!(end_of_t(&mut node.client().await?).await?, sent);
    node.stop().await?;
    Ok(())
}

// D2: the start is refused before it registers and before it seals anything
#[tokio::test(flavor = "multi_thread")]
async fn a_raft_log_that_loses_its_end_is_refused_for_what_the_store_holds() -> Result<()> {
    let node = TestNode::start_local(TempDir::new()?, KEPT).await?;
    let node = TestNode::start_local(node.stop().await?, KEPT).await?;
    let raft = Path::new("data/metadata/log").join(FIRST);
    let registered = end_of(&node.dir.path().join(&raft))?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    assert_eq!(send(&mut client, id, 0).await?, 0);
    let dir = left_by(&node)?;
    drop((client, node));
    let (path, objects) = (dir.path().join(&raft), dir.path().join("data/objects"));
    let whole = std::fs::read(&path)?;
    change(&path, |bytes| bytes[registered..].fill(0))?;
    let store = TestNode::local_store(&dir);
    let settings = [&[("highwater.object.storage", store.as_str())], KEPT].concat();
    // each process has a directory of its own for temporary files
    let found = || -> Result<Vec<_>> {
        let files = files_below(&objects)?.into_iter();
        let is_object = |file: &PathBuf| !file.components().any(|part| part.as_os_str() == ".tmp");
        Ok(files.filter(is_object).collect())
    };
    let before = found()?;
    for _ in 0..2 {
        let why = refusal(&dir, &settings).await?;
        assert!(why.contains("never gave out"), "{why}");
        assert_eq!(found()?, before, "no seal, no index");
    }
    std::fs::write(&path, &whole)?;
    let node = TestNode::start_local(dir, KEPT).await?;
    assert_eq!(end_of_t(&mut node.client().await?).await?, 1);
    node.stop().await?;
    Ok(())
}
