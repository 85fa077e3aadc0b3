//! What clients ask a cluster for, and the checks of its answers. The record with the offset n of each partition of `t`
//! has the sequence n and the timestamp `T0 + n`, and is a batch of its own.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use highwater_client::Connection;
use highwater_protocol::StrBytes;
use highwater_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use highwater_protocol::messages::{
    DeleteRecordsRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
};
use highwater_protocol::records::split_batches;
use highwater_tests::{
    Cluster, T0, commit, fetch, latest, offset_at, producer_batch, producer_fields, records, until,
};

/// The number of partitions of `t`.
pub(crate) const PARTITIONS: i32 = 3;

/// The leaders of the partitions of `t` and their epochs, as a broker knows them; -1 without one.
pub(crate) async fn leaders(cluster: &Cluster, asked: i32) -> Result<BTreeMap<i32, (i32, i32)>> {
    let mut client = cluster.client(asked).await?;
    let ask = highwater_client::describe_all_topics();
    let metadata = client.call(&ask, 9).await?;
    let topics = metadata.topics.iter();
    let topic = topics.filter(|topic| topic.name.as_deref() == Some("t"));
    let partitions = topic.flat_map(|topic| &topic.partitions);
    let leaders = partitions.map(|one| (one.partition_index, (one.leader_id, one.leader_epoch)));
    Ok(leaders.collect())
}

/// Waits until live brokers lead all partitions of `t`, as every one of these brokers knows.
pub(crate) async fn led_by(cluster: &Cluster, live: &[i32]) -> Result<BTreeMap<i32, (i32, i32)>> {
    let mut found = BTreeMap::new();
    until("live brokers lead every partition", async || {
        for asked in live {
            found = leaders(cluster, *asked).await?;
            let all = found.values().all(|(leader, _)| live.contains(leader));
            if found.len() != usize::try_from(PARTITIONS)? || !all {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(found)
}

/// The batch that has this sequence.
pub(crate) fn batch_of(id: i64, sequence: i32) -> Bytes {
    producer_batch(1, T0 + i64::from(sequence), producer_fields(id, sequence))
}

/// Sends one record, and returns its offset; repeats that until the broker leads the partition.
pub(crate) async fn send(
    client: &mut Connection,
    partition: i32,
    id: i64,
    sequence: i32,
) -> Result<i64> {
    for _ in 0..1000 {
        let answer = client.produce("t", partition, batch_of(id, sequence));
        let answer = answer.await?;
        match answer.error_code {
            0 => return Ok(answer.base_offset),
            // NOT_LEADER_OR_FOLLOWER: the broker is still opening the partition
            6 => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            code => bail!("error code {code}"),
        }
    }
    bail!("the broker does not lead the partition")
}

/// Checks that a partition ends at the end of these offsets and has each of them once, in order.
pub(crate) async fn holds(
    client: &mut Connection,
    partition: i32,
    id: i64,
    offsets: Range<i64>,
) -> Result<()> {
    let mut ask = latest("t");
    ask.topics[0].partitions[0].partition_index = partition;
    let answer = client.call(&ask, 10).await?;
    let answer = &answer.topics[0].partitions[0];
    ensure!(
        (answer.error_code, answer.offset) == (0, offsets.end),
        "{answer:?} and not {offsets:?}"
    );
    let mut next = offsets.start;
    while next < offsets.end {
        let mut ask = fetch("t", next, 1 << 20);
        ask.topics[0].partitions[0].partition = partition;
        let answer = client.call(&ask, 12).await?;
        let code = answer.responses[0].partitions[0].error_code;
        ensure!(code == 0, "error code {code} at {next}");
        for (header, _) in split_batches(&records(&answer, 0, 0))? {
            let found = (
                header.base_offset,
                i64::from(header.base_sequence),
                header.base_timestamp,
            );
            ensure!(
                found == (next, next, T0 + next) && header.producer_id == id,
                "{header:?} at {next}"
            );
            next += i64::from(header.count);
        }
    }
    if !offsets.is_empty() {
        // a lookup by time finds each record
        let middle = offsets.start + (offsets.end - offsets.start) / 2;
        let mut ask = offset_at("t", T0 + middle);
        ask.topics[0].partitions[0].partition_index = partition;
        let answer = client.call(&ask, 10).await?;
        let found = answer.topics[0].partitions[0].offset;
        ensure!(found == middle, "{found} is not {middle}");
    }
    Ok(())
}

/// The end of a leader epoch of a partition, as OffsetForLeaderEpoch tells it, with the epoch that it found.
pub(crate) async fn end_of_epoch(
    client: &mut Connection,
    partition: i32,
    leader_epoch: i32,
) -> Result<(i32, i64)> {
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch: -1,
                leader_epoch,
            }],
        }],
    };
    let answer = client.call(&request, 4).await?;
    let found = &answer.topics[0].partitions[0];
    ensure!(found.error_code == 0, "{found:?}");
    Ok((found.leader_epoch, found.end_offset))
}

/// Deletes the records of a partition below an offset; returns the error and the low watermark.
pub(crate) async fn delete_records(
    client: &mut Connection,
    partition: i32,
    offset: i64,
) -> Result<(i16, i64)> {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    };
    let answer = client.call(&request, 2).await?;
    let told = &answer.topics[0].partitions[0];
    Ok((told.error_code, told.low_watermark))
}

/// The error codes after which a client looks for its coordinator again: it is being loaded, none is there, or another
/// broker has it.
const ELSEWHERE: [i16; 3] = [14, 15, 16];

/// The coordinator of a group, as a broker knows it; `None` while there is none.
async fn coordinator(cluster: &Cluster, asked: i32, group: &str) -> Result<Option<Connection>> {
    let request = highwater_client::find_coordinator(group);
    // a broker that finds that it was fenced closes its connections, and starts again
    let Ok(mut client) = cluster.client(asked).await else {
        return Ok(None);
    };
    let Ok(answer) = client.call(&request, 6).await else {
        return Ok(None);
    };
    let found = answer.coordinators.first().context("one is answered")?;
    if found.error_code != 0 {
        return Ok(None);
    }
    // a broker that has just died may be told still
    Ok(match cluster.is_running(found.node_id) {
        true => cluster.client(found.node_id).await.ok(),
        false => None,
    })
}

/// Commits an offset for a group, once it has a coordinator.
pub(crate) async fn commit_offset(
    cluster: &Cluster,
    asked: i32,
    group: &str,
    offset: i64,
) -> Result<()> {
    until("an offset is committed", async || {
        let Some(mut client) = coordinator(cluster, asked, group).await? else {
            return Ok(false);
        };
        let Ok(answer) = client.call(&commit(group, "t", offset), 8).await else {
            return Ok(false);
        };
        let code = answer.topics[0].partitions[0].error_code;
        ensure!(code == 0 || ELSEWHERE.contains(&code), "error code {code}");
        Ok(code == 0)
    })
    .await
}

/// The offset that a group has committed, once it has a coordinator.
pub(crate) async fn committed_offset(cluster: &Cluster, asked: i32, group: &str) -> Result<i64> {
    let mut offset = -1;
    until("committed offsets are known", async || {
        let Some(mut client) = coordinator(cluster, asked, group).await? else {
            return Ok(false);
        };
        let request = OffsetFetchRequest {
            group_id: StrBytes::from(group),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "t".into(),
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        };
        let Ok(answer) = client.call(&request, 5).await else {
            return Ok(false);
        };
        let code = answer.error_code;
        ensure!(code == 0 || ELSEWHERE.contains(&code), "error code {code}");
        let topic = answer.topics.first();
        offset = topic.map_or(-1, |topic| topic.partitions[0].committed_offset);
        Ok(code == 0)
    })
    .await?;
    Ok(offset)
}
