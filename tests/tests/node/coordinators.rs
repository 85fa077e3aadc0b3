//! Coordinators under faults: a store that accepts nothing, and internal topics that can't be created or have other
//! settings.

use anyhow::{Result, bail, ensure};
use highwater_client::Connection;
use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::{
    DescribeConfigsRequest, HeartbeatRequest, MetadataRequest, MetadataRequestTopic,
    OffsetFetchRequest, SyncGroupRequest,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::{LogLines, TestNode, commit, find_coordinator, join, until};
use tempfile::TempDir;

use super::damage::listen;
use super::faults;

async fn committed(client: &mut Connection, group: &str, offset: i64) -> Result<i16> {
    let answer = client.call(&commit(group, "t", offset), 7).await?;
    Ok(answer.topics[0].partitions[0].error_code)
}

async fn fetched(client: &mut Connection, group: &str) -> Result<(i16, i64)> {
    let request = OffsetFetchRequest {
        group_id: StrBytes::from(group),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: "t".into(),
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let answer = client.call(&request, 7).await?;
    let offset = answer
        .topics
        .first()
        .map(|topic| topic.partitions[0].committed_offset);
    Ok((answer.error_code, offset.unwrap_or(-1)))
}

/// Commits until memory ends, and returns the last offset that was committed. Produce fills its share of memory and
/// leaves a reserve to coordinators, which has an end too.
async fn fill_reserve(client: &mut Connection) -> Result<i64> {
    let mut last = 0;
    loop {
        match committed(client, "g", last + 1).await? {
            0 => last += 1,
            code if code == ErrorCode::CoordinatorNotAvailable.code() => break,
            code => bail!("{code} after {last} commits"),
        }
        ensure!(last < 100_000, "memory has no end");
    }
    ensure!(last > 10, "the reserve takes {last} commits");
    Ok(last)
}

/// Makes a stable group of one member, and returns the member's heartbeat.
async fn member(client: &mut Connection, group: &str) -> Result<HeartbeatRequest> {
    let joined = client.call(&join(group), 3).await?;
    assert_eq!(joined.error_code, 0);
    let sync = SyncGroupRequest {
        group_id: StrBytes::from(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(client.call(&sync, 3).await?.error_code, 0);
    Ok(HeartbeatRequest {
        group_id: StrBytes::from(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        ..Default::default()
    })
}

// M2, D3
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_stops_neither_heartbeats_nor_reads_of_offsets() -> Result<()> {
    let settings = [
        ("highwater.memory.limit", "64MiB"),
        ("highwater.upload.interval.ms", "100"),
        ("offsets.topic.num.partitions", "1"),
    ];
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let beat = member(&mut client, "members").await?;
    assert_eq!(committed(&mut client, "g", 0).await?, 0);
    faults.fill_below(Some(node.objects()));
    faults::fill(&mut client).await?;
    let last = fill_reserve(&mut client).await?;
    assert_eq!(fetched(&mut client, "g").await?, (0, last));
    assert_eq!(client.call(&beat, 3).await?.error_code, 0);
    faults.fill_below(None);
    let resume = async || Ok(committed(&mut client, "g", 7).await? == 0);
    until("commits resume", resume).await?;
    assert_eq!(fetched(&mut client, "g").await?, (0, 7));
    assert_eq!(client.call(&beat, 3).await?.error_code, 0);
    Ok(())
}

// KAFKA-BEHAVIOUR 24: one batch holds all offsets of a request, or none of them is committed.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_no_batch_holds_are_not_committed() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    assert_eq!(committed(&mut client, "g", 5).await?, 0);
    let mut request = commit("g", "t", 6);
    let mut partition = request.topics[0].partitions[0].clone();
    partition.committed_metadata = Some("m".repeat(4_000).into());
    let codes = [(250, 0), (270, ErrorCode::UnknownServerError.code())];
    for (count, code) in codes {
        partition.committed_offset = count;
        let count = usize::try_from(count)?;
        request.topics[0].partitions = vec![partition.clone(); count];
        let answer = client.call(&request, 7).await?;
        let told = answer.topics[0].partitions.iter();
        assert!(told.clone().all(|told| told.error_code == code), "{count}");
        assert_eq!(told.len(), count);
        assert_eq!(fetched(&mut client, "g").await?, (0, 250));
    }
    Ok(())
}

// M2: while the store is away, commits use up the reserve too, and then writes are refused in time; no other request
// waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_stops_commits_in_time_and_no_heartbeat_or_read() -> Result<()> {
    let settings = [
        ("highwater.memory.limit", "64MiB"),
        ("highwater.upload.interval.ms", "100"),
        ("offsets.topic.num.partitions", "1"),
    ];
    let (node, _faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let beat = member(&mut client, "members").await?;
    let away = faults::Away::begin(&node)?;
    faults::fill_until_late(&mut client, &[1_000_000, 10_000]).await?;
    let last = fill_reserve(&mut client).await?;
    // The next commit finds no memory either, and waits for its deadline. Requests that wait for nothing are answered
    // before.
    let mut other = node.client().await?;
    let others = async {
        for _ in 0..20 {
            assert_eq!(fetched(&mut other, "g").await?, (0, last));
            assert_eq!(other.call(&beat, 3).await?.error_code, 0);
        }
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        answered = others => answered?,
        code = committed(&mut client, "g", last + 1) => bail!("{:?} comes first", code?),
    }
    away.end()?;
    let mut client = node.client().await?;
    let resume = async || Ok(committed(&mut client, "g", 7).await? == 0);
    until("commits resume", resume).await
}

// KAFKA-BEHAVIOUR 24: the empty group id may commit and fetch, as old clients do.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_id_commits_and_a_topic_made_again_has_no_offsets() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    find_coordinator(&mut client, "").await?;
    for group in ["", "g"] {
        assert_eq!(committed(&mut client, group, 42).await?, 0);
        assert_eq!(fetched(&mut client, group).await?, (0, 42));
    }
    node.delete_topic("t").await?;
    node.create_topic("t", 1, &[]).await?;
    for group in ["", "g"] {
        assert_eq!(fetched(&mut client, group).await?, (0, -1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_are_made_by_metadata_as_by_their_coordinators() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    let named = |name: &str| MetadataRequestTopic {
        name: Some(StrBytes::from(name)),
        ..Default::default()
    };
    let names = [
        ("__consumer_offsets", "compact"),
        ("__transaction_state", "compact"),
        ("__share_group_state", "delete"),
    ];
    let mut request = MetadataRequest {
        topics: Some(names.iter().map(|(name, _)| named(name)).collect()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let answer = client.call(&request, 8).await?;
    for (topic, (name, policy)) in answer.topics.iter().zip(names) {
        assert_eq!(topic.name.as_deref(), Some(name));
        let told = (topic.error_code, topic.is_internal, topic.partitions.len());
        assert_eq!(told, (0, true, 50), "{name}");
        let describe = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: 2,
                resource_name: StrBytes::from(name),
                configuration_keys: Some(vec!["cleanup.policy".into()]),
            }],
            ..Default::default()
        };
        let described = client.call(&describe, 4).await?.results.remove(0);
        assert_eq!(
            described.configs[0].value.as_deref(),
            Some(policy),
            "{name}"
        );
    }
    request.topics = Some(vec![named("__cluster_metadata")]);
    let answer = client.call(&request, 8).await?;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(answer.topics[0].error_code, unknown);
    request.topics = None;
    let all = client.call(&request, 8).await?;
    assert_eq!(all.topics.len(), names.len());
    Ok(())
}

// 25
#[tokio::test]
async fn a_replication_factor_that_cannot_be_met_is_told_as_no_coordinator() -> Result<()> {
    let said = LogLines::default();
    let _listening = listen(&said);
    let node = TestNode::start(&[("offsets.topic.replication.factor", "3")]).await?;
    let mut client = node.client().await?;
    let request = highwater_client::find_coordinator("g");
    for _ in 0..3 {
        let found = client.call(&request, 6).await?.coordinators.remove(0);
        assert_eq!(found.error_code, ErrorCode::CoordinatorNotAvailable.code());
        let why = found.error_message.unwrap_or_default();
        assert!(why.contains("replication factor of 3"), "{why}");
    }
    assert_eq!(said.count("groups have no coordinator"), 1);
    Ok(())
}
