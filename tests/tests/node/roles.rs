//! A controller and a broker as nodes of their own.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use highwater_broker::node::Machine;
use highwater_client::{Connection, create_topics, new_topic};
use highwater_protocol::ApiKey;
use highwater_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use highwater_tests::{TestNode, latest};
use highwater_types::Uuid;
use tempfile::TempDir;

use super::{T0, batch};

/// The object store of all nodes of a cluster.
pub(super) fn store(dir: &TempDir) -> String {
    format!("file://{}", dir.path().display())
}

/// Starts a controller; port 0 means any.
pub(super) async fn controller(dir: TempDir, store: &str, port: u16) -> Result<TestNode> {
    let listener = format!("CONTROLLER://127.0.0.1:{port}");
    let settings = [
        ("process.roles", "controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        // it is the only one, and calls no other
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("listeners", &listener),
        ("highwater.object.storage", store),
    ];
    TestNode::start_in(dir, &settings, Machine::real()).await
}

/// Starts a broker that follows a controller.
async fn broker(dir: TempDir, store: &str, controller: SocketAddr) -> Result<TestNode> {
    broker_on("disk", dir, store, controller).await
}

/// Starts a broker with this kind of write-ahead log.
pub(super) async fn broker_on(
    wal: &str,
    dir: TempDir,
    store: &str,
    controller: SocketAddr,
) -> Result<TestNode> {
    let settings = broker_settings(2, wal, store, controller);
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    TestNode::start_in(dir, &settings, Machine::real()).await
}

/// The settings of a broker with this id.
pub(super) fn broker_settings(
    id: i32,
    wal: &str,
    store: &str,
    controller: SocketAddr,
) -> [(&'static str, String); 6] {
    [
        ("highwater.wal", wal.to_owned()),
        ("process.roles", "broker".to_owned()),
        ("node.id", id.to_string()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        // with its id, so that the controller is called at this address, which may be that of a link
        ("controller.quorum.voters", format!("1@{controller}")),
        ("highwater.object.storage", store.to_owned()),
    ]
}

async fn produce(client: &mut Connection, at: i64) -> Result<()> {
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, at));
    Ok(())
}

/// The error code of creating a topic.
async fn create(client: &mut Connection, topic: &str) -> Result<i16> {
    let request = create_topics(vec![new_topic(topic, 1, &[])]);
    let response = client.call(&request, 7).await?;
    Ok(response.topics[0].error_code)
}

// DESIGN 6: what needs no change of the metadata goes on without a controller.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_follows_its_controller_and_goes_on_while_that_is_gone() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let first = controller(TempDir::new()?, &store, 0).await?;
    let address = first.address;
    let node = broker(TempDir::new()?, &store, address).await?;
    let mut client = node.client().await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&mut client, 0).await?;

    let dir = first.stop().await?;
    produce(&mut client, 1).await?;
    // a creation waits for the controller
    let mut other = node.client().await?;
    let created = create(&mut other, "u");
    let again = async {
        produce(&mut client, 2).await?;
        controller(dir, &store, address.port()).await
    };
    let (code, again) = tokio::join!(created, again);
    assert_eq!(code?, 0);
    let again = again?;

    // the broker starts again too, and has its records and its topics
    let dir = node.stop().await?;
    let node = broker(dir, &store, address).await?;
    let banner = node.banner();
    assert!(!banner.contains("recovered"), "a stop uploads everything");
    let mut client = node.client().await?;
    let end = client.call(&latest("t"), 5).await?;
    assert_eq!(end.topics[0].partitions[0].offset, 3);
    produce(&mut client, 3).await?;
    let metadata = client.call(&MetadataRequest::default(), 9).await?;
    let brokers: Vec<i32> = metadata.brokers.iter().map(|it| it.node_id).collect();
    assert_eq!(brokers, [2], "a controller is no broker");
    drop(node.stop().await?);
    drop(again.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_on_a_controllers_listener_learns_what_little_is_served_there() -> Result<()> {
    let objects = TempDir::new()?;
    let node = controller(TempDir::new()?, &store(&objects), 0).await?;
    let mut client = node.client().await?;
    let versions = client.call(&ApiVersionsRequest::default(), 0).await?;
    let served: Vec<i16> = versions.api_keys.iter().map(|api| api.api_key).collect();
    let keys = [
        ApiKey::ApiVersions,
        ApiKey::DescribeQuorum,
        ApiKey::UpdateFeatures,
        ApiKey::DescribeCluster,
        ApiKey::AddRaftVoter,
        ApiKey::RemoveRaftVoter,
    ];
    assert_eq!(served, keys.map(|key| key as i16));
    let _sent = client.send(&MetadataRequest::default(), 9).await?;
    assert!(
        client.is_closed().await,
        "it serves nodes and operators alone"
    );
    drop(node.stop().await?);
    Ok(())
}

// The key of a call between nodes, with a body that means nothing.
const CALL: &[u8] = &[0, 0, 0, 12, 0x48, 0x57, 0, 0, 0, 0, 0, 7, 0, 0, 0xff, 0xff];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_between_nodes_is_unknown_to_a_clients_listener_and_bounded_on_a_controllers()
-> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let node = broker(TempDir::new()?, &store, controller.address).await?;
    let mut client = node.client().await?;
    client.send_raw(CALL).await?;
    assert!(client.is_closed().await, "the key is unknown there");
    let mut client = controller.client().await?;
    client.send_raw(CALL).await?;
    let answer = client.receive_raw().await?.context("is answered")?;
    assert_eq!((answer.0, answer.1[0]), (7, 1), "it is refused");
    let mut too_large = CALL.to_vec();
    too_large[0] = 0x7f;
    client.send_raw(&too_large).await?;
    assert!(client.is_closed().await, "no call is that large");
    node.create_topic("t", 1, &[]).await?;
    drop(node.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}

// Its records would be in one bucket, and the metadata of them in another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_store_is_another_clusters_does_not_start() -> Result<()> {
    let (objects, others) = (TempDir::new()?, TempDir::new()?);
    let own = controller(TempDir::new()?, &store(&objects), 0).await?;
    let other = controller(TempDir::new()?, &store(&others), 0).await?;
    let started = broker(TempDir::new()?, &store(&objects), other.address).await;
    let refused = format!("{:#}", started.map(drop).expect_err("is refused"));
    assert!(refused.contains("belongs to another cluster"), "{refused}");
    // nor with a store that no cluster has claimed
    let empty = TempDir::new()?;
    let started = broker(TempDir::new()?, &store(&empty), own.address).await;
    let refused = format!("{:#}", started.map(drop).expect_err("is refused"));
    assert!(refused.contains("does not have the claim"), "{refused}");
    drop(own.stop().await?);
    drop(other.stop().await?);
    Ok(())
}

// D2: it would claim what is no store of the cluster, and brokers would write there
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_joins_a_cluster_with_another_store_does_not_start() -> Result<()> {
    let (objects, other) = (TempDir::new()?, TempDir::new()?);
    let right = store(&objects);
    let first = controller(TempDir::new()?, &right, 0).await?;
    let node = broker(TempDir::new()?, &right, first.address).await?;
    let known = first.address.to_string();
    let joins = async |roles: &str, store: &str| {
        let listeners = match roles {
            "controller" => "CONTROLLER://127.0.0.1:0",
            _ => "CONTROLLER://127.0.0.1:0,PLAINTEXT://127.0.0.1:0",
        };
        let settings = [
            ("process.roles", roles),
            ("node.id", "3"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.bootstrap.servers", &known),
            ("listeners", listeners),
            ("highwater.wal", "object"),
            ("highwater.object.storage", store),
        ];
        TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await
    };
    for roles in ["controller", "broker,controller"] {
        let refused = joins(roles, &store(&other)).await;
        let refused = format!("{:#}", refused.map(drop).expect_err("is refused"));
        assert!(refused.contains("does not have the claim"), "{refused}");
    }
    let left = std::fs::read_dir(other.path())?.count();
    assert_eq!(left, 0, "a start that is refused leaves nothing");
    let joined = joins("controller", &right).await?;
    drop(joined.stop().await?);
    drop(node.stop().await?);
    drop(first.stop().await?);
    Ok(())
}

// D2: a founder with another store has made a claim there too, but the cluster has recorded the first one
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_the_recorded_one_is_refused_though_it_has_a_claim() -> Result<()> {
    let (objects, other) = (TempDir::new()?, TempDir::new()?);
    let first = controller(TempDir::new()?, &store(&objects), 0).await?;
    let claim = std::fs::read_to_string(objects.path().join("highwater-cluster"))?;
    let (cluster, _) = claim.split_once('\n').context("two lines")?;
    let others = format!("{cluster}\n{}\n", Uuid([7; 16]));
    std::fs::write(other.path().join("highwater-cluster"), others)?;
    let (address, dir) = (first.address, first.stop().await?);
    // it is known after a restart too
    let first = controller(dir, &store(&objects), address.port()).await?;
    let refused = broker(TempDir::new()?, &store(&other), address).await;
    let refused = format!("{:#}", refused.map(drop).expect_err("is refused"));
    assert!(
        refused.contains("is not the one that the cluster"),
        "{refused}"
    );
    let node = broker(TempDir::new()?, &store(&objects), address).await?;
    drop(node.stop().await?);
    drop(first.stop().await?);
    Ok(())
}

// A broker on the object WAL keeps nothing that matters on its own disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_the_object_wal_starts_again_with_an_empty_directory() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    for start in 0..3 {
        let dir = TempDir::new()?;
        let node = broker_on("object", dir, &store, controller.address).await?;
        if start == 0 {
            node.create_topic("t", 1, &[]).await?;
        }
        let mut client = node.client().await?;
        let end = client.call(&latest("t"), 5).await?;
        assert_eq!(end.topics[0].partitions[0].offset, start);
        produce(&mut client, start).await?;
        let kept = std::fs::read_dir(node.dir.path().join("data"))?;
        for entry in kept {
            let name = entry?.file_name();
            let is_small = name == ".lock" || name == "meta.properties";
            assert!(is_small, "{name:?} is in the directory");
        }
        // the directory is deleted
        drop(node.stop().await?);
    }
    drop(controller.stop().await?);
    Ok(())
}
