//! A broker dies with its disk, and the others serve every record that it acknowledged (rules E4, E7, W7 to W9).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use highwater_client::Connection;
use highwater_protocol::messages::MetadataRequest;
use highwater_tests::{
    Cluster, T0, fetch, latest, offset_at, producer_batch, producer_fields, producer_id, records,
    until,
};

const PARTITIONS: i32 = 3;

/// The leaders of the partitions of `t`, as a broker knows them; -1 without one.
async fn leaders(cluster: &Cluster, asked: i32) -> Result<BTreeMap<i32, i32>> {
    let mut client = cluster.client(asked).await?;
    let ask = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let metadata = client.call(&ask, 9).await?;
    let topics = metadata.topics.iter();
    let topic = topics.filter(|topic| topic.name.as_deref() == Some("t"));
    let partitions = topic.flat_map(|topic| &topic.partitions);
    let leaders = partitions.map(|one| (one.partition_index, one.leader_id));
    Ok(leaders.collect())
}

/// Waits until live brokers lead all partitions of `t`, as every one of these brokers knows.
async fn led_by(cluster: &Cluster, live: &[i32]) -> Result<BTreeMap<i32, i32>> {
    let mut found = BTreeMap::new();
    until("live brokers lead every partition", async || {
        for asked in live {
            found = leaders(cluster, *asked).await?;
            let all = found.values().all(|leader| live.contains(leader));
            if found.len() != usize::try_from(PARTITIONS)? || !all {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(found)
}

/// Sends one record, and returns its offset; repeats that until the broker leads the partition.
async fn send(client: &mut Connection, partition: i32, id: i64, sequence: i32) -> Result<i64> {
    let timestamp = T0 + i64::from(sequence);
    for _ in 0..1000 {
        let batch = producer_batch(1, timestamp, producer_fields(id, sequence));
        let answer = client.produce("t", partition, batch).await?;
        match answer.error_code {
            0 => return Ok(answer.base_offset),
            // NOT_LEADER_OR_FOLLOWER: the broker is still opening the partition
            6 => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            code => anyhow::bail!("error code {code}"),
        }
    }
    anyhow::bail!("the broker does not lead the partition")
}

/// Checks that a partition has exactly these many records, one in each batch, in order.
async fn holds(client: &mut Connection, partition: i32, count: i64) -> Result<()> {
    let mut ask = latest("t");
    ask.topics[0].partitions[0].partition_index = partition;
    let answer = client.call(&ask, 10).await?;
    let answer = &answer.topics[0].partitions[0];
    ensure!(
        (answer.error_code, answer.offset) == (0, count),
        "{answer:?}"
    );
    for offset in 0..count {
        let mut ask = fetch("t", offset, 1);
        ask.topics[0].partitions[0].partition = partition;
        let answer = client.call(&ask, 12).await?;
        let code = answer.responses[0].partitions[0].error_code;
        let batch = records(&answer, 0, 0);
        let base = batch.first_chunk().map(|base| i64::from_be_bytes(*base));
        ensure!(
            (code, base) == (0, Some(offset)),
            "{code} {base:?} at {offset}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivors_serve_every_record_of_a_broker_that_died_with_its_disk() -> Result<()> {
    let mut cluster = Cluster::start(3, &[]).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2, 3]).await?;
    let spread: std::collections::BTreeSet<_> = before.values().collect();
    assert_eq!(
        spread.len(),
        3,
        "leaders are spread at creation: {before:?}"
    );
    let id = producer_id(&mut cluster.client(1).await?).await?;
    for (partition, leader) in &before {
        let mut client = cluster.client(*leader).await?;
        for sequence in 0..20 {
            let offset = send(&mut client, *partition, id, sequence).await?;
            assert_eq!(offset, i64::from(sequence));
        }
    }

    cluster.kill(2).await;
    let after = led_by(&cluster, &[1, 3]).await?;
    for (partition, leader) in &after {
        let moved = before[partition] == 2;
        assert!(
            moved || before[partition] == *leader,
            "only the dead broker's partitions move"
        );
        let mut client = cluster.client(*leader).await?;
        // I6: what the producer repeats is known, and it goes on
        assert_eq!(send(&mut client, *partition, id, 19).await?, 19);
        assert_eq!(send(&mut client, *partition, id, 20).await?, 20);
        holds(&mut client, *partition, 21).await?;
        let mut ask = offset_at("t", T0 + 7);
        ask.topics[0].partitions[0].partition_index = *partition;
        let answer = client.call(&ask, 10).await?;
        assert_eq!(answer.topics[0].partitions[0].offset, 7);
    }

    // the node comes back with an empty disk, as a new epoch, and is useful again
    cluster.start_broker(2).await?;
    cluster.kill(1).await;
    let last = led_by(&cluster, &[2, 3]).await?;
    assert!(last.values().any(|leader| *leader == 2), "{last:?}");
    for (partition, leader) in &last {
        let mut client = cluster.client(*leader).await?;
        assert_eq!(send(&mut client, *partition, id, 21).await?, 21);
        holds(&mut client, *partition, 22).await?;
    }
    cluster.stop().await
}

// E2, E7: a clean stop says that it ends, so that nobody waits for a session
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_broker_that_stops_go_to_others_and_an_epoch_that_never_wrote_is_sealed()
-> Result<()> {
    // no session ends by itself in this test
    let session = [("broker.session.timeout.ms", "600000")];
    let mut cluster = Cluster::start(2, &session).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    led_by(&cluster, &[1, 2]).await?;
    cluster.stop_broker(2).await?;
    let after = led_by(&cluster, &[1]).await?;
    assert!(after.values().all(|leader| *leader == 1));
    let mut client = cluster.client(1).await?;
    let id = producer_id(&mut client).await?;
    for partition in 0..PARTITIONS {
        assert_eq!(send(&mut client, partition, id, 0).await?, 0);
    }
    let index = std::fs::read_dir(cluster.objects())?.next();
    index.context("there are objects")??;
    cluster.stop().await
}
