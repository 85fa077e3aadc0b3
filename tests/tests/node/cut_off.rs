//! A broker that reaches no controller (DESIGN 6, "A broker that is cut off"; rule W11).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_client::Connection;
use highwater_object_format::Seal;
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::{FindCoordinatorRequest, OffsetFetchRequest};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::{commit, files_below, read, until};
use highwater_types::{NodeEpoch, NodeId, Uuid};
use tempfile::TempDir;

use super::roles::{broker_on, controller, store};
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
