//! Consumers that are far behind read from a replica in their rack (KIP-392).

use anyhow::{Result, ensure};
use highwater_client::{Connection, create_topics, new_topic};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use highwater_protocol::messages::fetch_response::PartitionData;
use highwater_protocol::messages::{FetchRequest, FetchResponse};
use highwater_protocol::records::split_batches;
use highwater_tests::{Cluster, T0, batch, large_batch, until};

use crate::served::delete_records;

const BATCH_BYTES: usize = 512 << 10;
const BATCHES: i64 = 12;
/// Broker 1 is in rack `a`, broker 2 in `b`.
const SETTINGS: [(&str, &str); 4] = [
    ("auto.leader.rebalance.enable", "false"),
    ("broker.rack", "a"),
    ("broker.session.timeout.ms", "600000"),
    (
        "replica.selector.class",
        "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    ),
];
/// The last version of Fetch that names topics.
const VERSION: i16 = 12;

async fn produce(client: &mut Connection, batch: bytes::Bytes) -> Result<i64> {
    let answer = client.produce("t", 0, batch).await?;
    ensure!(answer.error_code == 0, "{answer:?}");
    Ok(answer.base_offset)
}

/// A cluster whose broker 2 leads the only partition of `t`, with all its records in objects and none in memory.
async fn cold() -> Result<Cluster> {
    let mut cluster = Cluster::start(1, &SETTINGS).await?;
    cluster
        .start_broker_with(2, &[("broker.rack".to_owned(), "b".to_owned())])
        .await?;
    let mut topic = new_topic("t", -1, &[]);
    topic.replication_factor = -1;
    topic.assignments = vec![CreatableReplicaAssignment {
        partition_index: 0,
        broker_ids: vec![1, 2],
    }];
    until("broker 1 knows the other one", async || {
        let mut client = cluster.client(1).await?;
        let view = client
            .call(&highwater_client::describe_all_topics(), 9)
            .await?;
        Ok(view.brokers.len() == 2)
    })
    .await?;
    let mut client = cluster.client(1).await?;
    let answer = client.call(&create_topics(vec![topic]), 7).await?;
    ensure!(answer.topics[0].error_code == 0, "{answer:?}");
    for _ in 0..BATCHES {
        produce(&mut client, large_batch(BATCH_BYTES, T0)).await?;
    }
    drop(client);
    cluster.stop_broker(1).await?;
    cluster.start_broker(1).await?;
    until("broker 1 knows that broker 2 leads", async || {
        Ok(crate::served::leaders(&cluster, 1).await?[&0].0 == 2)
    })
    .await?;
    // its own image has that, and the leader's may lag behind
    until("broker 2 knows that broker 1 has recovered", async || {
        sends_to(&fetch(&cluster, 2, 0, "a").await?, 1)
    })
    .await?;
    Ok(cluster)
}

/// A fetch that waits for objects which are being read.
fn ask(offset: i64, rack: &str) -> FetchRequest {
    let mut request = highwater_tests::fetch("t", offset, 1 << 20);
    request.rack_id = rack.into();
    (request.max_wait_ms, request.min_bytes) = (10_000, 1);
    request
}

async fn fetch(cluster: &Cluster, by: i32, offset: i64, rack: &str) -> Result<PartitionData> {
    let mut client = cluster.client(by).await?;
    of(client.call(&ask(offset, rack), VERSION).await?)
}

fn of(mut answer: FetchResponse) -> Result<PartitionData> {
    ensure!(
        answer.error_code == 0 && answer.responses.len() == 1,
        "{answer:?}"
    );
    Ok(answer.responses.remove(0).partitions.remove(0))
}

/// The offset after the records of an answer, if it has some.
fn end_of(data: &PartitionData) -> Result<Option<i64>> {
    let records = data
        .records
        .clone()
        .map(highwater_protocol::Records::into_bytes);
    let batches = split_batches(&records.unwrap_or_default())?;
    let last = batches.last().map(|(header, _)| header);
    Ok(last.map(|header| header.base_offset + i64::from(header.last_offset_delta) + 1))
}

/// Whether an answer sends the consumer to a broker, without records.
fn sends_to(data: &PartitionData, broker: i32) -> Result<bool> {
    let has_none = end_of(data)?.is_none();
    Ok(data.error_code == 0 && data.preferred_read_replica == broker && has_none)
}

// KAFKA-BEHAVIOUR 32
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_old_records_in_its_rack_and_the_last_ones_from_the_leader() -> Result<()>
{
    let cluster = cold().await?;
    let sent = fetch(&cluster, 2, 0, "a").await?;
    ensure!(sends_to(&sent, 1)?, "{sent:?}");
    let mut offset = 0;
    while offset < BATCHES {
        let data = fetch(&cluster, 1, offset, "a").await?;
        ensure!(
            data.error_code == 0 && data.preferred_read_replica == -1,
            "{data:?}"
        );
        ensure!(data.high_watermark == BATCHES && data.last_stable_offset == BATCHES);
        offset = end_of(&data)?.unwrap_or(offset);
    }
    let mut leader = cluster.client(2).await?;
    ensure!(produce(&mut leader, batch(1, T0)).await? == BATCHES);
    // broker 1 has it once it is uploaded
    let back = fetch(&cluster, 1, BATCHES, "a").await?;
    ensure!(
        sends_to(&back, 2)? || end_of(&back)? == Some(BATCHES + 1),
        "{back:?}"
    );
    let last = fetch(&cluster, 2, BATCHES, "a").await?;
    ensure!(end_of(&last)? == Some(BATCHES + 1), "{last:?}");
    // not far behind: the leader reads the objects itself
    let near = fetch(&cluster, 2, BATCHES - 2, "a").await?;
    ensure!(end_of(&near)?.is_some(), "{near:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_serves_consumers_of_its_own_rack_and_of_none() -> Result<()> {
    let cluster = cold().await?;
    for rack in ["b", "", "c"] {
        let data = fetch(&cluster, 2, 0, rack).await?;
        ensure!(
            data.preferred_read_replica == -1 && end_of(&data)?.is_some(),
            "{rack}: {data:?}"
        );
    }
    // clients without the field are not sent anywhere, and are refused by a broker that does not lead
    let mut client = cluster.client(2).await?;
    let data = of(client.call(&ask(0, "a"), 10).await?)?;
    ensure!(end_of(&data)?.is_some(), "{data:?}");
    let mut client = cluster.client(1).await?;
    let data = of(client.call(&ask(0, "a"), 10).await?)?;
    ensure!(
        data.error_code == ErrorCode::NotLeaderOrFollower.code(),
        "{data:?}"
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_sends_consumers_that_it_cannot_serve_to_the_leader() -> Result<()> {
    let cluster = cold().await?;
    let mut leader = cluster.client(2).await?;
    delete_records(&mut leader, 0, 3).await?;
    // the leader alone says that an offset is out of range: clients may stay at a replica that does
    until("broker 1 knows what is deleted", async || {
        sends_to(&fetch(&cluster, 1, 2, "a").await?, 2)
    })
    .await?;
    let data = fetch(&cluster, 2, 2, "a").await?;
    ensure!(
        data.error_code == ErrorCode::OffsetOutOfRange.code(),
        "{data:?}"
    );
    let data = fetch(&cluster, 1, 3, "a").await?;
    ensure!(
        data.log_start_offset == 3 && end_of(&data)?.is_some(),
        "{data:?}"
    );
    for (epoch, code) in [
        (0, ErrorCode::FencedLeaderEpoch),
        (9, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = ask(3, "a");
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let data = of(cluster.client(1).await?.call(&request, VERSION).await?)?;
        ensure!(data.error_code == code.code(), "{data:?}");
    }
    // without a rack it has no reason to be here
    let data = fetch(&cluster, 1, 3, "").await?;
    ensure!(
        data.error_code == ErrorCode::NotLeaderOrFollower.code(),
        "{data:?}"
    );
    cluster.stop().await
}

// a replica that does not answer, or sends the consumer back, must not keep it from what the leader can read
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_comes_back_for_the_same_offset_is_served_by_the_leader() -> Result<()> {
    let cluster = cold().await?;
    let mut leader = cluster.client(2).await?;
    let mut request = ask(0, "a");
    // KIP-227: an incremental answer has the partition, although nothing in it has changed but where to read
    request.session_epoch = 0;
    let first = leader.call(&request, VERSION).await?;
    request.session_id = first.session_id;
    ensure!(first.session_id != 0 && sends_to(&of(first)?, 1)?);
    request.session_epoch = 1;
    request.topics.clear();
    let data = of(leader.call(&request, VERSION).await?)?;
    ensure!(data.preferred_read_replica == -1, "{data:?}");
    let end = end_of(&data)?;
    let next = end.ok_or_else(|| anyhow::anyhow!("it has records: {data:?}"))?;
    let mut request = ask(next, "a");
    request.session_id = 0;
    let data = of(leader.call(&request, VERSION).await?)?;
    ensure!(
        end_of(&data)?.is_some(),
        "it is served for a while: {data:?}"
    );
    // another consumer is sent there all the same
    ensure!(sends_to(&fetch(&cluster, 2, 0, "a").await?, 1)?);
    cluster.stop().await
}
