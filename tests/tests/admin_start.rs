//! Health and metrics of a node that starts. The test is a process of its own, because the recorder of metrics belongs
//! to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use highwater_io::Faults;
use highwater_kafka_peer::process::free_port;
use highwater_tests::{T0, TestNode, batch, copy_directory, http_get};
use tempfile::TempDir;

/// Makes the directory that a killed node leaves: it has a record that is acknowledged and not uploaded.
async fn left() -> Result<TempDir> {
    let settings = [("highwater.upload.interval.ms", "600000")];
    let node = TestNode::start_local(TempDir::new()?, &settings).await?;
    node.create_topic("t", 3, &[]).await?;
    let mut client = node.client().await?;
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, 0);
    let left = TempDir::new()?;
    copy_directory(&node.dir.path().join("data"), &left.path().join("data"))?;
    Ok(left)
}

// D3: a start that waits for the store reports that, and does not count as one that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_how_far_its_start_is_and_what_it_waits_for() -> Result<()> {
    let dir = left().await?;
    let faults = Arc::new(Faults::default());
    faults.fill_below(Some(dir.path().join("data").join("objects")));
    let address = format!("127.0.0.1:{}", free_port()?);
    let settings = [("highwater.admin.listener", address.as_str())];
    let starting = Box::pin(TestNode::start_with_faults(dir, &settings, &faults));
    let looking = async {
        let told = loop {
            match http_get(&address, "/health/ready").await {
                Ok((status, told)) if told.contains("storage full") => {
                    assert_eq!(status, 503, "{told}");
                    break told;
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "starting",
                "metadata: ok",
                "write-ahead log: ok",
                "object store: ok",
                "registration: ok"
            ]
        );
        let recovery = lines[5];
        assert!(
            recovery.starts_with(
                "recovery: 0B of 4KiB of the write-ahead log uploaded, 0 batches; every"
            ),
            "{recovery}"
        );
        assert_eq!(lines[6..], ["partitions: waiting"]);
        assert_eq!(http_get(&address, "/health/live").await?.0, 200);
        let (status, metrics) = http_get(&address, "/metrics").await?;
        assert_eq!(status, 200);
        assert!(metrics.contains("highwater_build_info"), "{metrics}");
        assert_eq!(http_get(&address, "/metrics/detail").await?.0, 503);
        faults.fill_below(None);
        anyhow::Ok(())
    };
    let both = async { tokio::join!(starting, looking) };
    let both = tokio::time::timeout(Duration::from_secs(50), Box::pin(both));
    let (node, looked) = both.await?;
    looked?;
    let node = node?;
    let (status, told) = http_get(&address, "/health/ready").await?;
    assert_eq!(
        (status, told.lines().next()),
        (200, Some("ready")),
        "{told}"
    );
    drop(node.stop().await?);
    Ok(())
}
