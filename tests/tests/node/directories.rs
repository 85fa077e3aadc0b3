//! The data directory of a broker on a disk WAL is the only place of what it has acknowledged and not uploaded (D2).

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use highwater_broker::node::{GivingUp, Machine, NodeError};
use highwater_client::Connection;
use highwater_tests::{Link, LogLines, TestNode, commit, fetch, latest, records, until};
use tempfile::TempDir;

use super::damage::listen;
use super::roles::{broker_settings, controller, store};
use super::starts::refusal;
use super::{T0, batch};

/// Starts a broker that uploads nothing by itself.
async fn broker(
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
fn kill(node: TestNode) -> TempDir {
    node.dir
}

/// Produces one record to a partition of `t` that the node leads.
async fn produce(node: &TestNode, partition: i32) -> Result<()> {
    until("the record is acknowledged", async || {
        let mut client = node.client().await?;
        let answer = client.produce("t", partition, batch(1, T0));
        Ok(answer.await?.error_code == 0)
    })
    .await
}

/// The end of a partition of `t` that the node leads.
async fn end(node: &TestNode, partition: i32) -> Result<i64> {
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
    // an attempt leaves the directory behind, and a link to it takes its place
    let lent = |dir: &TempDir| -> Result<TempDir> {
        let lent = TempDir::new()?;
        std::os::unix::fs::symlink(dir.path().join("data"), lent.path().join("data"))?;
        Ok(lent)
    };
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

/// What a partition skips when its last records are given up.
const LOST: i64 = 1 << 30;
/// The settings of sessions that are short.
const SESSIONS: [(&str, &str); 2] = [
    ("broker.session.timeout.ms", "600"),
    ("broker.heartbeat.interval.ms", "100"),
];

/// The node epoch that a refused start names in the command that gives it up.
fn epoch_in(why: &str) -> Result<u64> {
    let named = why
        .split("--epoch ")
        .nth(1)
        .context("the command is named")?;
    let digits: String = named.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// The base offset of the first batch that a fetch from an offset finds, if any.
async fn first_from(client: &mut Connection, offset: i64) -> Result<Option<i64>> {
    let answer = client.call(&fetch("t", offset, 1), 12).await?;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0, "at {offset}");
    let batch = records(&answer, 0, 0);
    let base = batch.first_chunk().map(|base| i64::from_be_bytes(*base));
    Ok(base)
}

/// Commits an offset of a group once its coordinator is loaded.
async fn commits(node: &TestNode, offset: i64) -> Result<()> {
    until("the offset is committed", async || {
        let mut client = node.client().await?;
        client
            .call(&highwater_client::find_coordinator("g"), 6)
            .await?;
        let answer = client.call(&commit("g", "t", offset), 8).await?;
        Ok(answer.topics[0].partitions[0].error_code == 0)
    })
    .await
}

/// Starts a controller with short sessions.
async fn quick_controller(store: &str) -> Result<TestNode> {
    let own = [
        ("process.roles", "controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.bootstrap.servers", "127.0.0.1:1"),
        ("listeners", "CONTROLLER://127.0.0.1:0"),
        ("highwater.object.storage", store),
    ];
    let settings = [&own[..], &SESSIONS].concat();
    TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await
}

// D4, D5
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_directory_held_is_given_up_and_the_partition_goes_on_above_it() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = quick_controller(&store).await?;
    let address = controller.address;
    let node = broker(2, "disk", TempDir::new()?, &store, address).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 0).await?;
    produce(&node, 0).await?;
    // a stop uploads everything
    let dir = node.stop().await?;
    let node = broker(2, "disk", dir, &store, address).await?;
    for _ in 0..3 {
        produce(&node, 0).await?;
    }
    commits(&node, 3).await?;
    let other = TempDir::new()?;
    let settings = broker_settings(2, "disk", &store, address);
    let settings = settings.each_ref().map(|(key, value)| (*key, &**value));
    let settings = [&settings[..], &SESSIONS].concat();
    let why = refusal(&other, &settings).await?;
    let epoch = epoch_in(&why)?;
    let config = TestNode::config(&other, &settings)?;
    let open = async |epoch| GivingUp::open(&config, &Machine::real(), (2, epoch)).await;
    let wrong = open(epoch + 1).await.expect_err("there is no such epoch");
    assert!(
        wrong.to_string().contains(&format!("is {epoch}")),
        "{wrong}"
    );
    let giving_up = open(epoch).await?;
    let refused = giving_up.carry_out().await;
    assert!(
        matches!(refused, Err(NodeError::Lives { .. })),
        "{refused:?}"
    );
    produce(&node, 0).await?;
    drop(kill(node));
    assert_eq!(epoch_in(&refusal(&other, &settings).await?)?, epoch);
    let loss = giving_up.loss().to_string();
    let goes_on = 2 + LOST;
    let named = format!("t-0: all from offset 2 on; it goes on at offset {goes_on}");
    assert!(loss.contains(&named), "{loss}");
    giving_up.carry_out().await?;
    giving_up.close().await?;

    let mut node = broker(2, "disk", other, &store, address).await?;
    assert_eq!(end(&node, 0).await?, goes_on);
    let mut client = node.client().await?;
    assert_eq!(first_from(&mut client, 0).await?, Some(0));
    // a fetch in the lost range waits for the next record, and does not return empty at once
    let mut waits = fetch("t", 3, 1);
    (waits.max_wait_ms, waits.min_bytes) = (60_000, 1);
    let mut waiting = node.client().await?;
    let (found, done) = tokio::join!(waiting.call(&waits, 12), produce(&node, 0));
    done?;
    let batch = records(&found?, 0, 0);
    assert_eq!(batch.first_chunk(), Some(&goes_on.to_be_bytes()));
    for start in 0..2 {
        // a consumer that has read some of what is lost goes on behind it, from the cache and from objects
        for offset in [2, 5, goes_on] {
            let found = first_from(&mut client, offset).await?;
            assert_eq!(found, Some(goes_on), "{start} {offset}");
        }
        // the coordinators of groups load their partitions over the lost range
        commits(&node, 4).await?;
        let dir = node.stop().await?;
        node = broker(2, "disk", dir, &store, address).await?;
        assert_eq!(end(&node, 0).await?, goes_on + 1);
        client = node.client().await?;
    }
    drop(node.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}

// D4: the metadata is in the same data directory
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_of_a_node_that_is_its_own_controller_is_given_up() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let settings = [&[("highwater.object.storage", &*store)][..], &SESSIONS].concat();
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 0).await?;
    let dir = kill(node);
    let log = dir.path().join("data").join("wal");
    until("the killed node has ended", async || {
        Ok(std::fs::remove_dir_all(&log).is_ok() || !log.exists())
    })
    .await?;
    let why = refusal(&dir, &settings).await?;
    let config = TestNode::config(&dir, &settings)?;
    let named = (1, epoch_in(&why)?);
    let giving_up = GivingUp::open(&config, &Machine::real(), named).await?;
    giving_up.carry_out().await?;
    giving_up.close().await?;
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    assert_eq!(end(&node, 0).await?, LOST);
    produce(&node, 0).await?;
    drop(node.stop().await?);
    Ok(())
}
