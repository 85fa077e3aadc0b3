//! What an operator asks a cluster for: preferred leaders, reassignments, drained and unregistered brokers (rules C1, E4).

use anyhow::{Context, Result, ensure};
use highwater_broker::config::Config;
use highwater_broker::duties::{Duties, Duty};
use highwater_broker::node::Machine;
use highwater_client::{create_topics, new_topic};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use highwater_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeLogDirsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    MetadataRequestTopic, UnregisterBrokerRequest, alter_partition_reassignments_request,
    elect_leaders_request, incremental_alter_configs_request,
};
use highwater_tests::{Cluster, T0, batch, produce_request, until};

/// The balancer does nothing by itself.
const STILL: [(&str, &str); 1] = [("auto.leader.rebalance.enable", "false")];

/// Creates the topic "t" with these replicas of each partition.
async fn create(cluster: &Cluster, partitions: &[&[i32]]) -> Result<()> {
    let assignments =
        (0..)
            .zip(partitions)
            .map(|(partition_index, replicas)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: replicas.to_vec(),
            });
    let mut topic = new_topic("t", -1, &[]);
    topic.replication_factor = -1;
    topic.assignments = assignments.collect();
    let request = create_topics(vec![topic]);
    let created = cluster.client(2).await?.call(&request, 7).await?;
    ensure!(created.topics[0].error_code == 0, "{created:?}");
    Ok(())
}

/// The leader, the replicas and the in-sync replicas of each partition of "t", as a broker sees them.
async fn told(cluster: &Cluster, by: i32) -> Result<Vec<(i32, Vec<i32>, Vec<i32>)>> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("t".into()),
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    };
    let answer = cluster.client(by).await?.call(&request, 9).await?;
    let mut partitions = answer.topics[0].partitions.clone();
    partitions.sort_by_key(|partition| partition.partition_index);
    let partitions = partitions.into_iter();
    Ok(partitions
        .map(|one| (one.leader_id, one.replica_nodes, one.isr_nodes))
        .collect())
}

/// Asks for a list of replicas of partition 0, or cancels a reassignment.
async fn reassign(cluster: &Cluster, replicas: Option<&[i32]>) -> Result<i16> {
    let request = AlterPartitionReassignmentsRequest {
        topics: vec![alter_partition_reassignments_request::ReassignableTopic {
            name: "t".into(),
            partitions: vec![
                alter_partition_reassignments_request::ReassignablePartition {
                    partition_index: 0,
                    replicas: replicas.map(<[i32]>::to_vec),
                },
            ],
        }],
        ..Default::default()
    };
    let answer = cluster.client(2).await?.call(&request, 1).await?;
    Ok(answer.responses[0].partitions[0].error_code)
}

/// The error codes of an election of the preferred leaders; of partition 0, or of all that need one.
async fn elect(cluster: &Cluster, of_all: bool) -> Result<Vec<i16>> {
    let one = elect_leaders_request::TopicPartitions {
        topic: "t".into(),
        partitions: vec![0],
    };
    let request = ElectLeadersRequest {
        topic_partitions: (!of_all).then(|| vec![one]),
        ..Default::default()
    };
    let answer = cluster.client(2).await?.call(&request, 2).await?;
    ensure!(answer.error_code == 0, "{answer:?}");
    let results = answer.replica_election_results.into_iter();
    let results = results.flat_map(|topic| topic.partition_result);
    Ok(results.map(|result| result.error_code).collect())
}

/// Waits until a broker has learnt that it leads partition 0, and takes records.
async fn takes_records(cluster: &Cluster, by: i32) -> Result<()> {
    until("the leader takes records", async || {
        let request = produce_request("t", 0, batch(1, T0), -1);
        let answer = cluster.client(by).await?.call(&request, 12).await?;
        Ok(answer.responses[0].partition_responses[0].error_code == 0)
    })
    .await
}

// KIP-455, KAFKA-BEHAVIOUR 27
#[tokio::test(flavor = "multi_thread")]
async fn a_reassigned_partition_is_led_from_its_new_list() -> Result<()> {
    let cluster = Cluster::start(3, &STILL).await?;
    create(&cluster, &[&[1, 2]]).await?;
    let none = ErrorCode::NoReassignmentInProgress.code();
    ensure!(reassign(&cluster, None).await? == none);
    takes_records(&cluster, 1).await?;
    // the leader stays while it is in the list
    ensure!(reassign(&cluster, Some(&[2, 1, 3])).await? == 0);
    ensure!(told(&cluster, 2).await? == [(1, vec![2, 1, 3], vec![2, 1, 3])]);
    ensure!(reassign(&cluster, Some(&[3, 2])).await? == 0);
    until("the reassignment ends", async || {
        let request = ListPartitionReassignmentsRequest::default();
        let listed = cluster.client(2).await?.call(&request, 0).await?;
        let now = told(&cluster, 2).await?;
        let (leader, replicas, in_sync) = now.first().context("there is one partition")?;
        ensure!(replicas.contains(leader) && in_sync.contains(leader));
        Ok(listed.topics.is_empty() && now == [(3, vec![3, 2], vec![3, 2])])
    })
    .await?;
    takes_records(&cluster, 3).await?;
    cluster.stop().await
}

// KIP-460, KAFKA-BEHAVIOUR 28
#[tokio::test(flavor = "multi_thread")]
async fn an_election_is_answered_once_the_preferred_leader_leads() -> Result<()> {
    let cluster = Cluster::start(3, &STILL).await?;
    create(&cluster, &[&[1, 2], &[3, 1]]).await?;
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    ensure!(elect(&cluster, false).await? == [not_needed]);
    ensure!(elect(&cluster, true).await?.is_empty());
    ensure!(reassign(&cluster, Some(&[2, 1])).await? == 0);
    // the order alone changes, so that nothing is under way
    ensure!(reassign(&cluster, None).await? == ErrorCode::NoReassignmentInProgress.code());
    ensure!(elect(&cluster, true).await? == [0]);
    // this is asked of the broker that answered
    ensure!(told(&cluster, 2).await?[0].0 == 2);
    cluster.stop().await
}

/// What `highwater cordon` and the like do.
async fn set_duty(cluster: &Cluster, node: i32, duty: Duty) -> Result<Duties> {
    let controllers = cluster.controllers.addresses();
    let addresses: Vec<String> = controllers.iter().map(ToString::to_string).collect();
    let settings = [
        ("process.roles", "broker".to_owned()),
        ("node.id", "9".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("controller.quorum.bootstrap.servers", addresses.join(",")),
        ("highwater.object.storage", "memory:".to_owned()),
        ("highwater.wal", "object".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let config = Config::load(None, [], &settings)?;
    let duties = Duties::open(&config, &Machine::real(), node).await?;
    duties.set(duty).await?;
    Ok(duties)
}

// KIP-1066, KAFKA-BEHAVIOUR 29
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_broker_leads_nothing_until_it_is_uncordoned_and_may_then_be_unregistered()
-> Result<()> {
    let mut cluster = Cluster::start(3, &STILL).await?;
    create(&cluster, &[&[1, 2], &[1, 3], &[2, 1]]).await?;
    let duties = set_duty(&cluster, 1, Duty::Draining).await?;
    until("it leads nothing", async || Ok(duties.draining().led == 0)).await?;
    duties.close().await?;
    until("the others lead", async || {
        let now = told(&cluster, 2).await?;
        Ok(now.iter().map(|one| one.0).eq([2, 3, 2]))
    })
    .await?;
    // its directory is told as cordoned
    until("it tells that it is cordoned", async || {
        let request = DescribeLogDirsRequest::default();
        let told = cluster.client(1).await?.call(&request, 5).await?;
        Ok(told.results.iter().all(|one| one.is_cordoned))
    })
    .await?;
    // it isn't elected, and gets no replicas of a new topic
    let not_available = ErrorCode::PreferredLeaderNotAvailable.code();
    ensure!(elect(&cluster, false).await? == [not_available]);
    let mut new = new_topic("u", 2, &[]);
    new.replication_factor = 3;
    let mut client = cluster.client(2).await?;
    let refused = client.call(&create_topics(vec![new.clone()]), 7).await?;
    let factor = ErrorCode::InvalidReplicationFactor.code();
    ensure!(refused.topics[0].error_code == factor, "{refused:?}");
    set_duty(&cluster, 1, Duty::Full).await?.close().await?;
    until("it gets replicas again", async || {
        let created = client.call(&create_topics(vec![new.clone()]), 7).await?;
        Ok(created.topics[0].error_code == 0)
    })
    .await?;
    ensure!(elect(&cluster, false).await? == [0]);

    let unregister = async |cluster: &Cluster, broker_id| {
        let request = UnregisterBrokerRequest { broker_id };
        let answer = cluster.client(2).await?.call(&request, 0).await?;
        anyhow::Ok(ErrorCode::from_code(answer.error_code))
    };
    let runs = Some(ErrorCode::DuplicateBrokerRegistration);
    ensure!(unregister(&cluster, 1).await? == runs);
    cluster.stop_broker(1).await?;
    until("it is unregistered", async || {
        Ok(unregister(&cluster, 1).await? == Some(ErrorCode::None))
    })
    .await?;
    let unknown = Some(ErrorCode::BrokerIdNotRegistered);
    ensure!(unregister(&cluster, 1).await? == unknown);
    cluster.stop().await
}

// KAFKA-BEHAVIOUR 26
#[tokio::test(flavor = "multi_thread")]
async fn throttles_that_no_broker_has_are_deleted_and_cannot_be_set() -> Result<()> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let cluster = Cluster::start(1, &STILL).await?;
    let mut client = cluster.client(1).await?;
    let mut alter = async |name: &str, operation: i8| {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![incremental_alter_configs_request::AlterConfigsResource {
                resource_type: 4,
                resource_name: "1".into(),
                configs: vec![incremental_alter_configs_request::AlterableConfig {
                    name: name.into(),
                    config_operation: operation,
                    value: (operation == SET).then(|| "1".into()),
                }],
            }],
            ..Default::default()
        };
        let answer = client.call(&request, 1).await?;
        anyhow::Ok(answer.responses[0].error_code)
    };
    let throttle = "leader.replication.throttled.rate";
    let refused = ErrorCode::InvalidRequest.code();
    ensure!(alter(throttle, DELETE).await? == 0);
    ensure!(alter(throttle, SET).await? == refused);
    ensure!(alter("log.retention.ms", DELETE).await? == refused);
    cluster.stop().await
}
