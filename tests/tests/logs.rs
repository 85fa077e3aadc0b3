//! Log lines about a node's failures. The test is a process of its own, because the log belongs to the process.

use std::sync::Arc;

use anyhow::Result;
use highwater_broker::node::Machine;
use highwater_client::find_coordinator;
use highwater_protocol::messages::HeartbeatRequest;
use highwater_tests::{LogLines, Panicking, TestNode};

const GROUP: &str = "a\ngroup";

async fn join(node: &TestNode) -> Result<()> {
    let mut client = node.client().await?;
    let mut request = highwater_tests::join(GROUP);
    let mut joined = client.call(&request, 5).await?;
    // The coordinator may be loading, and assigns an id first.
    while joined.error_code != 0 {
        request.member_id = joined.member_id;
        joined = client.call(&request, 5).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_groups_recovery_faults_and_the_end_are_logged() -> Result<()> {
    let lines = LogLines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .init();
    let settings = [("offsets.topic.num.partitions", "1")];
    let node = TestNode::start(&settings).await?;
    node.create_topic("t", 3, &[]).await?;
    let mut client = node.client().await?;
    client.call(&find_coordinator(GROUP), 4).await?;
    join(&node).await?;
    node.delete_topic("t").await?;
    let dir = node.stop().await?;
    let machine = Machine {
        authorizer: Arc::new(Panicking),
        ..Machine::real()
    };
    let node = TestNode::start_in(dir, &settings, machine).await?;
    let heartbeat = HeartbeatRequest {
        group_id: "broken".into(),
        ..Default::default()
    };
    let mut client = node.client().await?;
    client.send(&heartbeat, 4).await?;
    assert!(client.is_closed().await);
    let text = lines.text();
    for line in [
        "topic created topic=t partitions=3",
        "topic created topic=__consumer_offsets partitions=1",
        "group rebalanced group_id=\"a\\ngroup\" generation=1 members=1",
        "topic deleted topic=t",
        "write-ahead log recovered batches=0",
        "stopped",
        "request panicked: its connection is closed",
        "api=\"Heartbeat\" api_version=4",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    Ok(())
}
