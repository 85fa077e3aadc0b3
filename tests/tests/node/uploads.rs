//! How the log gets to the object store.

use std::path::Path;

use anyhow::Result;
use highwater_broker::node::Machine;
use highwater_protocol::records::BatchBuilder;
use highwater_tests::TestNode;
use tempfile::TempDir;

use super::T0;

/// Objects below a directory and their bytes.
fn objects(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(objects(&entry.path())?);
        } else {
            found.push(entry.metadata()?.len());
        }
    }
    Ok(found)
}

// every object costs a request for each time it is written and read: a log cache full of what is uploaded makes no more
#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_cache_makes_no_small_objects() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let settings = [
        ("highwater.object.storage", store.as_str()),
        ("highwater.memory.limit", "64MiB"),
        ("highwater.upload.size", "2MiB"),
        ("highwater.upload.interval.ms", "600000"),
    ];
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let mut batch = BatchBuilder::default();
    batch.push(T0, None, Some(&vec![7; 256 << 10]));
    let batch = batch.build()?;
    const BATCHES: usize = 240;
    for _ in 0..BATCHES {
        let answer = client.produce("t", 0, batch.clone()).await?;
        assert_eq!(answer.error_code, 0);
    }
    let dir = node.stop().await?;
    let sizes = objects(&dir.path().join("data/objects"))?;
    let sizes: Vec<u64> = sizes.into_iter().filter(|bytes| *bytes > 0).collect();
    assert!(sizes.iter().sum::<u64>() > (BATCHES * batch.len()) as u64);
    let most = BATCHES * batch.len() / (2 << 20) + 2;
    assert!(sizes.len() <= most, "{} objects: {sizes:?}", sizes.len());
    Ok(())
}
