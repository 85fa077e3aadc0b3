//! Requests that many tests send to a node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use highwater_client::{Connection, Producer};
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_protocol::messages::{
    DescribeGroupsRequest, FetchRequest, FetchResponse, JoinGroupRequest, ListOffsetsRequest,
    OffsetCommitRequest,
};
use highwater_protocol::{ErrorCode, StrBytes};

/// Makes a fetch of partition 0 without a session, which does not wait.
#[must_use]
pub fn fetch(topic: &str, offset: i64, max_bytes: i32) -> FetchRequest {
    FetchRequest {
        max_bytes,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: StrBytes::from(topic),
            partitions: vec![FetchPartition {
                partition: 0,
                current_leader_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The records of one partition in an answer, by the indexes of topic and partition.
#[must_use]
pub fn records(answer: &FetchResponse, topic: usize, partition: usize) -> Bytes {
    let records = &answer.responses[topic].partitions[partition].records;
    let records = records.clone().map(|records| records.into_bytes());
    records.unwrap_or_default()
}

/// Fetches the error and the records of partition 0 from an offset on.
///
/// # Errors
/// An error of the client.
pub async fn read(client: &mut Connection, topic: &str, offset: i64) -> Result<(i16, Bytes)> {
    let answer = client.call(&fetch(topic, offset, 1 << 20), 12).await?;
    let code = answer.responses[0].partitions[0].error_code;
    Ok((code, records(&answer, 0, 0)))
}

/// Makes a request for the offset of partition 0 at a timestamp.
#[must_use]
pub fn offset_at(topic: &str, timestamp: i64) -> ListOffsetsRequest {
    highwater_client::list_offsets(topic, [0], timestamp)
}

/// Makes a request for the end of partition 0.
#[must_use]
pub fn latest(topic: &str) -> ListOffsetsRequest {
    offset_at(topic, highwater_client::LATEST)
}

/// Requests a producer id that no other producer has.
///
/// # Errors
/// An error of the client.
pub async fn producer_id(client: &mut Connection) -> Result<i64> {
    let mut producer = Producer::<()>::new("".into(), 0, 1);
    Ok(producer.init(client).await?)
}

/// Makes a request of a new member of a consumer group. From version 4 on the member has to join again with its id
/// (KIP-394).
#[must_use]
pub fn join(group: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: StrBytes::from(group),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"),
        }],
        ..Default::default()
    }
}

/// Makes a request that commits an offset of partition 0, of a client that is no member.
#[must_use]
pub fn commit(group: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: StrBytes::from(topic),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                committed_leader_epoch: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Finds a group's coordinator, and waits until it is loaded.
///
/// # Errors
/// An error of the client, or a coordinator that is on another node or on none.
pub async fn find_coordinator(client: &mut Connection, group: &str) -> Result<()> {
    let request = highwater_client::find_coordinator(group);
    let answer = client.call(&request, 6).await?;
    let found = answer.coordinators.first().context("one is answered")?;
    ensure!((found.error_code, found.node_id) == (0, 1), "{found:?}");
    let describe = DescribeGroupsRequest {
        groups: vec![StrBytes::from(group)],
        ..Default::default()
    };
    let not_yet = [
        ErrorCode::CoordinatorLoadInProgress.code(),
        ErrorCode::NotCoordinator.code(),
    ];
    loop {
        let answer = client.call(&describe, 5).await?;
        if !not_yet.contains(&answer.groups[0].error_code) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
