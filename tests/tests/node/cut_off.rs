//! A broker that reaches no controller (DESIGN 6, "A broker that is cut off"; rule W11).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_broker::node::{Machine, Node, NodeProcess};
use highwater_client::Connection;
use highwater_object_format::Seal;
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::{FindCoordinatorRequest, MetadataRequest, OffsetFetchRequest};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::{
    Link, TestNode, commit, connect, files_below, latest, produce_request, read, until,
};
use highwater_types::{NodeEpoch, NodeId, Uuid};
use tempfile::TempDir;

use super::roles::{broker_on, broker_settings, controller, store};
use super::{T0, batch};

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();
const OUT_OF_RANGE: i16 = ErrorCode::OffsetOutOfRange.code();
const NOT_COORDINATOR: i16 = ErrorCode::NotCoordinator.code();

/// The error and the committed offset of partition 0 of `t`.
async fn committed(client: &mut Connection, group: &str) -> Result<(i16, i64)> {
    let topic = OffsetFetchRequestTopic {
        name: StrBytes::from("t"),
        partition_indexes: vec![0],
    };
    let request = OffsetFetchRequest {
        group_id: StrBytes::from(group),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let answer = client.call(&request, 5).await?;
    let topic = answer.topics.first();
    let offset = topic.map_or(-1, |topic| topic.partitions[0].committed_offset);
    Ok((answer.error_code, offset))
}

/// The files of WAL objects, the newest last.
fn wal_objects(objects: &TempDir) -> Result<Vec<PathBuf>> {
    let number = |path: &Path| -> Option<u64> { path.file_name()?.to_str()?.parse().ok() };
    let files = files_below(objects.path())?.into_iter();
    let is_wal = |path: &PathBuf| path.to_string_lossy().contains("/wal/");
    let mut files: Vec<PathBuf> = files.filter(is_wal).collect();
    files.sort_by_key(|path| number(path));
    Ok(files)
}

/// Creates a seal at the next sequence of the only log, as a sealer does.
fn seal(objects: &TempDir) -> Result<()> {
    let files = wal_objects(objects)?;
    let last = files.last().context("there is a log")?;
    let name = last.file_name().and_then(|name| name.to_str());
    let number = name.context("it has a name")?.parse::<u64>()? + 1;
    let seal = Seal {
        cluster: Uuid([7; 16]),
        node: NodeId(2),
        epoch: NodeEpoch(1),
        number,
        sealer: NodeId(3),
        nonce: Uuid([8; 16]),
    };
    Ok(std::fs::write(
        last.with_file_name(number.to_string()),
        seal.encode(),
    )?)
}

// W11: it goes on, says nothing that a survivor may know better, and learns of its seal by looking
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_goes_on_until_it_finds_its_seal() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let node = broker_on("object", TempDir::new()?, &store, controller.address).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(1, T0)).await?;
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["g".into(), "h".into()],
        ..Default::default()
    };
    until("the coordinators are loaded", async || {
        client.call(&find, 4).await?;
        let answer = client.call(&commit("g", "t", 1), 8).await?;
        let is_committed = answer.topics[0].partitions[0].error_code == 0;
        Ok(is_committed && committed(&mut client, "h").await?.0 == 0)
    })
    .await?;
    assert_eq!(read(&mut client, "t", 100).await?.0, OUT_OF_RANGE);
    assert_eq!(committed(&mut client, "h").await?, (0, -1));

    drop(controller.stop().await?);
    until("it is cut off", async || {
        Ok(read(&mut client, "t", 100).await?.0 == NOT_LEADER)
    })
    .await?;
    assert_eq!(committed(&mut client, "h").await?, (NOT_COORDINATOR, -1));
    assert_eq!(committed(&mut client, "g").await?, (0, 1));
    assert_eq!(read(&mut client, "t", -5).await?.0, OUT_OF_RANGE);
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    assert_eq!(read(&mut client, "t", 0).await?.0, 0);

    seal(&objects)?;
    let why = tokio::time::timeout(Duration::from_secs(60), node.failed()).await?;
    assert!(why.contains("it was sealed"), "{why}");
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, NOT_LEADER);
    Ok(())
}

// D5: its log cannot be sealed, so it acknowledges nothing that may be given up, and readers see nothing else
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_the_disk_wal_that_is_cut_off_acknowledges_nothing() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let link = Link::to(controller.address).await?;
    let settings = broker_settings(2, "disk", &store, link.address);
    let settings = settings.each_ref().map(|(name, value)| (*name, &**value));
    let sessions = [
        ("broker.session.timeout.ms", "600"),
        ("broker.heartbeat.interval.ms", "100"),
    ];
    let settings = [&settings[..], &sessions].concat();
    let node = TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    until("the partition is open", async || {
        Ok(client.produce("t", 0, batch(1, T0)).await?.error_code == 0)
    })
    .await?;

    link.set_cut(true);
    let mut acknowledged = 1;
    until("it is cut off", async || {
        let answer = client.produce("t", 0, batch(1, T0)).await?;
        match answer.error_code {
            0 => acknowledged = answer.base_offset + 1,
            code => assert_eq!(code, NOT_LEADER),
        }
        Ok(answer.error_code != 0)
    })
    .await?;
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, NOT_LEADER);
    // it says so to a connection that waits for no answer, too
    let unanswered = produce_request("t", 0, batch(1, T0), 0);
    let mut other = node.client().await?;
    other.send(&unanswered, 9).await?;
    assert!(other.is_closed().await);
    let answer = client.call(&latest("t"), 5).await?;
    assert_eq!(answer.topics[0].partitions[0].offset, acknowledged);
    assert_eq!(read(&mut client, "t", 0).await?.0, 0);

    link.set_cut(false);
    until("it is heard again", async || {
        Ok(client.produce("t", 0, batch(1, T0)).await?.error_code == 0)
    })
    .await?;
    drop(node.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}

/// The brokers that a broker tells its clients.
async fn brokers(client: &mut Connection) -> Result<Vec<i32>> {
    let metadata = client.call(&MetadataRequest::default(), 9).await?;
    let mut ids: Vec<i32> = metadata.brokers.iter().map(|it| it.node_id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Waits until a broker tells its clients these brokers.
async fn await_brokers(client: &mut Connection, expected: &[i32]) -> Result<()> {
    let what = format!("these brokers are live: {expected:?}");
    until(&what, async || Ok(brokers(client).await? == expected)).await
}

/// The leaders of the partitions of `t`, as a broker tells them.
async fn leaders(client: &mut Connection) -> Result<Vec<i32>> {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let metadata = client.call(&request, 9).await?;
    let mut topics = metadata.topics.iter();
    let topic = topics.find(|topic| topic.name.as_deref() == Some("t"));
    let mut partitions = topic.context("it is there")?.partitions.clone();
    partitions.sort_by_key(|partition| partition.partition_index);
    let leaders = partitions.iter().map(|partition| partition.leader_id);
    Ok(leaders.collect())
}

/// Does something while a node runs, which may start again meanwhile.
async fn while_running<T>(
    process: &mut NodeProcess,
    what: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        why = process.ended() => anyhow::bail!("{why}"),
        done = what => done,
    }
}

// W11, E6: it is cut off from the controllers alone, is fenced, and learns of that when the link is mended
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_fenced_while_it_was_cut_off_comes_back_with_every_record() -> Result<()>
{
    for wal in ["object", "disk"] {
        let (objects, dir) = (TempDir::new()?, TempDir::new()?);
        let store = store(&objects);
        let controller = controller(TempDir::new()?, &store, 0).await?;
        let link = Link::to(controller.address).await?;
        let settings = broker_settings(3, wal, &store, controller.address);
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let other = TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await?;
        let settings = broker_settings(2, wal, &store, link.address);
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let config = TestNode::config(&dir, &settings)?;
        let mut process = Box::pin(NodeProcess::start(config, Machine::real())).await?;
        let address = process.node().and_then(Node::address).context("listens")?;
        let mut watching = other.client().await?;
        // a broker places new partitions on those that it knows
        await_brokers(&mut watching, &[2, 3]).await?;
        other.create_topic("t", 2, &[]).await?;
        let leaders_at_first = leaders(&mut watching).await?;
        let led = leaders_at_first.iter().position(|leader| *leader == 2);
        let led = led.context("it leads one")?;
        let index = i32::try_from(led)?;
        let mut client = connect(address).await?;
        until("the partition is open", async || {
            Ok(client.produce("t", index, batch(1, T0)).await?.error_code == 0)
        })
        .await?;

        link.set_cut(true);
        let fenced = await_brokers(&mut watching, &[3]);
        while_running(&mut process, fenced).await?;
        // it goes on until its log is sealed
        let answer = client.produce("t", index, batch(1, T0)).await;
        let goes_on = answer.is_ok_and(|answer| answer.error_code == 0);

        link.set_cut(false);
        let back = await_brokers(&mut watching, &[2, 3]);
        while_running(&mut process, back).await?;
        let produced = async {
            let mut offset = -1;
            until("a broker leads the partition again", async || {
                let at = match leaders(&mut watching).await?[led] {
                    2 => address,
                    3 => other.address,
                    _ => return Ok(false),
                };
                // its connections may end while it starts again
                let answer = connect(at).await?.produce("t", index, batch(1, T0)).await;
                let answer = answer.ok().filter(|answer| answer.error_code == 0);
                offset = answer.as_ref().map_or(-1, |answer| answer.base_offset);
                Ok(answer.is_some())
            })
            .await?;
            Ok(offset)
        };
        // I3: the leader has what was acknowledged, whichever broker it is
        let acknowledged = 1 + i64::from(goes_on);
        let offset = while_running(&mut process, produced).await?;
        // a batch whose answer was lost may be there too
        assert!(offset >= acknowledged, "{wal}: {offset} and {acknowledged}");
        assert!(
            client.is_closed().await,
            "{wal}: the zombie's connections end"
        );
        process.stop().await?;
        drop(other.stop().await?);
        drop(controller.stop().await?);
    }
    Ok(())
}
