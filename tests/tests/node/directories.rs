//! The data directory of a broker on a disk WAL is the only place of what it has acknowledged and not uploaded (D2).

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use highwater_broker::node::Machine;
use highwater_tests::{Link, LogLines, TestNode, copy_directory, latest, until};
use tempfile::TempDir;

use super::damage::listen;
use super::roles::{broker_settings, controller, store};
use super::{T0, batch};

/// Starts a broker that uploads nothing by itself.
pub(super) async fn broker(
    id: i32,
    wal: &str,
    dir: TempDir,
    store: &str,
    controller: SocketAddr,
) -> Result<TestNode> {
    let settings = broker_settings(id, wal, store, controller);
    let settings = settings.each_ref().map(|(key, value)| (*key, &**value));
    let own = [
        ("highwater.upload.interval.ms", "600000"),
        ("broker.heartbeat.interval.ms", "100"),
        ("offsets.topic.num.partitions", "1"),
    ];
    let settings = [&settings[..], &own].concat();
    TestNode::start_in(dir, &settings, Machine::real()).await
}

/// Ends a node as a killed process ends; returns its directory.
pub(super) fn kill(node: TestNode) -> TempDir {
    node.dir
}

/// Produces one record to a partition of `t` that the node leads.
pub(super) async fn produce(node: &TestNode, partition: i32) -> Result<()> {
    until("the record is acknowledged", async || {
        let mut client = node.client().await?;
        let answer = client.produce("t", partition, batch(1, T0));
        Ok(answer.await?.error_code == 0)
    })
    .await
}

/// The end of a partition of `t` that the node leads.
pub(super) async fn end(node: &TestNode, partition: i32) -> Result<i64> {
    let mut offset = -1;
    until("the partition is open", async || {
        let mut ask = latest("t");
        ask.topics[0].partitions[0].partition_index = partition;
        let answer = node.client().await?.call(&ask, 5).await?;
        let answer = &answer.topics[0].partitions[0];
        offset = answer.offset;
        Ok(answer.error_code == 0)
    })
    .await?;
    Ok(offset)
}

/// A directory that links to a node's data directory, because a start that is refused removes the one that it was given.
pub(super) fn lent(dir: &TempDir) -> Result<TempDir> {
    let lent = TempDir::new()?;
    std::os::unix::fs::symlink(dir.path().join("data"), lent.path().join("data"))?;
    Ok(lent)
}

/// The id of a node's data directory.
fn id_of(dir: &Path) -> Result<String> {
    let text = std::fs::read_to_string(dir.join("data").join("meta.properties"))?;
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("directory.id="));
    Ok(id.context("it has an id")?.to_owned())
}

/// Checks that a start is refused because it has another directory than the one that is named.
fn refused(started: Result<TestNode>, node: i32, right: &str) {
    let why = format!("{:#}", started.map(drop).expect_err("is refused"));
    let is_named = why.contains(right) && why.contains(&format!("node {node}"));
    assert!(
        is_named && why.contains("is not the data directory"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_whose_directories_are_swapped_do_not_start_and_lose_nothing() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let start = async |id, dir| broker(id, "disk", dir, &store, controller.address).await;
    let (second, third) = (
        start(2, TempDir::new()?).await?,
        start(3, TempDir::new()?).await?,
    );
    // the partitions are given to the brokers in turn
    second.create_topic("t", 2, &[]).await?;
    for count in 0..3 {
        produce(&second, 0).await?;
        produce(&third, 1).await?;
        assert_eq!(end(&second, 0).await?, count + 1);
    }
    let (of_second, of_third) = (kill(second), kill(third));
    let (second, third) = (id_of(of_second.path())?, id_of(of_third.path())?);
    for _ in 0..2 {
        refused(start(2, lent(&of_third)?).await, 2, &second);
        refused(start(3, lent(&of_second)?).await, 3, &third);
        refused(start(3, TempDir::new()?).await, 3, &third);
    }
    let (second, third) = (start(2, of_second).await?, start(3, of_third).await?);
    assert_eq!((end(&second, 0).await?, end(&third, 1).await?), (3, 3));
    produce(&second, 0).await?;
    drop((second.stop().await?, third.stop().await?));
    drop(controller.stop().await?);
    Ok(())
}

// E2: a copy of the directory would recover the log without what the original has written since
#[tokio::test]
async fn a_copy_of_a_running_directory_is_refused_while_the_original_lives() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let start = |dir| broker(2, "disk", dir, &store, controller.address);
    let original = start(TempDir::new()?).await?;
    original.create_topic("t", 1, &[]).await?;
    produce(&original, 0).await?;
    let copy = TempDir::new()?;
    let (from, to) = (original.dir.path().join("data"), copy.path().join("data"));
    copy_directory(&from, &to)?;
    produce(&original, 0).await?;
    let why = start(copy).await.map(drop).expect_err("is refused");
    let why = format!("{why:#}");
    assert!(why.contains("is a copy of the data directory"), "{why}");
    produce(&original, 0).await?;
    // the directory itself takes over at once
    let said = LogLines::default();
    let _listening = listen(&said);
    let original = start(kill(original)).await?;
    assert_eq!(end(&original, 0).await?, 3);
    assert_eq!(said.count("this start waits"), 0);
    drop(original.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}

// E2: its earlier process was the voter, and has ended
#[tokio::test]
async fn a_node_that_is_the_only_voter_starts_at_another_place_without_a_wait() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let settings = [
        ("highwater.object.storage", &*store),
        ("highwater.upload.interval.ms", "600000"),
    ];
    let start = |dir| TestNode::start_in(dir, &settings, Machine::real());
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 0).await?;
    let (from, to) = (kill(node), TempDir::new()?);
    copy_directory(&from.path().join("data"), &to.path().join("data"))?;
    let said = LogLines::default();
    let _listening = listen(&said);
    let node = start(to).await?;
    assert_eq!(end(&node, 0).await?, 1);
    assert_eq!(said.count("this start waits"), 0);
    drop(node.stop().await?);
    Ok(())
}

// The second process has read its empty log before the first one registers again and writes records.
#[tokio::test]
async fn a_start_that_waits_does_not_close_an_epoch_that_it_has_not_read() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let address = controller.address;
    let first = broker(2, "object", TempDir::new()?, &store, address).await?;
    first.create_topic("t", 1, &[]).await?;
    produce(&first, 0).await?;
    let said = LogLines::default();
    let _listening = listen(&said);
    let link = Link::to(address).await?;
    let waiting = broker(2, "disk", TempDir::new()?, &store, link.address);
    let meanwhile = async {
        until("it waits", async || Ok(said.count("this start waits") > 0)).await?;
        link.set_cut(true);
        let dir = first.stop().await?;
        let first = broker(2, "disk", dir, &store, address).await?;
        produce(&first, 0).await?;
        produce(&first, 0).await?;
        link.set_cut(false);
        anyhow::Ok(kill(first))
    };
    let (started, dir) = tokio::join!(waiting, meanwhile);
    let why = format!("{:#}", started.map(drop).expect_err("is refused"));
    let dir = dir?;
    let right = id_of(dir.path())?;
    assert!(why.contains(&right), "{why}");
    let first = broker(2, "disk", dir, &store, address).await?;
    assert_eq!(end(&first, 0).await?, 3);
    drop(first.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}
