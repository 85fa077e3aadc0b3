//! Lines 23 to 25 of docs/KAFKA-BEHAVIOUR.md: joining, committing, finding a coordinator.

use anyhow::Result;
use highwater_client::Connection;
use highwater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use highwater_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::{TestNode, find_coordinator};

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        member_id: StrBytes::from(member),
        ..highwater_tests::join("g")
    }
}

fn commit(metadata: &str, generation: i32, member: &str) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation,
        member_id: StrBytes::from(member),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 7,
                committed_leader_epoch: 2,
                committed_metadata: Some(StrBytes::from(metadata)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn committed(
    client: &mut Connection,
    metadata: &str,
    generation: i32,
    member: &str,
) -> Result<i16> {
    let answer = client
        .call(&commit(metadata, generation, member), 8)
        .await?;
    Ok(answer.topics[0].partitions[0].error_code)
}

// KAFKA-BEHAVIOUR 23
#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_id_comes_again_and_a_static_one_not_at_all() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let first = client.call(&join(""), 9).await?;
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired.code());
    assert!(first.member_id.starts_with("test-"), "{}", first.member_id);
    let joined = client.call(&join(&first.member_id), 9).await?;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader, first.member_id);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    let older = client.call(&join(""), 3).await?;
    // Up to version 3 the answer contains the new id. The group rebalances for this member, so the other is removed by
    // then.
    assert_eq!(older.error_code, 0);
    assert_ne!(older.member_id, first.member_id);
    let mut fixed = join("");
    fixed.group_instance_id = Some("one".into());
    let answer = client.call(&fixed, 9).await?;
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
    Ok(())
}

// KAFKA-BEHAVIOUR 24
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn offsets_are_committed_by_the_rules_and_survive() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    assert_eq!(
        committed(&mut client, "m", -1, "").await?,
        0,
        "nobody is in it"
    );
    assert_eq!(
        committed(&mut client, &"m".repeat(4097), -1, "").await?,
        ErrorCode::OffsetMetadataTooLarge.code()
    );
    let id = client.call(&join(""), 9).await?.member_id;
    let generation = client.call(&join(&id), 9).await?.generation_id;
    assert_eq!(
        committed(&mut client, "m", generation, &id).await?,
        ErrorCode::RebalanceInProgress.code(),
        "the assignment is not there yet"
    );
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        ..Default::default()
    };
    assert_eq!(client.call(&sync, 5).await?.error_code, 0);
    assert_eq!(
        committed(&mut client, "m", -1, "").await?,
        ErrorCode::UnknownMemberId.code()
    );
    assert_eq!(
        committed(&mut client, "m", 99, &id).await?,
        ErrorCode::IllegalGeneration.code()
    );
    assert_eq!(committed(&mut client, "m", generation, &id).await?, 0);
    let dir = node.stop().await?;
    let machine = highwater_broker::node::Machine::real();
    let node = TestNode::start_in(dir, &[], machine).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let beat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: id,
        ..Default::default()
    };
    assert_eq!(
        client.call(&beat, 4).await?.error_code,
        0,
        "its member is still in it"
    );
    let group = |topics| OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics,
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.call(&group(None), 9).await?;
    let found = &answer.groups[0].topics[0].partitions[0];
    assert_eq!(
        (found.committed_offset, found.committed_leader_epoch),
        (7, 2)
    );
    assert_eq!(found.metadata.as_deref(), Some("m"));
    let unknown = OffsetFetchRequestTopics {
        name: "other".into(),
        partition_indexes: vec![3],
        ..Default::default()
    };
    let answer = client.call(&group(Some(vec![unknown])), 9).await?;
    let none = &answer.groups[0].topics[0].partitions[0];
    assert_eq!(
        (
            none.committed_offset,
            none.committed_leader_epoch,
            none.error_code
        ),
        (-1, -1, 0)
    );
    assert_eq!(none.metadata.as_deref(), Some(""));
    Ok(())
}

// KAFKA-BEHAVIOUR 25
#[tokio::test(flavor = "multi_thread")]
async fn the_first_search_creates_the_internal_topic() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let all = highwater_client::describe_all_topics();
    let answer = client.call(&all, 12).await?;
    assert_eq!(answer.topics[0].name.as_deref(), Some("__consumer_offsets"));
    assert!(answer.topics[0].is_internal);
    assert_eq!(answer.topics[0].partitions.len(), 50);
    let describe = DescribeGroupsRequest {
        groups: vec!["nobody".into()],
        ..Default::default()
    };
    find_coordinator(&mut client, "nobody").await?;
    let answer = client.call(&describe, 5).await?;
    assert_eq!(
        (answer.groups[0].error_code, &*answer.groups[0].group_state),
        (0, "Dead")
    );
    let answer = client.call(&describe, 6).await?;
    assert_eq!(
        answer.groups[0].error_code,
        ErrorCode::GroupIdNotFound.code()
    );
    Ok(())
}
