//! Lines 21 and 22 of docs/KAFKA-BEHAVIOUR.md: offsets by time, by epoch and by name.

use anyhow::Result;
use highwater_broker::node::Machine;
use highwater_client::Connection;
use highwater_protocol::messages::create_topics_request::CreatableTopic;
use highwater_protocol::messages::list_offsets_request::ListOffsetsPartition;
use highwater_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use highwater_protocol::messages::{CreateTopicsRequest, OffsetForLeaderEpochRequest};
use highwater_protocol::records::{BatchBuilder, BatchHeader};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_tests::{TestNode, offset_at};

use super::{T0, batch};

async fn look(client: &mut Connection, timestamp: i64, version: i16) -> Result<(i16, i64, i64)> {
    let answer = client.call(&offset_at("t", timestamp), version).await?;
    let found = &answer.topics[0].partitions[0];
    Ok((found.error_code, found.offset, found.timestamp))
}

// KAFKA-BEHAVIOUR 21
#[tokio::test(flavor = "multi_thread")]
async fn special_timestamps_need_the_version_that_brought_them() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(10, T0)).await?;
    client.produce("t", 0, batch(5, T0 - 1000)).await?;
    for (timestamp, since, offset, at) in [
        (-1, 1, 15, -1),
        (-2, 1, 0, -1),
        (-3, 7, 9, T0 + 9),
        (-4, 8, 0, -1),
        (-5, 9, -1, -1),
        (-6, 11, -1, -1),
    ] {
        for version in 1..=11 {
            let found = look(&mut client, timestamp, version).await?;
            if version >= since {
                assert_eq!(found, (0, offset, at), "{timestamp} in version {version}");
            } else {
                assert_eq!(
                    found.0,
                    ErrorCode::UnsupportedVersion.code(),
                    "{timestamp} in {version}"
                );
            }
        }
    }
    Ok(())
}

// KAFKA-BEHAVIOUR 21
#[tokio::test(flavor = "multi_thread")]
async fn by_time_the_first_record_in_offset_order_counts() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(10, T0)).await?;
    client.produce("t", 0, batch(10, T0 - 1000)).await?;
    client.produce("t", 0, batch(10, T0 + 1000)).await?;
    assert_eq!(look(&mut client, T0 + 5, 7).await?, (0, 5, T0 + 5));
    assert_eq!(
        look(&mut client, T0 - 995, 7).await?,
        (0, 0, T0),
        "offset order, not time order"
    );
    assert_eq!(look(&mut client, T0 + 1003, 7).await?, (0, 23, T0 + 1003));
    assert_eq!(look(&mut client, T0 + 9999, 7).await?, (0, -1, -1));
    let mut twice = offset_at("t", -1);
    let partition = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(partition);
    let answer = client.call(&twice, 7).await?;
    let codes: Vec<i16> = answer.topics[0]
        .partitions
        .iter()
        .map(|one| one.error_code)
        .collect();
    assert_eq!(
        codes,
        [ErrorCode::InvalidRequest.code()],
        "told once, as Kafka does"
    );
    Ok(())
}

// KAFKA-BEHAVIOUR 22
#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_have_their_ends() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(10, T0)).await?;
    // A restart begins another epoch.
    let dir = node.stop().await?;
    let machine = Machine::real();
    let node = TestNode::start_in(dir, &[], machine).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(7, T0)).await?;
    let mut epochs = Vec::new();
    for offset in [0, 10] {
        let (_, records) = highwater_tests::read(&mut client, "t", offset).await?;
        epochs.push(BatchHeader::read(&records)?.leader_epoch);
    }
    let (first, second) = (epochs[0], epochs[1]);
    assert!(first < second, "{first} {second}");
    let ask = |epoch| OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: -1,
                leader_epoch: epoch,
            }],
        }],
    };
    for (epoch, expected) in [
        (second, (second, 17)),
        (first, (first, 10)),
        (second + 1, (-1, -1)),
    ] {
        let answer = client.call(&ask(epoch), 4).await?;
        let found = &answer.topics[0].partitions[0];
        assert_eq!(
            (found.leader_epoch, found.end_offset),
            expected,
            "epoch {epoch}"
        );
    }
    Ok(())
}

/// Makes one batch with a record at each of these times.
fn at_times(times: &[i64]) -> Result<bytes::Bytes> {
    let mut builder = BatchBuilder::default();
    for time in times {
        builder.push(*time, None, Some(b"value"));
    }
    Ok(builder.build()?)
}

// The first record of that time in the batch may be below the log start; the search then goes on after it.
#[tokio::test(flavor = "multi_thread")]
async fn by_time_a_record_below_the_start_does_not_hide_later_ones() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, at_times(&[100, 10])?).await?;
    client.produce("t", 0, at_times(&[200, 210])?).await?;
    assert_eq!(look(&mut client, 50, 7).await?, (0, 0, 100));
    super::admin::delete_records(&mut client, "t", 1).await?;
    assert_eq!(look(&mut client, 50, 7).await?, (0, 2, 200));
    assert_eq!(look(&mut client, 5, 7).await?, (0, 1, 10));
    super::admin::delete_records(&mut client, "t", 3).await?;
    assert_eq!(look(&mut client, 50, 7).await?, (0, 3, 210));
    assert_eq!(look(&mut client, 211, 7).await?, (0, -1, -1));
    Ok(())
}

// KAFKA-BEHAVIOUR 21: from memory, and from objects.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_time_is_that_of_what_is_left_after_a_restart() -> Result<()> {
    let mut node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    for times in [&[400][..], &[100, 300, 200], &[50], &[250, 250]] {
        client.produce("t", 0, at_times(times)?).await?;
    }
    assert_eq!(look(&mut client, -3, 7).await?, (0, 0, 400));
    for (start, told, expected) in [
        // The node remembers the appended timestamps of the active roll until a restart.
        (1, (0, 0, 400), (0, 2, 300)),
        // The batch of the largest timestamp is still in the log.
        (3, (0, 2, 300), (0, 2, 300)),
        (4, (0, 5, 250), (0, 5, 250)),
        (6, (0, 5, 250), (0, 5, 250)),
    ] {
        super::admin::delete_records(&mut client, "t", start).await?;
        assert_eq!(look(&mut client, -3, 7).await?, told, "{start}");
        node = TestNode::start_in(node.stop().await?, &[], Machine::real()).await?;
        client = node.client().await?;
        assert_eq!(look(&mut client, -3, 7).await?, expected, "{start}, again");
    }
    Ok(())
}

// Apache Kafka 4.4 answers so: its active segment exists even though none of its records can be read.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_time_is_told_though_everything_is_deleted() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[("segment.bytes", "1048576")])
        .await?;
    let mut client = node.client().await?;
    client.produce("t", 0, at_times(&[10, 20, 30])?).await?;
    super::admin::delete_records(&mut client, "t", 3).await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, 2, 30));
    client.produce("t", 0, at_times(&[25, 30])?).await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, 2, 30), "the first");
    client.produce("t", 0, at_times(&[31])?).await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, 5, 31));
    super::admin::delete_records(&mut client, "t", 6).await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, 5, 31));
    // A roll begins, and the one before it is removed.
    let mut large = BatchBuilder::default();
    large.push(7, None, Some(&[0; 1_048_300]));
    client.produce("t", 0, large.build()?).await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, 6, 7));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_of_records_without_a_time_is_the_first() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, -1, -1));
    client.produce("t", 0, at_times(&[-1, -1])?).await?;
    assert_eq!(look(&mut client, -3, 7).await?, (0, 0, -1));
    assert_eq!(look(&mut client, 0, 7).await?, (0, -1, -1));
    Ok(())
}

// Time is proportional to the number of entries; if it were quadratic, this test would take minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_partitions_are_looked_up_in_proportion() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let mut request = highwater_tests::latest("t");
    let one = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = vec![one.clone(); 100_000];
    let answer = client.call(&request, 10).await?;
    let told = &answer.topics[0].partitions;
    assert_eq!(told.len(), 1, "what is asked twice is refused once");
    assert_eq!(told[0].error_code, ErrorCode::InvalidRequest.code());
    let others = (0..100_000).map(|partition_index| ListOffsetsPartition {
        partition_index,
        ..one.clone()
    });
    request.topics[0].partitions = others.collect();
    let answer = client.call(&request, 10).await?;
    assert_eq!(answer.topics[0].partitions.len(), 100_000);
    let names = (0..30_000).map(|number| CreatableTopic {
        // Some names are sent twice, and none is valid.
        name: StrBytes::from(format!("not allowed {}", number % 22_500)),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    });
    let create = CreateTopicsRequest {
        topics: names.collect(),
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = client.call(&create, 7).await?;
    assert_eq!(answer.topics.len(), 22_500);
    Ok(())
}
