//! Uploads of the log to the object store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use highwater_io::Faults;
use highwater_object_format::{Footer, ObjectHeader, StreamDirectory};
use highwater_object_storage::layout;
use highwater_tests::{TestNode, large_batch, until};
use highwater_types::{NodeEpoch, NodeId, ObjectId, ObjectKind};
use tempfile::TempDir;

use super::starts::{left_by, start};
use super::{T0, batch};

// Every object costs a request each time it is written or read. A log cache that is full of uploaded records therefore
// causes no more objects.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_cache_makes_no_small_objects() -> Result<()> {
    let settings = [
        ("highwater.memory.limit", "64MiB"),
        ("highwater.upload.size", "2MiB"),
        ("highwater.upload.interval.ms", "600000"),
    ];
    let node = TestNode::start_local(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let batch = large_batch(256 << 10, T0);
    const BATCHES: usize = 240;
    for _ in 0..BATCHES {
        let answer = client.produce("t", 0, batch.clone()).await?;
        assert_eq!(answer.error_code, 0);
    }
    let dir = node.stop().await?;
    let (mut sizes, mut floors) = (Vec::new(), Vec::new());
    for (path, _) in super::damage::objects(&dir)? {
        let object = Bytes::from(std::fs::read(path)?);
        sizes.push(object.len() as u64);
        floors.push(ObjectHeader::parse(&object)?.floor.at);
    }
    // Each header has the floor that was committed before its object, not the floor after it.
    assert_eq!(floors.first(), Some(&0), "{floors:?}");
    assert!(
        floors.is_sorted() && floors.last() > floors.first(),
        "{floors:?}"
    );
    assert!(sizes.iter().sum::<u64>() > (BATCHES * batch.len()) as u64);
    let most = BATCHES * batch.len() / (2 << 20) + 2;
    assert!(sizes.len() <= most, "{} objects: {sizes:?}", sizes.len());
    Ok(())
}

/// The streams in the headers of a store's data objects, oldest object first.
fn directories(dir: &TempDir) -> Result<Vec<StreamDirectory>> {
    let mut found = Vec::new();
    for (path, _) in super::damage::objects(dir)? {
        let object = Bytes::from(std::fs::read(path)?);
        let slice = |position: u64, bytes: u32| -> Result<Bytes> {
            let from = usize::try_from(position)?;
            Ok(object.slice(from..from + usize::try_from(bytes)?))
        };
        let footer = Footer::parse(&object)?;
        for part in Footer::directories(&slice(footer.position, footer.bytes)?)? {
            found.push(StreamDirectory::parse(&slice(part.position, part.bytes)?)?);
        }
    }
    Ok(found)
}

// G1, U5: the object was put, but not committed, when the process ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_upload_left_is_deleted_after_the_next_start() -> Result<()> {
    let settings = [("highwater.object.grace.ms", "100")];
    let node = TestNode::start_local(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    node.client().await?.produce("t", 0, batch(10, T0)).await?;
    let dir = node.stop().await?;
    let (path, key) = super::damage::objects(&dir)?.remove(0);
    let root = path.ancestors().nth(key.split('/').count());
    let parts: Vec<&str> = key.split('/').collect();
    let orphan = ObjectId {
        node: NodeId(parts[2].parse()?),
        epoch: NodeEpoch(parts[3].parse()?),
        kind: ObjectKind::Upload,
        number: parts[5].parse::<u64>()? + 1,
    };
    let orphan = layout::object(orphan);
    let left = root.expect("below a cluster's").join(orphan.as_str());
    std::fs::create_dir_all(left.parent().expect("is below"))?;
    std::fs::write(&left, b"whole or not")?;
    let node = TestNode::start_local(dir, &settings).await?;
    let emptied = left.ancestors().nth(4).expect("data/<hash>");
    // The reaper runs after the grace period.
    until("the orphan goes", async || Ok(!emptied.exists())).await?;
    assert!(path.exists(), "what is referred to stays");
    node.stop().await?;
    Ok(())
}

// G1, D3: nothing else would make room for the records that a start recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_store_deletes_what_is_condemned_and_goes_on() -> Result<()> {
    let keeps = [
        ("highwater.upload.interval.ms", "600000"),
        ("highwater.object.grace.ms", "86400000"),
    ];
    let (node, _) = TestNode::start_faulty(TempDir::new()?, &keeps).await?;
    node.create_topic("gone", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("gone", 0, batch(10, T0)).await?;
    let (node, _) = TestNode::start_faulty(node.stop().await?, &keeps).await?;
    let mut client = node.client().await?;
    node.delete_topic("gone").await?;
    node.create_topic("t", 1, &[]).await?;
    client.produce("t", 0, batch(10, T0)).await?;
    let dir = left_by(&node)?;
    drop(node);
    let (condemned, _) = super::damage::objects(&dir)?.remove(0);
    let full = Arc::<Faults>::default();
    full.fill_below(Some(dir.path().join("data/objects")));
    let makes_room = async {
        while condemned.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        full.fill_below(None);
    };
    let soon = [("highwater.object.grace.ms", "100")];
    let (node, ()) = tokio::join!(TestNode::start_with_faults(dir, &soon, &full), makes_room);
    let node = node?;
    let mut client = node.client().await?;
    let (code, records) = highwater_tests::read(&mut client, "t", 0).await?;
    assert_eq!((code, records.is_empty()), (0, false));
    node.stop().await?;
    Ok(())
}

// F7
#[tokio::test(flavor = "multi_thread")]
async fn objects_name_the_leader_epochs_of_their_streams() -> Result<()> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    node.client().await?.produce("t", 0, batch(10, T0)).await?;
    // Each start begins a leadership. The second node is killed, and the third reads back the records that it wrote.
    let node = start(node.stop().await?).await?;
    node.client().await?.produce("t", 0, batch(7, T0)).await?;
    let left = left_by(&node)?;
    let dir = start(left).await?.stop().await?;
    let found = directories(&dir)?;
    let epochs = |at: usize| -> Vec<(i32, i64)> {
        let epochs = found[at].leader_epochs.iter();
        epochs.map(|(epoch, first)| (epoch.0, *first)).collect()
    };
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].range, 10..17);
    let (first, second) = (found[0].leader_epoch.0, found[1].leader_epoch.0);
    assert_eq!(epochs(0), [(first, 0)]);
    assert_eq!(epochs(1), [(first, 0), (second, 10)]);
    Ok(())
}
