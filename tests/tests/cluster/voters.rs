//! Controllers are added, removed and replaced while the cluster runs, as Kafka's tool asks for it.

use anyhow::{Context, Result, ensure};
use highwater_client::Connection;
use highwater_protocol::StrBytes;
use highwater_protocol::messages::add_raft_voter_request::Listener;
use highwater_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use highwater_protocol::messages::{
    AddRaftVoterRequest, ApiVersionsRequest, DescribeClusterRequest, DescribeQuorumRequest,
    DescribeQuorumResponse, RemoveRaftVoterRequest,
};
use highwater_tests::{Cluster, until};
use highwater_types::Uuid;

use crate::quorum::create;

const SESSION: [(&str, &str); 1] = [("broker.session.timeout.ms", "6000")];

fn add(id: i32, directory: Uuid, port: u16) -> AddRaftVoterRequest {
    AddRaftVoterRequest {
        cluster_id: None,
        voter_id: id,
        voter_directory_id: directory,
        timeout_ms: 15_000,
        ack_when_committed: true,
        listeners: vec![Listener {
            name: StrBytes::from("CONTROLLER"),
            host: StrBytes::from("127.0.0.1"),
            port,
        }],
    }
}

fn remove(id: i32, directory: Uuid) -> RemoveRaftVoterRequest {
    RemoveRaftVoterRequest {
        cluster_id: None,
        voter_id: id,
        voter_directory_id: directory,
    }
}

async fn describe(client: &mut Connection) -> Result<DescribeQuorumResponse> {
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: StrBytes::from("__cluster_metadata"),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    };
    let answer = client.call(&request, 2).await?;
    ensure!(answer.error_code == 0, "{answer:?}");
    Ok(answer)
}

/// The voters and the controllers without a vote.
async fn members(client: &mut Connection) -> Result<(Vec<i32>, Vec<i32>)> {
    let answer = describe(client).await?;
    let partition = &answer.topics[0].partitions[0];
    let ids = |of: &[highwater_protocol::messages::describe_quorum_response::ReplicaState]| {
        let ids = of.iter().map(|it| it.replica_id);
        ids.filter(|id| *id >= 100).collect::<Vec<_>>()
    };
    Ok((ids(&partition.current_voters), ids(&partition.observers)))
}

/// The active controller and all controllers, as one of them tells them.
async fn controllers(client: &mut Connection) -> Result<(i32, Vec<i32>)> {
    let request = DescribeClusterRequest {
        endpoint_type: 2,
        ..Default::default()
    };
    let described = client.call(&request, 1).await?;
    assert_eq!((described.error_code, described.endpoint_type), (0, 2));
    let ids = described.brokers.iter().map(|node| node.broker_id);
    Ok((described.controller_id, ids.collect()))
}

// KIP-853: a fourth controller joins by the address of one, and is added and removed by a broker and by a controller
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_is_added_and_removed_by_kafkas_requests() -> Result<()> {
    let mut cluster = Cluster::start_with(3, 1, &SESSION).await?;
    let (first, joins) = (cluster.controllers.ids()[0], 103);
    let port = cluster.controllers.join(joins, &[first]).await?;
    let directory = cluster.controllers.directory(joins)?;
    let mut broker = cluster.client(1).await?;
    assert_eq!(
        members(&mut broker).await?,
        (vec![100, 101, 102], vec![joins])
    );

    let refused = |message: &Option<StrBytes>| message.as_deref().map(str::to_owned);
    let other = AddRaftVoterRequest {
        cluster_id: Some(StrBytes::from("another")),
        ..add(joins, directory, port)
    };
    let answer = broker.call(&other, 1).await?;
    assert_eq!(
        answer.error_code,
        104,
        "{:?}",
        refused(&answer.error_message)
    );
    let nowhere = AddRaftVoterRequest {
        listeners: Vec::new(),
        ..add(joins, directory, port)
    };
    assert_eq!(broker.call(&nowhere, 1).await?.error_code, 42);
    let answer = broker.call(&add(joins, directory, port), 1).await?;
    assert_eq!(answer.error_code, 0, "{:?}", refused(&answer.error_message));
    let again = broker.call(&add(joins, directory, port), 0).await?;
    assert_eq!(again.error_code, 126, "{:?}", refused(&again.error_message));
    assert_eq!(
        members(&mut broker).await?,
        (vec![100, 101, 102, joins], vec![])
    );
    let nodes = describe(&mut broker).await?.nodes;
    let told = nodes.iter().find(|node| node.node_id == joins);
    let told = told.context("it is told")?;
    assert_eq!(told.listeners[0].port, port);

    // its own listener serves the same
    let mut controller = cluster.controllers.client(joins).await?;
    let served = controller.call(&ApiVersionsRequest::default(), 0).await?;
    let served: Vec<i16> = served.api_keys.iter().map(|api| api.api_key).collect();
    assert_eq!(served, [18, 55, 57, 60, 80, 81]);
    let (active, ids) = controllers(&mut controller).await?;
    assert!(ids.contains(&joins) && ids.contains(&active), "{ids:?}");
    let unknown = controller.call(&remove(joins, Uuid([7; 16])), 0).await?;
    assert_eq!(
        unknown.error_code,
        127,
        "{:?}",
        refused(&unknown.error_message)
    );
    let answer = controller.call(&remove(joins, directory), 0).await?;
    assert_eq!(answer.error_code, 0, "{:?}", refused(&answer.error_message));
    assert_eq!(
        members(&mut controller).await?,
        (vec![100, 101, 102], vec![joins])
    );
    cluster.stop().await
}

// D2: it comes back as another voter, and the cluster goes on with it alone beside one of the others
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_lost_its_disk_is_replaced_by_kafkas_requests() -> Result<()> {
    let mut cluster = Cluster::start_with(3, 1, &SESSION).await?;
    let lost = cluster.controllers.ids()[1];
    let former = cluster.controllers.directory(lost)?;
    cluster.controllers.kill(lost).await;
    cluster.controllers.lose_disk(lost)?;
    cluster.controllers.start(lost).await?;
    let directory = cluster.controllers.directory(lost)?;
    assert_ne!(former, directory);
    let mut broker = cluster.client(1).await?;
    until("it follows without a vote", async || {
        Ok(members(&mut broker).await?.1 == [lost])
    })
    .await?;
    // KAFKA-BEHAVIOUR 31
    let told = controllers(&mut cluster.controllers.client(lost).await?).await?;
    assert_eq!(told.1, cluster.controllers.ids());
    let answer = broker.call(&remove(lost, former), 0).await?;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let port = cluster.controllers.port(lost);
    let answer = broker.call(&add(lost, directory, port), 1).await?;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    cluster.controllers.kill(100).await;
    create(async || cluster.client(1).await, "t").await?;
    cluster.stop().await
}

// a broker that knows one controller alone learns the others, and follows them when that one is gone
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_learns_the_controllers_that_it_is_not_configured_with() -> Result<()> {
    let mut cluster = Cluster::start_with(3, 0, &SESSION).await?;
    let known = cluster.controllers.ids()[0];
    cluster.start_broker_by(1, &[known]).await?;
    create(async || cluster.client(1).await, "before").await?;
    cluster.controllers.kill(known).await;
    for number in 0..3 {
        create(async || cluster.client(1).await, &format!("after-{number}")).await?;
    }
    until("the broker is not cut off", async || {
        let (voters, _) = members(&mut cluster.client(1).await?).await?;
        Ok(voters.len() == 3)
    })
    .await?;
    cluster.stop().await
}
