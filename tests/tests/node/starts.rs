//! What refuses to start, and says why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use highwater_broker::node::{Machine, Node};
use highwater_tests::TestNode;
use tempfile::TempDir;

use super::{T0, batch};

/// Why a node does not start on a directory that this test keeps.
async fn refusal(dir: &TempDir, settings: &[(&str, &str)]) -> Result<String> {
    let config = TestNode::config(dir, settings)?;
    match Node::start(config, Machine::real()).await {
        Ok(node) => {
            node.stop().await?;
            anyhow::bail!("it starts")
        }
        Err(error) => Ok(error.to_string()),
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

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let into = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &into)?,
            false => std::fs::copy(entry.path(), into).map(|_| ())?,
        }
    }
    Ok(())
}

/// Every file below a directory.
fn files(dir: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false => drop(found.insert(entry.path())),
        }
    }
    Ok(found)
}

// D2: nothing of a log is replayed or uploaded on the word of metadata that is older than it
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
    copy(&metadata, &kept)?;
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    let answer = node.client().await?.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, 0);
    let dir = node.stop().await?;
    std::fs::remove_dir_all(&metadata)?;
    copy(&kept, &metadata)?;
    let before = files(&data.join("objects"))?;
    let why = refusal(&dir, &settings).await?;
    assert!(
        why.contains("the metadata is older than the log (D2)"),
        "{why}"
    );
    assert_eq!(files(&data.join("objects"))?, before);
    // and with no metadata at all
    std::fs::remove_dir_all(&metadata)?;
    let why = refusal(&dir, &settings).await?;
    assert!(
        why.contains("the metadata is older than the log (D2)"),
        "{why}"
    );
    assert_eq!(files(&data.join("objects"))?, before);
    Ok(())
}
