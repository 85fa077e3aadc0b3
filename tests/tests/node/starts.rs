//! What refuses to start, and says why.

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
