//! Opening partitions while the object store does not answer for some of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use highwater_client::{Connection, Options};
use highwater_io::Faults;
use highwater_io::net::TcpNetwork;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use highwater_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use highwater_protocol::messages::{
    DeleteRecordsRequest, HeartbeatRequest, ListGroupsRequest, OffsetForLeaderEpochRequest,
};
use highwater_tests::{
    TestNode, commit, fetch, files_below, find_coordinator, latest, producer_fields, records,
};
use tempfile::TempDir;

use super::{T0, producer_batch};

/// The node uploads only when it stops.
const SETTINGS: &[(&str, &str)] = &[("highwater.upload.interval.ms", "600000")];

/// Writes to several topics in one upload, and returns the object that has all their records.
async fn upload(dir: TempDir, topics: &[&str]) -> Result<(TempDir, PathBuf)> {
    let node = TestNode::start_local(dir, SETTINGS).await?;
    let objects = node.objects();
    for topic in topics {
        node.create_topic(topic, 1, &[]).await?;
        produce(&mut node.client().await?, topic, 0).await?;
    }
    let before = files_below(&objects)?;
    let dir = node.stop().await?;
    let after: BTreeSet<_> = files_below(&objects)?;
    let object = after.difference(&before).next().context("it uploads")?;
    Ok((dir, object.clone()))
}

/// Makes ten records of a producer with an id, so that the partition has producer state that is read when it is opened.
async fn produce(client: &mut Connection, topic: &str, at: i64) -> Result<()> {
    let batch = producer_batch(10, T0, producer_fields(1, i32::try_from(at)?));
    let answer = client.produce(topic, 0, batch).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, at), "{topic}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_answer_holds_up_its_own_partitions_alone() -> Result<()> {
    let (dir, object) = upload(TempDir::new()?, &["slow", "gone"]).await?;
    let (dir, _) = upload(dir, &["t"]).await?;
    let faults = Arc::<Faults>::default();
    faults.hang_reads_below(Some(object));
    let node = TestNode::start_with_faults(dir, SETTINGS, &faults).await?;
    let mut client = node.client().await?;
    produce(&mut client, "t", 10).await?;
    let (code, _) = highwater_tests::read(&mut client, "slow", 0).await?;
    assert_eq!(code, ErrorCode::NotLeaderOrFollower.code(), "not yet");
    // The node follows the image meanwhile, and does not later open partitions that the image has taken away.
    node.delete_topic("gone").await?;
    for topic in ["new", "gone"] {
        node.create_topic(topic, 1, &[]).await?;
        produce(&mut client, topic, 0).await?;
    }
    faults.hang_reads_below(None);
    produce(&mut client, "slow", 10).await?;
    produce(&mut client, "gone", 10).await?;
    node.stop().await?;
    Ok(())
}

// A4
#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_partition_that_is_being_opened() -> Result<()> {
    let (dir, object) = upload(TempDir::new()?, &["slow"]).await?;
    let faults = Arc::<Faults>::default();
    faults.hang_reads_below(Some(object));
    let node = TestNode::start_with_faults(dir, SETTINGS, &faults).await?;
    let mut reading = fetch("slow", 5, 1 << 20);
    reading.max_wait_ms = 60_000;
    reading.min_bytes = 1;
    let epoch_end = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: "slow".into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: -1,
                leader_epoch: 0,
            }],
        }],
    };
    let delete = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "slow".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 1,
            }],
        }],
        timeout_ms: 60_000,
    };
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(node.client().await?);
    }
    let [one, two, three, four] = &mut clients[..] else {
        unreachable!("there are four");
    };
    let fetched = one.send(&reading, 12).await?;
    let listed = two.send(&latest("slow"), 7).await?;
    let ended = three.send(&epoch_end, 4).await?;
    let deleted = four.send(&delete, 2).await?;
    // The node serves others meanwhile.
    node.create_topic("t", 1, &[]).await?;
    produce(&mut node.client().await?, "t", 0).await?;
    faults.hang_reads_below(None);
    let fetched = one.receive(fetched).await?;
    assert_eq!(fetched.responses[0].partitions[0].error_code, 0);
    assert!(!records(&fetched, 0, 0).is_empty());
    let listed = two.receive(listed).await?;
    let listed = &listed.topics[0].partitions[0];
    assert_eq!((listed.error_code, listed.offset), (0, 10));
    let ended = three.receive(ended).await?;
    let ended = &ended.topics[0].partitions[0];
    assert_eq!((ended.error_code, ended.leader_epoch), (0, 0));
    let deleted = four.receive(deleted).await?;
    let deleted = &deleted.topics[0].partitions[0];
    assert_eq!((deleted.error_code, deleted.low_watermark), (0, 1));
    node.stop().await?;
    Ok(())
}

// A4: a fetch does not wait for a partition that is being opened if others have enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_being_opened_holds_up_no_records_of_others() -> Result<()> {
    let (dir, object) = upload(TempDir::new()?, &["slow"]).await?;
    let faults = Arc::<Faults>::default();
    faults.hang_reads_below(Some(object));
    let node = TestNode::start_with_faults(dir, SETTINGS, &faults).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    produce(&mut client, "t", 0).await?;
    let mut both = fetch("slow", 0, 1 << 20);
    both.topics.extend(fetch("t", 0, 1 << 20).topics);
    both.max_wait_ms = i32::MAX;
    both.min_bytes = 1;
    let answer = client.call(&both, 12).await?;
    let codes = answer.responses.iter();
    let codes: Vec<_> = codes.map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::NotLeaderOrFollower.code(), 0]);
    assert!(!records(&answer, 1, 0).is_empty());
    faults.hang_reads_below(None);
    node.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_loading_while_the_partition_of_their_offsets_is_being_opened() -> Result<()> {
    let settings = [SETTINGS, &[("offsets.topic.num.partitions", "1")]].concat();
    let node = TestNode::start_local(TempDir::new()?, &settings).await?;
    let objects = node.objects();
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let committed = client.call(&commit("g", "t", 7), 8).await?;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    // The producer state makes an opening read the object. The coordinator skips records that it does not know.
    let options = Options {
        client_id: "__admin_client".to_owned(),
        ..Options::default()
    };
    let (host, port) = (node.address.ip().to_string(), node.address.port());
    let mut admin = Connection::open(&TcpNetwork, &host, port, options).await?;
    let batch = producer_batch(1, T0, producer_fields(1, 0));
    let written = admin.produce("__consumer_offsets", 0, batch).await?;
    assert_eq!(written.error_code, 0, "{written:?}");
    let before = files_below(&objects)?;
    let dir = node.stop().await?;
    let after: BTreeSet<_> = files_below(&objects)?;
    let object = after.difference(&before).next().context("it uploads")?;

    let faults = Arc::<Faults>::default();
    faults.hang_reads_below(Some(object.clone()));
    let node = TestNode::start_with_faults(dir, &settings, &faults).await?;
    let mut client = node.client().await?;
    let loading = ErrorCode::CoordinatorLoadInProgress.code();
    let committed = client.call(&commit("g", "t", 8), 8).await?;
    assert_eq!(committed.topics[0].partitions[0].error_code, loading);
    let listed = client.call(&ListGroupsRequest::default(), 4).await?;
    assert_eq!(listed.error_code, loading);
    // As in Kafka a heartbeat is answered without an error while groups are loading.
    let heartbeat = HeartbeatRequest {
        group_id: "g".into(),
        ..Default::default()
    };
    assert_eq!(client.call(&heartbeat, 4).await?.error_code, 0);
    faults.hang_reads_below(None);
    find_coordinator(&mut client, "g").await?;
    let committed = client.call(&commit("g", "t", 8), 8).await?;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    node.stop().await?;
    Ok(())
}
