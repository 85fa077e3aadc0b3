//! Three controllers: they form a cluster, and it goes on while a quorum of them lives.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use highwater_client::{Connection, create_topics, new_topic};
use highwater_protocol::StrBytes;
use highwater_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use highwater_protocol::messages::describe_quorum_response::{
    PartitionData as Described, ReplicaState,
};
use highwater_protocol::messages::{DescribeQuorumRequest, MetadataRequest};
use highwater_tests::{Cluster, Controllers, producer_id, until};
use tempfile::TempDir;

use crate::served::{PARTITIONS, leaders, led_by, send};

/// A session that no test on a busy machine lets pass by accident.
pub(crate) const SESSION: [(&str, &str); 1] = [("broker.session.timeout.ms", "6000")];

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_while_its_controllers_are_killed_one_by_one() -> Result<()> {
    let mut cluster = Cluster::start_with(3, 2, &[]).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    led_by(&cluster, &[1, 2]).await?;
    for id in cluster.controllers.ids() {
        cluster.controllers.kill(id).await;
        // one of these is the first change after the active controller is gone
        create(async || cluster.client(1).await, &format!("after-{id}")).await?;
        cluster.controllers.start(id).await?;
    }
    // the active controller hears the brokers, and fences the one that dies
    cluster.kill(2).await;
    let after = led_by(&cluster, &[1]).await?;
    let mut client = cluster.client(1).await?;
    let id = producer_id(&mut client).await?;
    for partition in after.keys() {
        assert_eq!(send(&mut client, *partition, id, 0).await?, 0);
    }
    cluster.stop().await
}

// E6: brokers reach every controller, and turn from the one that the others don't reach to the new active one
#[tokio::test(flavor = "multi_thread")]
async fn brokers_turn_from_a_controller_that_is_cut_off_and_none_is_fenced() -> Result<()> {
    let cluster = Cluster::start_with(3, 2, &SESSION).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2]).await?;
    for id in cluster.controllers.ids() {
        cluster.controllers.set_cut(id, true);
        create(async || cluster.client(2).await, &format!("while-{id}")).await?;
        cluster.controllers.set_cut(id, false);
    }
    assert_eq!(
        leaders(&cluster, 1).await?,
        before,
        "no leadership has changed"
    );
    cluster.stop().await
}

// D2, KIP-853: it has forgotten its votes
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_lost_its_disk_has_no_vote_and_the_others_go_on() -> Result<()> {
    let mut cluster = Cluster::start_with(3, 1, &SESSION).await?;
    let lost = cluster.controllers.ids()[1];
    cluster.controllers.kill(lost).await;
    cluster.controllers.lose_disk(lost)?;
    cluster.controllers.start(lost).await?;
    create(async || cluster.client(1).await, "t").await?;
    // two founders are left, and the one that came back does not count
    let other = cluster.controllers.ids()[2];
    cluster.controllers.kill(other).await;
    let request = create_topics(vec![new_topic("u", 1, &[])]);
    let answer = cluster.client(1).await?.call(&request, 7).await?;
    assert_eq!(answer.topics[0].error_code, 7, "it is not decided");
    cluster.controllers.start(other).await?;
    cluster.stop().await
}

// KIP-595, KIP-836: any broker tells what the active controller knows
#[tokio::test(flavor = "multi_thread")]
async fn every_broker_describes_the_quorum_of_the_active_controller() -> Result<()> {
    let mut cluster = Cluster::start_with(3, 2, &SESSION).await?;
    let first = described(&cluster, 1).await?;
    assert_eq!(described(&cluster, 2).await?.leader_id, first.leader_id);
    assert!(
        first.high_watermark > 0 && first.leader_epoch > 0,
        "{first:?}"
    );
    let directories = first.current_voters.iter();
    let directories: BTreeSet<_> = directories
        .map(|voter| voter.replica_directory_id.0)
        .collect();
    assert!(directories.len() == 3 && !directories.contains(&[0; 16]));

    cluster.controllers.kill(first.leader_id).await;
    let second = described(&cluster, 2).await?;
    assert_ne!(second.leader_id, first.leader_id);
    assert!(second.leader_epoch > first.leader_epoch);
    let is_lost = |voter: &&ReplicaState| voter.replica_id == first.leader_id;
    let lost = second
        .current_voters
        .iter()
        .find(is_lost)
        .context("it is told")?;
    assert_eq!(
        (lost.log_end_offset, lost.last_fetch_timestamp),
        (-1, -1),
        "it was not heard"
    );

    // another topic than the metadata is unknown
    let request = describe_quorum("t");
    let answer = cluster.client(1).await?.call(&request, 2).await?;
    assert_eq!(answer.topics[0].partitions[0].error_code, 3);
    cluster.stop().await
}

fn describe_quorum(topic: &str) -> DescribeQuorumRequest {
    DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: StrBytes::from(topic),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    }
}

/// What a broker tells of the quorum, once both brokers follow all that there is.
async fn described(cluster: &Cluster, asked: i32) -> Result<Described> {
    let mut found = Described::default();
    until("the brokers follow the active controller", async || {
        let request = describe_quorum("__cluster_metadata");
        let answer = cluster.client(asked).await?.call(&request, 2).await?;
        anyhow::ensure!(answer.error_code == 0, "{answer:?}");
        found = answer.topics[0].partitions[0].clone();
        let voters: Vec<i32> = found
            .current_voters
            .iter()
            .map(|it| it.replica_id)
            .collect();
        assert_eq!(voters, cluster.controllers.ids());
        let leader = found
            .current_voters
            .iter()
            .find(|it| it.replica_id == found.leader_id);
        let end = leader.context("it is a voter")?.log_end_offset;
        let follows =
            |it: &ReplicaState| it.log_end_offset == end && it.last_caught_up_timestamp > 0;
        Ok(found.observers.len() == 2 && found.observers.iter().all(follows))
    })
    .await?;
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_with_both_roles_form_a_cluster_and_two_of_them_go_on() -> Result<()> {
    let objects = TempDir::new()?;
    let settings = [
        ("highwater.wal", "object".to_owned()),
        (
            "highwater.object.storage",
            format!("file://{}", objects.path().display()),
        ),
        ("broker.session.timeout.ms", "1000".to_owned()),
        ("broker.heartbeat.interval.ms", "100".to_owned()),
        ("highwater.memory.limit", "64MiB".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let mut nodes = Controllers::new(1..4, "broker,controller", &settings).await?;
    nodes.start_all(&BTreeMap::new()).await?;
    for id in nodes.ids() {
        until("each node knows all three", async || {
            let mut client = nodes.client(id).await?;
            let metadata = client.call(&MetadataRequest::default(), 9).await?;
            Ok(metadata.brokers.len() == 3)
        })
        .await?;
        create(async || nodes.client(id).await, &format!("by-{id}")).await?;
    }
    for dies in nodes.ids() {
        nodes.kill(dies).await;
        let asked = nodes.ids().into_iter().find(|id| *id != dies);
        let asked = asked.context("two are left")?;
        create(
            async || nodes.client(asked).await,
            &format!("without-{dies}"),
        )
        .await?;
        nodes.start(dies).await?;
        create(async || nodes.client(dies).await, &format!("again-{dies}")).await?;
    }
    nodes.stop().await
}

/// Creates a topic with one partition by a node. A client repeats that when the outcome is unknown, because the active
/// controller has died or was cut off.
pub(crate) async fn create(
    connect: impl AsyncFn() -> Result<Connection>,
    name: &str,
) -> Result<()> {
    until("a topic is created", async || {
        let request = create_topics(vec![new_topic(name, 1, &[])]);
        let response = connect().await?.call(&request, 7).await?;
        let topic = response.topics.first().context("one topic is answered")?;
        match topic.error_code {
            // there is no error, or TOPIC_ALREADY_EXISTS
            0 | 36 => Ok(true),
            // REQUEST_TIMED_OUT
            7 => Ok(false),
            _ => anyhow::bail!("{topic:?}"),
        }
    })
    .await
}
