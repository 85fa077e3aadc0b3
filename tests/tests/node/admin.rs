//! Lines 6 to 9 of docs/KAFKA-BEHAVIOUR.md: metadata, creating topics, deleting records.

use anyhow::Result;
use highwater_client::Connection;
use highwater_protocol::messages::create_topics_request::CreatableTopic;
use highwater_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use highwater_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use highwater_protocol::messages::metadata_request::MetadataRequestTopic;
use highwater_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::TestNode;
use tokio::task::JoinSet;

use super::compression::alter;
use super::{T0, batch};

async fn create(
    client: &mut Connection,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<i16> {
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        validate_only,
    };
    Ok(client.call(&request, 7).await?.topics[0].error_code)
}

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: StrBytes::from(name),
        num_partitions,
        replication_factor,
        ..Default::default()
    }
}

// KAFKA-BEHAVIOUR 6, 7
#[tokio::test(flavor = "multi_thread")]
async fn metadata_null_is_all_and_empty_is_none() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 3, &[]).await?;
    let mut client = node.client().await?;
    let all = highwater_client::describe_all_topics();
    let none = MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    };
    for version in 1..=13 {
        let answer = client.call(&all, version).await?;
        assert_eq!(answer.topics.len(), 1, "version {version}");
        assert_eq!(answer.topics[0].partitions.len(), 3);
        assert!(
            answer
                .brokers
                .iter()
                .any(|broker| broker.node_id == answer.controller_id),
            "6: the controller is a broker"
        );
        let answer = client.call(&none, version).await?;
        assert_eq!(answer.topics.len(), 0, "version {version}");
    }
    let answer = client.call(&none, 0).await?;
    assert_eq!(answer.topics.len(), 1, "version 0: empty is all");
    Ok(())
}

// KAFKA-BEHAVIOUR 7
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_on_first_use_where_that_is_allowed() -> Result<()> {
    let node = TestNode::start(&[("num.partitions", "2")]).await?;
    let mut client = node.client().await?;
    let ask = |name: &str, allow| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(StrBytes::from(name)),
            ..Default::default()
        }]),
        allow_auto_topic_creation: allow,
        ..Default::default()
    };
    let answer = client.call(&ask("auto", false), 12).await?;
    assert_eq!(
        answer.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let answer = client.call(&ask("auto", true), 12).await?;
    assert_eq!(answer.topics[0].error_code, 0);
    assert_eq!(answer.topics[0].partitions.len(), 2);
    assert!(
        answer.topics[0]
            .partitions
            .iter()
            .all(|partition| partition.leader_id == 1)
    );
    let answer = client.call(&ask("no/such", true), 12).await?;
    assert_eq!(
        answer.topics[0].error_code,
        ErrorCode::InvalidTopicException.code()
    );
    Ok(())
}

// KAFKA-BEHAVIOUR 8
#[tokio::test(flavor = "multi_thread")]
async fn create_topics_checks_everything_also_when_it_only_validates() -> Result<()> {
    let node = TestNode::start(&[("num.partitions", "4")]).await?;
    let mut client = node.client().await?;
    for validate_only in [true, false] {
        for (asked, error) in [
            (topic("bad name", 1, 1), ErrorCode::InvalidTopicException),
            (topic("t", 0, 1), ErrorCode::InvalidPartitions),
            (topic("t", 1, 0), ErrorCode::InvalidReplicationFactor),
            (topic("t", 1, 2), ErrorCode::InvalidReplicationFactor),
        ] {
            let code = create(&mut client, asked.clone(), validate_only).await?;
            assert_eq!(code, error.code(), "{asked:?}");
        }
    }
    assert_eq!(create(&mut client, topic("t", -1, -1), true).await?, 0);
    assert_eq!(create(&mut client, topic("t", -1, -1), false).await?, 0);
    let again = create(&mut client, topic("t", -1, -1), true).await?;
    assert_eq!(again, ErrorCode::TopicAlreadyExists.code());
    let answer = client.call(&MetadataRequest::default(), 12).await?;
    assert_eq!(answer.topics.len(), 0, "empty is none");
    Ok(())
}

pub(super) async fn delete_records(
    client: &mut Connection,
    name: &str,
    offset: i64,
) -> Result<(i16, i64)> {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: StrBytes::from(name),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    };
    let answer = client.call(&request, 2).await?;
    let partition = &answer.topics[0].partitions[0];
    Ok((partition.error_code, partition.low_watermark))
}

// KAFKA-BEHAVIOUR 9
#[tokio::test(flavor = "multi_thread")]
async fn delete_records_moves_the_start_and_the_start_survives() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    node.create_topic("kept", 1, &[("cleanup.policy", "compact")])
        .await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(10, T0)).await?;
    client.produce("t", 0, batch(10, T0)).await?;
    assert_eq!(delete_records(&mut client, "t", 13).await?, (0, 13));
    let (code, low) = delete_records(&mut client, "t", 5).await?;
    assert_eq!((code, low), (0, 13), "it never goes back");
    let (code, _) = delete_records(&mut client, "t", 21).await?;
    assert_eq!(code, ErrorCode::OffsetOutOfRange.code());
    let (code, _) = delete_records(&mut client, "kept", 0).await?;
    assert_eq!(code, ErrorCode::PolicyViolation.code());
    let dir = node.stop().await?;
    let machine = highwater_broker::node::Machine::real();
    let node = TestNode::start_in(dir, &[], machine).await?;
    let mut client = node.client().await?;
    let (code, records) = highwater_tests::read(&mut client, "t", 13).await?;
    assert_eq!(code, 0);
    assert!(!records.is_empty());
    let (code, _) = highwater_tests::read(&mut client, "t", 12).await?;
    assert_eq!(code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(
        delete_records(&mut client, "t", -1).await?,
        (0, 20),
        "-1 is the high watermark"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_topic_partitions_goes_on_from_its_cursor() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    for name in ["a", "b", "c"] {
        node.create_topic(name, 3, &[]).await?;
    }
    let mut client = node.client().await?;
    let mut request = DescribeTopicPartitionsRequest {
        response_partition_limit: 4,
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let answer = client.call(&request, 0).await?;
        for topic in &answer.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            assert!(
                topic.error_code == 0 && !topic.partitions.is_empty(),
                "{topic:?}"
            );
            seen.extend(
                topic
                    .partitions
                    .iter()
                    .map(|one| (name.to_owned(), one.partition_index)),
            );
        }
        let Some(next) = answer.next_cursor else {
            break;
        };
        request.cursor = Some(Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
        });
    }
    let all = ["a", "b", "c"]
        .iter()
        .flat_map(|name| (0..3).map(|index| ((*name).to_owned(), index)));
    assert_eq!(seen, all.collect::<Vec<_>>());
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest {
            name: "none".into(),
        }],
        response_partition_limit: 10,
        ..Default::default()
    };
    let answer = client.call(&request, 0).await?;
    assert_eq!(
        answer.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_configurations_here_is_told_by_its_name() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    let unsupported = ErrorCode::UnsupportedVersion.code();
    for (kind, word) in [
        (8, "loggers"),
        (16, "clients"),
        (32, "Groups have no configurations"),
    ] {
        let describe = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: kind,
                resource_name: "1".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let told = client.call(&describe, 4).await?.results.remove(0);
        let alter = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: kind,
                resource_name: "1".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let altered = client.call(&alter, 1).await?.responses.remove(0);
        for (code, message) in [
            (told.error_code, told.error_message),
            (altered.error_code, altered.error_message),
        ] {
            assert_eq!(code, unsupported, "{kind}");
            assert!(message.unwrap_or_default().contains(word), "{kind}");
        }
    }
    Ok(())
}

// Each change is decided after the others' changes, so none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_topics_configs_at_once_all_stand() -> Result<()> {
    const CHANGES: [(&str, &str); 6] = [
        ("retention.ms", "100000"),
        ("retention.bytes", "100001"),
        ("segment.bytes", "2000000"),
        ("segment.ms", "100002"),
        ("max.message.bytes", "100003"),
        ("delete.retention.ms", "100004"),
    ];
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut altering = JoinSet::new();
    for (name, value) in CHANGES {
        let mut client = node.client().await?;
        altering.spawn(async move { alter(&mut client, "t", name, value).await });
    }
    for done in altering.join_all().await {
        done?;
    }
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let answer = node.client().await?.call(&request, 4).await?;
    for (name, value) in CHANGES {
        let mut configs = answer.results[0].configs.iter();
        let config = configs.find(|config| &*config.name == name);
        let found = config.and_then(|config| config.value.as_deref());
        assert_eq!(found, Some(value), "{name}");
    }
    Ok(())
}
