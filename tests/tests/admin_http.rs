//! Health and metrics over HTTP. A process of its own: the recorder of metrics is the process's.

use anyhow::{Context, Result};
use bytes::Bytes;
use highwater_protocol::records::BatchBuilder;
use highwater_tests::TestNode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).context("a status")?.parse()?;
    let body = answer.split_once("\r\n\r\n").context("a body")?.1;
    Ok((status, body.to_owned()))
}

fn batch() -> Result<Bytes> {
    let mut batch = BatchBuilder::default();
    batch.push(1_790_000_000_000, None, Some(b"value"));
    Ok(batch.build()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served_and_every_metric_is_described() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let admin = free.to_string();
    let settings = [("highwater.admin.listener", admin.as_str())];
    let node = TestNode::start(&settings).await?;
    assert_eq!(get(&admin, "/health/live").await?.0, 200);
    assert_eq!(get(&admin, "/health/ready").await?.0, 200);
    assert_eq!(get(&admin, "/nowhere").await?.0, 404);
    node.create_topic("t", 1, &[]).await?;
    node.client().await?.produce("t", 0, batch()?).await?;
    let (status, text) = get(&admin, "/metrics").await?;
    assert_eq!(status, 200);
    let expected = "highwater_broker_requests_total{api=\"Produce\"} 1";
    assert!(text.contains(expected), "{text}");
    // nothing was uploaded yet: what has not happened is a zero, not a gap
    for outcome in ["ok", "failed"] {
        let upload = format!(
            "highwater_object_storage_requests_total{{op=\"put\",class=\"upload\",outcome=\"{outcome}\"}} 0"
        );
        assert!(text.contains(&upload), "{text}");
    }
    let described: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let is_known = described.iter().any(|one| name.starts_with(one));
        assert!(
            is_known && name.starts_with("highwater_"),
            "{name} is not described"
        );
    }
    Ok(())
}
