//! The spans of a node's log lines. The test is a process of its own, because the log belongs to the process.

use anyhow::Result;
use highwater_tests::{LogLines, T0, TestNode, batch};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

#[tokio::test(flavor = "multi_thread")]
async fn requests_uploads_and_background_tasks_have_spans() -> Result<()> {
    let lines = LogLines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(EnvFilter::new(
            "highwater_broker=debug,highwater_s3stream=debug,highwater_runtime=debug",
        ))
        .with_span_events(FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .init();
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let produced = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(produced.error_code, 0);
    // The stop uploads the produced records.
    node.stop().await?;
    let text = lines.text();
    for span in [
        "request{api=\"Produce\" api_version=12 correlation_id=",
        "upload{object_key=",
        "task{task=Listener}",
        "task{task=Connection}",
    ] {
        assert!(text.contains(span), "{span}: {text}");
    }
    let nested = text.lines().find(|line| line.matches("task{").count() > 1);
    assert_eq!(nested, None, "a task is in no other's span");
    Ok(())
}
