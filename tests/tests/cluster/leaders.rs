//! Clients find the leader of a partition and the coordinator of a group, whichever broker they ask first (KIP-951,
//! KIP-320).

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use highwater_client::{
    Connection, Consumer, Limits, Producer, Topic, create_topics, delete_topic, new_topic,
};
use highwater_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use highwater_protocol::messages::leave_group_request::MemberIdentity;
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use highwater_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use highwater_protocol::messages::{
    CreatePartitionsRequest, DeleteGroupsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, FetchRequest, FetchResponse, HeartbeatRequest,
    IncrementalAlterConfigsRequest, LeaveGroupRequest, MetadataRequest, MetadataResponse,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceResponse,
    SyncGroupRequest,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::{
    Cluster, T0, batch, commit, join, latest, producer_batch, producer_id, until,
};
use highwater_types::Uuid;

use super::served::delete_records;

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();
const FENCED_EPOCH: i16 = ErrorCode::FencedLeaderEpoch.code();
const UNKNOWN_EPOCH: i16 = ErrorCode::UnknownLeaderEpoch.code();
const NOT_COORDINATOR: i16 = ErrorCode::NotCoordinator.code();

/// Brokers that do not stop are not fenced, however busy the machine is.
const NO_SESSION_ENDS: &[(&str, &str)] = &[("broker.session.timeout.ms", "600000")];

async fn metadata(cluster: &Cluster, asked: i32) -> Result<MetadataResponse> {
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    Ok(cluster.client(asked).await?.call(&all, 12).await?)
}

/// The leaders of a topic's partitions with their epochs, and the topic's id.
type Leaders = (Uuid, Vec<(i32, i32)>);

fn leaders_in(metadata: &MetadataResponse, topic: &str) -> Option<Leaders> {
    let mut topics = metadata.topics.iter();
    let topic = topics.find(|found| found.name.as_deref() == Some(topic))?;
    let mut partitions: Vec<_> = topic.partitions.iter().collect();
    partitions.sort_by_key(|one| one.partition_index);
    let leaders = partitions
        .iter()
        .map(|one| (one.leader_id, one.leader_epoch));
    Some((topic.topic_id, leaders.collect()))
}

/// Waits until these brokers lead all partitions of a topic, and know of the same leaders.
async fn agreed(cluster: &Cluster, brokers: &[i32], topic: &str) -> Result<Leaders> {
    let mut agreed = None;
    until("all brokers know the same leaders", async || {
        let mut answers = Vec::new();
        for asked in brokers {
            answers.push(leaders_in(&metadata(cluster, *asked).await?, topic));
        }
        let same = answers.windows(2).all(|pair| pair[0] == pair[1]);
        agreed = answers.swap_remove(0);
        let is_led =
            |(_, leaders): &Leaders| leaders.iter().all(|(leader, _)| brokers.contains(leader));
        Ok(same && agreed.as_ref().is_some_and(is_led))
    })
    .await?;
    agreed.context("the topic exists")
}

/// The answer of a partition: its error, the leader it names with the epoch, and the endpoints.
type Told = (i16, (i32, i32), Vec<(i32, String, i32)>);

fn endpoint(cluster: &Cluster, broker: i32) -> (i32, String, i32) {
    let address = cluster.address(broker);
    (broker, address.ip().to_string(), address.port().into())
}

fn told_to_producer(answer: &ProduceResponse) -> Told {
    let told = &answer.responses[0].partition_responses[0];
    let leader = (
        told.current_leader.leader_id,
        told.current_leader.leader_epoch,
    );
    let endpoints = answer.node_endpoints.iter();
    let endpoints = endpoints.map(|one| (one.node_id, one.host.to_string(), one.port));
    (told.error_code, leader, endpoints.collect())
}

fn told_to_consumer(answer: &FetchResponse) -> Told {
    let told = &answer.responses[0].partitions[0];
    let leader = (
        told.current_leader.leader_id,
        told.current_leader.leader_epoch,
    );
    let endpoints = answer.node_endpoints.iter();
    let endpoints = endpoints.map(|one| (one.node_id, one.host.to_string(), one.port));
    (told.error_code, leader, endpoints.collect())
}

async fn produce(client: &mut Connection, topic: Uuid, partition: i32) -> Result<ProduceResponse> {
    let topic = Topic::from(topic);
    let request = highwater_client::produce(&topic, [(partition, batch(1, T0))], -1);
    Ok(client.call(&request, topic.produce_version()).await?)
}

/// Fetches from offset 0 of a partition, of which the client knows a leader epoch; -1 for none.
async fn fetch(
    client: &mut Connection,
    topic: Uuid,
    partition: i32,
    epoch: i32,
) -> Result<FetchResponse> {
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id: topic,
            partitions: vec![FetchPartition {
                partition,
                current_leader_epoch: epoch,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    Ok(client.call(&request, 17).await?)
}

async fn list(client: &mut Connection, topic: &str, partition: i32, epoch: i32) -> Result<i16> {
    let mut request = latest(topic);
    request.topics[0].partitions[0].partition_index = partition;
    request.topics[0].partitions[0].current_leader_epoch = epoch;
    let answer = client.call(&request, 7).await?;
    Ok(answer.topics[0].partitions[0].error_code)
}

async fn epoch_end(
    client: &mut Connection,
    topic: &str,
    partition: i32,
    epoch: i32,
) -> Result<i16> {
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: StrBytes::from(topic),
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch: epoch,
                leader_epoch: 0,
            }],
        }],
    };
    let answer = client.call(&request, 4).await?;
    Ok(answer.topics[0].partitions[0].error_code)
}

// KIP-951, KIP-320: as in `Partition.getLocalLog`, the epoch that a client knows is compared first.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_lead_names_the_leader_and_compares_epochs_first() -> Result<()> {
    let mut cluster = Cluster::start(2, NO_SESSION_ENDS).await?;
    cluster.create_topic(1, "t", 2).await?;
    agreed(&cluster, &[1, 2], "t").await?;
    // after this broker 1 leads both partitions, one of them under a later epoch
    cluster.stop_broker(2).await?;
    agreed(&cluster, &[1], "t").await?;
    cluster.start_broker(2).await?;
    let (id, leaders) = agreed(&cluster, &[1, 2], "t").await?;
    ensure!(leaders == [(1, 0), (1, 1)], "{leaders:?}");

    let mut leader = cluster.client(1).await?;
    let mut other = cluster.client(2).await?;
    for (partition, current) in [(0, 0), (1, 1)] {
        let here = |code: i16| (code, (1, current), vec![endpoint(&cluster, 1)]);
        let told = told_to_producer(&produce(&mut other, id, partition).await?);
        assert_eq!(told, here(NOT_LEADER));
        for known in [-1, current] {
            let told = told_to_consumer(&fetch(&mut other, id, partition, known).await?);
            assert_eq!(told, here(NOT_LEADER), "{known}");
        }
        let (code, no_leader, no_endpoints) = (UNKNOWN_EPOCH, (-1, -1), Vec::new());
        let told = told_to_consumer(&fetch(&mut other, id, partition, current + 1).await?);
        assert_eq!(told, (code, no_leader, no_endpoints));
    }
    // an older epoch is fenced at both brokers, and the leader is named
    for client in [&mut leader, &mut other] {
        let told = told_to_consumer(&fetch(client, id, 1, 0).await?);
        assert_eq!(told, (FENCED_EPOCH, (1, 1), vec![endpoint(&cluster, 1)]));
    }
    for (known, here, there) in [
        (-1, 0, NOT_LEADER),
        (0, FENCED_EPOCH, FENCED_EPOCH),
        (1, 0, NOT_LEADER),
        (2, UNKNOWN_EPOCH, UNKNOWN_EPOCH),
    ] {
        assert_eq!(list(&mut leader, "t", 1, known).await?, here, "{known}");
        assert_eq!(list(&mut other, "t", 1, known).await?, there, "{known}");
        assert_eq!(
            epoch_end(&mut leader, "t", 1, known).await?,
            here,
            "{known}"
        );
        assert_eq!(
            epoch_end(&mut other, "t", 1, known).await?,
            there,
            "{known}"
        );
    }
    // what does not exist is told as such by every broker
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(list(&mut other, "t", 2, -1).await?, unknown);
    assert_eq!(epoch_end(&mut other, "t", 2, -1).await?, unknown);

    let written = told_to_producer(&produce(&mut leader, id, 0).await?);
    assert_eq!(written, (0, (-1, -1), Vec::new()));
    assert_eq!(delete_records(&mut other, 0, 1).await?, (NOT_LEADER, -1));
    assert_eq!(delete_records(&mut leader, 0, 1).await?, (0, 1));
    cluster.stop().await
}

/// The coordinator of a group that a broker names, once it names one.
async fn coordinator(cluster: &Cluster, asked: i32, group: &str) -> Result<(i32, String, i32)> {
    let mut found = None;
    until("a broker names the coordinator", async || {
        let request = highwater_client::find_coordinator(group);
        let answer = cluster.client(asked).await?.call(&request, 6).await?;
        let told = answer.coordinators[0].clone();
        found = Some((told.node_id, told.host.to_string(), told.port));
        Ok(told.error_code == 0)
    })
    .await?;
    found.context("it is found")
}

/// The errors of all calls that name a group, by the API's name.
async fn group_errors(client: &mut Connection, group: &str) -> Result<Vec<(&'static str, i16)>> {
    let id = StrBytes::from(group);
    let member = StrBytes::from("member");
    let heartbeat = HeartbeatRequest {
        group_id: id.clone(),
        member_id: member.clone(),
        ..Default::default()
    };
    let sync = SyncGroupRequest {
        group_id: id.clone(),
        member_id: member.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        ..Default::default()
    };
    let leave = LeaveGroupRequest {
        group_id: id.clone(),
        members: vec![MemberIdentity {
            member_id: member,
            ..Default::default()
        }],
        ..Default::default()
    };
    let describe = DescribeGroupsRequest {
        groups: vec![id.clone()],
        ..Default::default()
    };
    let read = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: id.clone(),
            topics: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    let delete = DeleteGroupsRequest {
        groups_names: vec![id.clone()],
    };
    let forget = OffsetDeleteRequest {
        group_id: id,
        ..Default::default()
    };
    let committed = client.call(&commit(group, "t", 1), 8).await?;
    let committed = committed.topics[0].partitions[0].error_code;
    let described = client.call(&describe, 5).await?.groups[0].error_code;
    let offsets = client.call(&read, 8).await?.groups[0].error_code;
    let deleted = client.call(&delete, 2).await?.results[0].error_code;
    Ok(vec![
        ("join", client.call(&join(group), 5).await?.error_code),
        ("sync", client.call(&sync, 5).await?.error_code),
        ("heartbeat", client.call(&heartbeat, 4).await?.error_code),
        ("leave", client.call(&leave, 4).await?.error_code),
        ("describe", described),
        ("commit", committed),
        ("fetch offsets", offsets),
        ("delete", deleted),
        ("delete offsets", client.call(&forget, 0).await?.error_code),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_served_by_its_coordinator_alone_which_every_broker_names() -> Result<()> {
    let cluster = Cluster::start(3, NO_SESSION_ENDS).await?;
    cluster.create_topic(1, "t", 1).await?;
    let mut coordinators = BTreeSet::new();
    for number in 0..8 {
        let group = format!("group-{number}");
        let named = coordinator(&cluster, 1, &group).await?;
        assert_eq!(named, endpoint(&cluster, named.0));
        for asked in [2, 3] {
            assert_eq!(coordinator(&cluster, asked, &group).await?, named);
        }
        coordinators.insert(named.0);
        for asked in 1..=3 {
            let mut client = cluster.client(asked).await?;
            if asked != named.0 {
                let errors = group_errors(&mut client, &group).await?;
                let refused = |(_, code): &(&str, i16)| *code == NOT_COORDINATOR;
                assert!(errors.iter().all(refused), "{errors:?}");
            }
        }
        let mut client = cluster.client(named.0).await?;
        until("the coordinator is loaded", async || {
            let errors = group_errors(&mut client, &group).await?;
            let served = |(_, code): &(&str, i16)| {
                *code != NOT_COORDINATOR && *code != ErrorCode::CoordinatorLoadInProgress.code()
            };
            Ok(errors.iter().all(served))
        })
        .await?;
    }
    assert!(
        coordinators.len() > 1,
        "groups are spread: {coordinators:?}"
    );
    cluster.stop().await
}

async fn retention(client: &mut Connection, topic: &str) -> Result<Option<String>> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: StrBytes::from(topic),
            configuration_keys: Some(vec!["retention.ms".into()]),
        }],
        ..Default::default()
    };
    let answer = client.call(&request, 4).await?;
    let configs = answer.results[0].configs.iter();
    Ok(configs
        .filter_map(|one| one.value.as_ref().map(StrBytes::to_string))
        .next())
}

/// Makes every change of a topic over one broker, which may lead none of its partitions.
async fn change_over(cluster: &Cluster, asked: i32, all: &[i32]) -> Result<()> {
    let name = format!("by-{asked}");
    let mut client = cluster.client(asked).await?;
    cluster.create_topic(asked, &name, 1).await?;
    // the answer came when the image of the broker that was asked had the topic
    ensure!(leaders_in(&metadata(cluster, asked).await?, &name).is_some());
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: StrBytes::from(name.as_str()),
            count: 4,
            assignments: None,
        }],
        timeout_ms: 10_000,
        validate_only: false,
    };
    let grown = client.call(&grow, 3).await?;
    ensure!(grown.results[0].error_code == 0, "{grown:?}");
    let (_, leaders) = leaders_in(&metadata(cluster, asked).await?, &name).context("is there")?;
    let leading: BTreeSet<_> = leaders.iter().map(|(leader, _)| *leader).collect();
    assert_eq!(leaders.len(), 4);
    assert_eq!(
        leading,
        all.iter().copied().collect(),
        "every broker leads one"
    );
    let alter = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: StrBytes::from(name.as_str()),
            configs: vec![AlterableConfig {
                name: "retention.ms".into(),
                config_operation: 0,
                value: Some("12345".into()),
            }],
        }],
        validate_only: false,
    };
    let altered = client.call(&alter, 1).await?;
    ensure!(altered.responses[0].error_code == 0, "{altered:?}");
    assert_eq!(
        retention(&mut client, &name).await?.as_deref(),
        Some("12345")
    );
    agreed(cluster, all, &name).await?;
    for other in all {
        let mut client = cluster.client(*other).await?;
        until("every broker knows the change", async || {
            Ok(retention(&mut client, &name).await?.as_deref() == Some("12345"))
        })
        .await?;
    }
    let deleted = client.call(&delete_topic(&name), 5).await?;
    ensure!(deleted.responses[0].error_code == 0, "{deleted:?}");
    for other in all {
        until("the topic is gone everywhere", async || {
            Ok(leaders_in(&metadata(cluster, *other).await?, &name).is_none())
        })
        .await?;
    }
    Ok(())
}

/// Produces to every partition and consumes it, at the leaders that the bootstrap broker names.
async fn produce_and_consume(cluster: &Cluster, bootstrap: i32, already: i64) -> Result<()> {
    let metadata = metadata(cluster, bootstrap).await?;
    let (id, leaders) = leaders_in(&metadata, "t").context("the topic is there")?;
    for (partition, (leader, _)) in (0..).zip(&leaders) {
        let mut brokers = metadata.brokers.iter();
        let named = brokers.find(|broker| broker.node_id == *leader);
        let named = named.context("the leader is among the brokers")?;
        let address = format!("{}:{}", named.host, named.port).parse()?;
        let mut client = highwater_tests::connect(address).await?;
        let mut producer = Producer::<()>::new(Topic::from(id), partition, 1);
        producer.init(&mut client).await?;
        let bytes = producer_batch(1, T0, producer.next_fields(1));
        let topic = Topic::from(id);
        let request = highwater_client::produce(&topic, [(partition, bytes)], -1);
        let answer = client.call(&request, topic.produce_version()).await?;
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, already));
        let mut consumer = Consumer::new(topic, [(partition, already)], Limits::default());
        let found = consumer.fetch(&mut client).await?;
        let found = found
            .into_iter()
            .next()
            .context("the partition is answered")?;
        ensure!(
            found
                .records
                .is_some_and(|records| !records.into_bytes().is_empty())
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_serves_as_bootstrap_for_all_that_the_cluster_has() -> Result<()> {
    let cluster = Cluster::start(3, NO_SESSION_ENDS).await?;
    let all = [1, 2, 3];
    cluster.create_topic(2, "t", 3).await?;
    let (_, leaders) = agreed(&cluster, &all, "t").await?;
    assert_eq!(
        leaders
            .iter()
            .map(|(leader, _)| *leader)
            .collect::<Vec<_>>(),
        all
    );
    let expected: Vec<_> = all.map(|id| endpoint(&cluster, id)).into();
    let mut ids = BTreeSet::new();
    for (asked, already) in all.into_iter().zip(0..) {
        let answer = metadata(&cluster, asked).await?;
        let brokers = answer.brokers.iter();
        let mut brokers: Vec<_> = brokers
            .map(|one| (one.node_id, one.host.to_string(), one.port))
            .collect();
        brokers.sort();
        assert_eq!(brokers, expected);
        assert_eq!(answer.controller_id, asked, "it can reach that one");
        let mut client = cluster.client(asked).await?;
        let described = client.call(&DescribeClusterRequest::default(), 2).await?;
        assert_eq!(answer.cluster_id, Some(described.cluster_id));
        let brokers = described.brokers.iter();
        let mut brokers: Vec<_> = brokers
            .map(|one| (one.broker_id, one.host.to_string(), one.port))
            .collect();
        brokers.sort();
        assert_eq!(brokers, expected);
        assert!(
            ids.insert(producer_id(&mut client).await?),
            "ids are given once"
        );
        produce_and_consume(&cluster, asked, already).await?;
    }
    for asked in all {
        change_over(&cluster, asked, &all).await?;
    }
    cluster.stop().await
}

/// Creates a topic with as many replicas, or with these, and returns the answer's error and message.
async fn create(
    client: &mut Connection,
    name: &str,
    factor: i16,
    chosen: &[&[i32]],
) -> Result<(i16, String)> {
    let mut topic = new_topic(name, if chosen.is_empty() { 4 } else { -1 }, &[]);
    topic.replication_factor = factor;
    let assignment = |(index, nodes): (i32, &&[i32])| CreatableReplicaAssignment {
        partition_index: index,
        broker_ids: nodes.to_vec(),
    };
    topic.assignments = (0..).zip(chosen).map(assignment).collect();
    let answer = client.call(&create_topics(vec![topic]), 7).await?;
    let told = &answer.topics[0];
    let why = told.error_message.as_ref().map(StrBytes::to_string);
    Ok((told.error_code, why.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_go_to_live_brokers() -> Result<()> {
    // long enough for a broker of a busy machine
    let session = [("broker.session.timeout.ms", "3000")];
    let mut cluster = Cluster::start(3, &session).await?;
    cluster.kill(3).await;
    until("the dead broker is fenced", async || {
        Ok(metadata(&cluster, 1).await?.brokers.len() == 2)
    })
    .await?;
    let mut client = cluster.client(1).await?;
    for (name, factor) in [("t", 1), ("u", 3)] {
        let created = create(&mut client, name, factor, &[]).await?;
        assert_eq!(created, (0, String::new()));
        let metadata = metadata(&cluster, 1).await?;
        let mut topics = metadata.topics.iter();
        let topic = topics.find(|topic| topic.name.as_deref() == Some(name));
        for partition in &topic.context("is there")?.partitions {
            // No broker led it before: it was given to a live one when it was created.
            let told = (partition.leader_id, partition.leader_epoch);
            assert!([(1, 0), (2, 0)].contains(&told), "{partition:?}");
            assert_eq!(partition.replica_nodes[0], partition.leader_id);
            let dead = if factor == 3 { vec![3] } else { vec![] };
            assert_eq!(partition.offline_replicas, dead);
        }
    }
    let invalid = ErrorCode::InvalidReplicaAssignment.code();
    let (code, why) = create(&mut client, "v", -1, &[&[1], &[3]]).await?;
    assert_eq!(code, invalid);
    assert!(
        why.ends_with("for partition 1 are fenced or in controlled shutdown."),
        "{why}"
    );
    let (code, why) = create(&mut client, "v", -1, &[&[1, 3], &[2, 9]]).await?;
    assert_eq!(code, invalid);
    assert!(
        why.ends_with("includes broker 9, but no such broker is registered."),
        "{why}"
    );
    let created = create(&mut client, "v", -1, &[&[3, 1], &[2, 3]]).await?;
    assert_eq!(created, (0, String::new()));
    let (_, leaders) = agreed(&cluster, &[1, 2], "v").await?;
    assert_eq!(leaders, [(1, 0), (2, 0)]);
    let (code, why) = create(&mut client, "w", 4, &[]).await?;
    assert_eq!(code, ErrorCode::InvalidReplicationFactor.code());
    assert!(why.contains("only 3 broker(s) are registered"), "{why}");
    cluster.stop().await
}
