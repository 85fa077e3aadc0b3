//! The sessions of brokers, in a cluster of a controller and processes with one `node.id`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use highwater_broker::node::Machine;
use highwater_client::Connection;
use highwater_tests::{TestNode, latest};
use tempfile::TempDir;
use tokio::time::Instant;

use super::roles::store;
use super::{T0, batch};

const SESSION: Duration = Duration::from_secs(2);
/// The longest that a test waits for a start.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of every node.
const SETTINGS: [(&str, &str); 4] = [
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "200"),
    ("controller.listener.names", "CONTROLLER"),
    ("highwater.wal", "object"),
];

pub(super) async fn controller(store: &str) -> Result<TestNode> {
    let settings = [
        ("process.roles", "controller"),
        ("node.id", "1"),
        // it is the only one, and calls no other
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("listeners", "CONTROLLER://127.0.0.1:0"),
        ("highwater.object.storage", store),
    ];
    let settings = [&SETTINGS[..], &settings].concat();
    TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await
}

/// Starts a broker with an id and a data directory of its own.
pub(super) async fn broker(id: &str, store: &str, controller: SocketAddr) -> Result<TestNode> {
    let controller = controller.to_string();
    let settings = [
        ("process.roles", "broker"),
        ("node.id", id),
        ("controller.quorum.bootstrap.servers", &controller),
        ("highwater.object.storage", store),
    ];
    let settings = [&SETTINGS[..], &settings].concat();
    TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await
}

async fn produce(client: &mut Connection, at: i64) -> Result<()> {
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    ensure!(
        (answer.error_code, answer.base_offset) == (0, at),
        "{answer:?}"
    );
    Ok(())
}

async fn end(node: &TestNode) -> Result<i64> {
    let end = node.client().await?.call(&latest("t"), 5).await?;
    Ok(end.topics[0].partitions[0].offset)
}

// E2: two processes with one node.id, each with a data directory of its own, never take over from each other in turns.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_one_node_id_waits_while_the_first_one_lives() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(&store).await?;
    let first = broker("2", &store, controller.address).await?;
    first.create_topic("t", 1, &[]).await?;
    let mut second = Box::pin(broker("2", &store, controller.address));
    let mut client = first.client().await?;
    let mut produced = 0;
    let begun = Instant::now();
    while begun.elapsed() < 2 * SESSION {
        produce(&mut client, produced).await?;
        produced += 1;
        let pace = tokio::time::timeout(SESSION / 20, &mut second).await;
        ensure!(pace.is_err(), "the second one starts beside the first");
    }
    // a stop says that it ends
    let (stopped, second) = tokio::join!(first.stop(), tokio::time::timeout(PATIENCE, second));
    drop(stopped?);
    let second = second??;
    assert_eq!(end(&second).await?, produced);
    produce(&mut second.client().await?, produced).await?;

    // a crash says nothing: its session runs out
    drop(second);
    let third = broker("2", &store, controller.address);
    let third = tokio::time::timeout(PATIENCE, third).await??;
    assert_eq!(end(&third).await?, produced + 1);
    drop(third.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}

// A broker whose id is the controller's is another process: what the one registers would be taken for the other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_the_id_of_a_controller_does_not_start() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(&store).await?;
    let started = broker("1", &store, controller.address).await;
    let refused = format!("{:#}", started.map(drop).expect_err("is refused"));
    assert!(refused.contains("the id of a controller"), "{refused}");
    drop(controller.stop().await?);
    Ok(())
}
