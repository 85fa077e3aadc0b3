//! In which spans a node logs. A process of its own: the log is the process's.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use highwater_protocol::records::BatchBuilder;
use highwater_tests::TestNode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_uploads_and_background_tasks_have_spans() -> Result<()> {
    let lines = Lines::default();
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
    let mut batch = BatchBuilder::default();
    batch.push(0, None, Some(b"value"));
    let produced = client.produce("t", 0, batch.build()?).await?;
    assert_eq!(produced.error_code, 0);
    // uploads what was produced
    node.stop().await?;
    let kept = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&kept);
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
