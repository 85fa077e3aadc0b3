//! The memory that one request makes a node hold, above all that of its answer (M3).

use anyhow::{Context, Result};
use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use highwater_protocol::messages::{
    DescribeConfigsRequest, DescribeGroupsRequest, FindCoordinatorRequest, OffsetFetchRequest,
};
use highwater_protocol::{Request, StrBytes};
use highwater_tests::TestNode;

fn configs(times: usize) -> DescribeConfigsRequest {
    let broker = DescribeConfigsResource {
        resource_type: 4,
        resource_name: "1".into(),
        configuration_keys: None,
    };
    DescribeConfigsRequest {
        resources: vec![broker; times],
        include_synonyms: true,
        include_documentation: true,
    }
}

fn coordinators(count: usize) -> FindCoordinatorRequest {
    let key = |i: usize| StrBytes::from(format!("group-{i}"));
    FindCoordinatorRequest {
        coordinator_keys: (0..count).map(key).collect(),
        ..Default::default()
    }
}

async fn is_answered<R: Request>(node: &TestNode, request: &R, version: i16) -> Result<bool> {
    let mut client = node.client().await?;
    client.send(request, version).await?;
    Ok(client.receive_raw().await?.is_some())
}

// At a limit of 64 MiB, answers have 2 MiB, of which large ones have 1.5.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_answer_would_take_too_much_memory_closes_its_connection() -> Result<()> {
    let node = TestNode::start(&[
        ("highwater.memory.limit", "64MiB"),
        ("offsets.topic.num.partitions", "1"),
    ])
    .await?;
    let mut healthy = node.client().await?;
    let twice = healthy.call(&configs(2), 4).await?;
    assert_eq!(twice.results.len(), 2, "as Kafka, each as it is asked");
    assert_eq!(twice.results[0], twice.results[1]);
    assert!(is_answered(&node, &configs(30), 4).await?);
    assert!(!is_answered(&node, &configs(1000), 4).await?);
    assert!(is_answered(&node, &coordinators(10_000), 4).await?);
    assert!(!is_answered(&node, &coordinators(30_000), 4).await?);
    assert!(!is_answered(&node, &coordinators(33_000), 4).await?);
    assert_eq!(healthy.call(&configs(2), 4).await?.results.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_named_twice_is_told_of_once() -> Result<()> {
    let node = TestNode::start(&[("offsets.topic.num.partitions", "1")]).await?;
    let mut client = node.client().await?;
    let describe = DescribeGroupsRequest {
        groups: vec!["a".into(), "b".into(), "a".into()],
        ..Default::default()
    };
    let told = client.call(&describe, 5).await?.groups;
    let names: Vec<&str> = told.iter().map(|group| &*group.group_id).collect();
    assert_eq!(names, ["a", "b"]);
    let whole = |name: &str| OffsetFetchRequestGroup {
        group_id: StrBytes::from(name),
        topics: None,
        ..Default::default()
    };
    let fetch = OffsetFetchRequest {
        groups: vec![whole("a"), whole("b"), whole("a")],
        ..Default::default()
    };
    let told = client.call(&fetch, 8).await?.groups;
    let last = told.last().context("groups")?;
    assert_eq!((told.len(), &*last.group_id), (2, "b"));
    Ok(())
}
