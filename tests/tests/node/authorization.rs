//! A principal without permissions gets Kafka's error, at the place where Kafka has it, from every API.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use highwater_broker::api::APIS;
use highwater_broker::auth::{Authorizer, Operation, Principal, Resource};
use highwater_client::Connection;
use highwater_protocol::messages::{
    AddRaftVoterRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse, ApiVersionsRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    ElectLeadersResponse, FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, RemoveRaftVoterRequest, SaslHandshakeRequest,
    SyncGroupRequest, UnregisterBrokerRequest, UpdateFeaturesRequest, alter_configs_request,
    alter_partition_reassignments_request, create_partitions_request, create_topics_request,
    delete_records_request, delete_topics_request, describe_configs_request,
    describe_topic_partitions_request, elect_leaders_request, incremental_alter_configs_request,
    metadata_request, offset_commit_request, offset_fetch_request, offset_for_leader_epoch_request,
};
use highwater_protocol::{ApiKey, ErrorCode, Request};
use highwater_tests::{TestNode, produce_request};
use highwater_types::Uuid;

use super::{T0, batch};

#[derive(Debug)]
struct DenyAll;

impl Authorizer for DenyAll {
    fn allows(&self, _: &Principal, _: Operation, _: Resource<'_>) -> bool {
        false
    }
}

const TOPIC: ErrorCode = ErrorCode::TopicAuthorizationFailed;
const GROUP: ErrorCode = ErrorCode::GroupAuthorizationFailed;
const CLUSTER: ErrorCode = ErrorCode::ClusterAuthorizationFailed;

struct Walk {
    client: Connection,
    seen: BTreeSet<i16>,
}

impl Walk {
    /// Sends a request in the newest version, and checks for an error in its answer.
    async fn ask<R: Request>(
        &mut self,
        request: R,
        find: impl Fn(&R::Response) -> i16,
        expected: ErrorCode,
    ) -> Result<()> {
        let entry = APIS
            .iter()
            .find(|entry| entry.key == R::KEY)
            .expect("it is served");
        // Topics are named by name where there are two ways.
        let version = match R::KEY {
            ApiKey::Produce | ApiKey::Fetch => 12,
            ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
            _ => entry.max,
        };
        let answer = self.client.call(&request, version).await?;
        assert_eq!(
            find(&answer),
            expected.code(),
            "{}: {answer:?}",
            R::KEY.name()
        );
        self.seen.insert(R::KEY as i16);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deny_all_is_told_by_every_api() -> Result<()> {
    let node = TestNode::start_with(Arc::new(DenyAll)).await?;
    let mut walk = Walk {
        client: node.client().await?,
        seen: BTreeSet::new(),
    };
    topics(&mut walk).await?;
    configs(&mut walk).await?;
    groups(&mut walk).await?;
    let add = AddRaftVoterRequest {
        voter_id: 9,
        ..Default::default()
    };
    walk.ask(
        add,
        |answer| answer.error_code,
        ErrorCode::ClusterAuthorizationFailed,
    )
    .await?;
    walk.ask(
        RemoveRaftVoterRequest::default(),
        |answer| answer.error_code,
        ErrorCode::ClusterAuthorizationFailed,
    )
    .await?;
    walk.ask(
        UpdateFeaturesRequest::default(),
        |answer| answer.error_code,
        ErrorCode::ClusterAuthorizationFailed,
    )
    .await?;
    let open = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    walk.ask(open, |answer| answer.error_code, ErrorCode::None)
        .await?;
    // A listener without SASL gives this answer to every client.
    walk.ask(
        SaslHandshakeRequest::default(),
        |answer| answer.error_code,
        ErrorCode::IllegalSaslState,
    )
    .await?;
    let all: BTreeSet<i16> = APIS.iter().map(|entry| entry.key as i16).collect();
    assert_eq!(walk.seen, all, "an API is left out");
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "a list of requests")]
async fn topics(walk: &mut Walk) -> Result<()> {
    walk.ask(
        produce_request("t", 0, batch(1, T0), -1),
        |answer| answer.responses[0].partition_responses[0].error_code,
        TOPIC,
    )
    .await?;
    walk.ask(
        highwater_tests::fetch("t", 0, 100),
        |answer| answer.responses[0].partitions[0].error_code,
        TOPIC,
    )
    .await?;
    walk.ask(
        highwater_tests::latest("t"),
        |answer| answer.topics[0].partitions[0].error_code,
        TOPIC,
    )
    .await?;
    let metadata = MetadataRequest {
        topics: Some(vec![metadata_request::MetadataRequestTopic {
            name: Some("t".into()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    walk.ask(metadata, |answer| answer.topics[0].error_code, TOPIC)
        .await?;
    let partitions = DescribeTopicPartitionsRequest {
        topics: vec![describe_topic_partitions_request::TopicRequest { name: "t".into() }],
        ..Default::default()
    };
    walk.ask(partitions, |answer| answer.topics[0].error_code, TOPIC)
        .await?;
    let create = CreateTopicsRequest {
        topics: vec![create_topics_request::CreatableTopic {
            name: "t".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(create, |answer| answer.topics[0].error_code, TOPIC)
        .await?;
    let delete = DeleteTopicsRequest {
        topics: vec![delete_topics_request::DeleteTopicState {
            name: Some("t".into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(delete, |answer| answer.responses[0].error_code, TOPIC)
        .await?;
    let grow = CreatePartitionsRequest {
        topics: vec![create_partitions_request::CreatePartitionsTopic {
            name: "t".into(),
            count: 2,
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(grow, |answer| answer.results[0].error_code, TOPIC)
        .await?;
    let trim = DeleteRecordsRequest {
        topics: vec![delete_records_request::DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![delete_records_request::DeleteRecordsPartition {
                partition_index: 0,
                offset: 1,
            }],
        }],
        ..Default::default()
    };
    walk.ask(
        trim,
        |answer| answer.topics[0].partitions[0].error_code,
        TOPIC,
    )
    .await?;
    let epochs = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![offset_for_leader_epoch_request::OffsetForLeaderPartition::default()],
        }],
    };
    walk.ask(
        epochs,
        |answer| answer.topics[0].partitions[0].error_code,
        TOPIC,
    )
    .await
}

/// What an operator of the brokers asks for.
async fn operators(walk: &mut Walk) -> Result<()> {
    let elect = ElectLeadersRequest {
        topic_partitions: Some(vec![elect_leaders_request::TopicPartitions {
            topic: "t".into(),
            partitions: vec![0],
        }]),
        ..Default::default()
    };
    let find = |answer: &ElectLeadersResponse| {
        let result = &answer.replica_election_results[0].partition_result[0];
        assert_eq!(result.error_code, answer.error_code);
        answer.error_code
    };
    walk.ask(elect, find, CLUSTER).await?;
    let alter = AlterPartitionReassignmentsRequest {
        topics: vec![alter_partition_reassignments_request::ReassignableTopic {
            name: "t".into(),
            partitions: vec![Default::default()],
        }],
        ..Default::default()
    };
    let find = |answer: &AlterPartitionReassignmentsResponse| {
        let told = &answer.responses[0].partitions[0];
        assert_eq!(told.error_code, answer.error_code);
        answer.error_code
    };
    walk.ask(alter, find, CLUSTER).await?;
    walk.ask(
        ListPartitionReassignmentsRequest::default(),
        |answer| answer.error_code,
        CLUSTER,
    )
    .await?;
    walk.ask(
        DescribeLogDirsRequest::default(),
        |answer| answer.error_code,
        CLUSTER,
    )
    .await?;
    walk.ask(
        UnregisterBrokerRequest::default(),
        |answer| answer.error_code,
        CLUSTER,
    )
    .await
}

async fn configs(walk: &mut Walk) -> Result<()> {
    walk.ask(
        InitProducerIdRequest {
            transactional_id: None,
            ..Default::default()
        },
        |answer| answer.error_code,
        CLUSTER,
    )
    .await?;
    walk.ask(
        DescribeClusterRequest {
            endpoint_type: 1,
            ..Default::default()
        },
        // Every principal may know where the brokers are.
        |answer| answer.error_code,
        ErrorCode::None,
    )
    .await?;
    walk.ask(
        DescribeQuorumRequest::default(),
        |answer| answer.error_code,
        CLUSTER,
    )
    .await?;
    operators(walk).await?;
    let describe = DescribeConfigsRequest {
        resources: vec![describe_configs_request::DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(describe, |answer| answer.results[0].error_code, TOPIC)
        .await?;
    let alter = AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: 4,
            resource_name: "1".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(alter, |answer| answer.responses[0].error_code, CLUSTER)
        .await?;
    let incremental = IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(incremental, |answer| answer.responses[0].error_code, TOPIC)
        .await
}

#[expect(clippy::too_many_lines, reason = "a list of requests")]
async fn groups(walk: &mut Walk) -> Result<()> {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["g".into()],
        ..Default::default()
    };
    walk.ask(find, |answer| answer.coordinators[0].error_code, GROUP)
        .await?;
    walk.ask(
        JoinGroupRequest::default(),
        |answer| answer.error_code,
        GROUP,
    )
    .await?;
    walk.ask(
        SyncGroupRequest::default(),
        |answer| answer.error_code,
        GROUP,
    )
    .await?;
    walk.ask(
        HeartbeatRequest::default(),
        |answer| answer.error_code,
        GROUP,
    )
    .await?;
    walk.ask(
        LeaveGroupRequest::default(),
        |answer| answer.error_code,
        GROUP,
    )
    .await?;
    let commit = OffsetCommitRequest {
        topics: vec![offset_commit_request::OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![offset_commit_request::OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(
        commit,
        |answer| answer.topics[0].partitions[0].error_code,
        GROUP,
    )
    .await?;
    let fetch = OffsetFetchRequest {
        groups: vec![offset_fetch_request::OffsetFetchRequestGroup {
            group_id: "g".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    walk.ask(fetch, |answer| answer.groups[0].error_code, GROUP)
        .await?;
    let describe = DescribeGroupsRequest {
        groups: vec!["g".into()],
        ..Default::default()
    };
    walk.ask(describe, |answer| answer.groups[0].error_code, GROUP)
        .await?;
    let delete = DeleteGroupsRequest {
        groups_names: vec!["g".into()],
    };
    walk.ask(delete, |answer| answer.results[0].error_code, GROUP)
        .await?;
    walk.ask(
        OffsetDeleteRequest::default(),
        |answer| answer.error_code,
        GROUP,
    )
    .await?;
    // A list is no error; it leaves out the groups that the principal may not see.
    walk.ask(
        ListGroupsRequest::default(),
        |answer| answer.error_code,
        ErrorCode::None,
    )
    .await
}

/// An authorizer that allows the creation of topics, and no other operation.
#[derive(Debug)]
struct CreateOnly;

impl Authorizer for CreateOnly {
    fn allows(&self, _: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        !matches!(resource, Resource::Topic(_)) || operation == Operation::Create
    }
}

// KIP-516: a request by topic id is first answered whether the topic exists. Metadata is the exception, and never
// reveals that.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_by_id_is_looked_up_before_it_is_refused() -> Result<()> {
    let node = TestNode::start_with(Arc::new(CreateOnly)).await?;
    let mut client = node.client().await?;
    let create = CreateTopicsRequest {
        topics: vec![create_topics_request::CreatableTopic {
            name: "t".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let created = client.call(&create, 7).await?;
    let there = created.topics[0].topic_id;
    let nowhere = Uuid([7; 16]);
    for (id, expected) in [(there, TOPIC), (nowhere, ErrorCode::UnknownTopicId)] {
        let mut produce = produce_request("", 0, batch(1, T0), -1);
        produce.topic_data[0].topic_id = id;
        let answer = client.call(&produce, 13).await?;
        let produced = answer.responses[0].partition_responses[0].error_code;
        let mut fetch = highwater_tests::fetch("", 0, 100);
        fetch.topics[0].topic_id = id;
        let answer = client.call(&fetch, 13).await?;
        let fetched = answer.responses[0].partitions[0].error_code;
        let commit = OffsetCommitRequest {
            group_id: "g".into(),
            topics: vec![offset_commit_request::OffsetCommitRequestTopic {
                topic_id: id,
                partitions: vec![offset_commit_request::OffsetCommitRequestPartition::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.call(&commit, 10).await?;
        let committed = answer.topics[0].partitions[0].error_code;
        let delete = DeleteTopicsRequest {
            topics: vec![delete_topics_request::DeleteTopicState {
                topic_id: id,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let answer = client.call(&delete, 6).await?;
        let deleted = answer.responses[0].error_code;
        let codes = [produced, fetched, committed, deleted];
        assert_eq!(codes, [expected.code(); 4]);
        let metadata = MetadataRequest {
            topics: Some(vec![metadata_request::MetadataRequestTopic {
                topic_id: id,
                name: None,
            }]),
            ..Default::default()
        };
        let answer = client.call(&metadata, 12).await?;
        let told = answer.topics[0].error_code;
        assert_eq!(told, ErrorCode::UnknownTopicId.code());
    }
    Ok(())
}
