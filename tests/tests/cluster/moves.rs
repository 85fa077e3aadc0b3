//! Planned moves: a leader hands a partition over, and nothing that it acknowledged is lost or doubled (C1, C2, E4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_client::Connection;
use highwater_tests::{Cluster, producer_id, until};
use tokio::time::{Instant, sleep};

use crate::served::{
    PARTITIONS, batch_of, commit_offset, committed_offset, end_of_epoch, holds, leaders, led_by,
    send,
};

/// No session ends by itself, so that what moves is handed over.
const NO_SESSION_ENDS: (&str, &str) = ("broker.session.timeout.ms", "600000");
/// What a client may be told while a partition moves: NOT_LEADER_OR_FOLLOWER, after which it looks for the new leader.
const NOT_LEADER: i16 = 6;

/// What a producer saw while its partition moved.
struct Produced {
    /// The number of records that were acknowledged.
    count: i32,
    /// The longest time between two acknowledgements.
    gap: Duration,
}

/// Produces one record after the other to a partition of `t`, from a sequence on, until it is told to stop. It follows the
/// leaders that it is told, as clients do (KIP-951), and takes no other error.
async fn produce_on(
    addresses: &BTreeMap<i32, std::net::SocketAddr>,
    (partition, mut leader): (i32, i32),
    (id, mut sequence): (i64, i32),
    is_over: &AtomicBool,
) -> Result<Produced> {
    let mut clients: BTreeMap<i32, Connection> = BTreeMap::new();
    let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
    while !is_over.load(Ordering::SeqCst) {
        let client = match clients.entry(leader) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(highwater_tests::connect(addresses[&leader]).await?)
            }
        };
        let request = highwater_client::produce(
            &highwater_client::Topic::from("t"),
            [(partition, batch_of(id, sequence))],
            -1,
        );
        let answer = client.call(&request, 10).await?;
        let told = &answer.responses[0].partition_responses[0];
        match told.error_code {
            0 => {
                ensure!(
                    told.base_offset == i64::from(sequence),
                    "{told:?} at {sequence}"
                );
                sequence += 1;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
            NOT_LEADER => {
                let named = told.current_leader.leader_id;
                if named == leader || named < 0 {
                    sleep(Duration::from_millis(5)).await;
                } else {
                    leader = named;
                }
            }
            code => bail!("error code {code} at {sequence}"),
        }
    }
    Ok(Produced {
        count: sequence,
        gap,
    })
}

fn addresses(cluster: &Cluster, brokers: &[i32]) -> BTreeMap<i32, std::net::SocketAddr> {
    let addresses = brokers.iter().map(|id| (*id, cluster.address(*id)));
    addresses.collect()
}

/// A cluster of two brokers, and the leaders of `t`.
async fn two(settings: &[(&str, &str)]) -> Result<(Cluster, BTreeMap<i32, (i32, i32)>)> {
    let cluster = Cluster::start(2, settings).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2]).await?;
    let spread: BTreeSet<_> = before.values().map(|(leader, _)| leader).collect();
    ensure!(spread.len() == 2, "{before:?}");
    Ok((cluster, before))
}

/// Stops broker 2 while producers write to every partition; returns the longest gap that one of them saw.
async fn stop_under_load(settings: &[(&str, &str)]) -> Result<Duration> {
    let (mut cluster, before) = two(settings).await?;
    let id = producer_id(&mut cluster.client(1).await?).await?;
    commit_offset(&cluster, 1, "g", 7).await?;
    let (is_over, known) = (AtomicBool::new(false), addresses(&cluster, &[1, 2]));
    let producing = before.iter().map(|(partition, (leader, _))| {
        produce_on(&known, (*partition, *leader), (id, 0), &is_over)
    });
    let producing = futures::future::try_join_all(producing);
    let stopping = async {
        sleep(Duration::from_millis(300)).await;
        let moved = async |cluster: &Cluster| {
            until("the other broker leads all", async || {
                let now = leaders(cluster, 1).await?;
                Ok(now.values().all(|(leader, _)| *leader == 1))
            })
            .await
        };
        let stopped = cluster.stop_broker_while(2, moved).await;
        sleep(Duration::from_millis(300)).await;
        is_over.store(true, Ordering::SeqCst);
        stopped
    };
    let (produced, stopped) = tokio::join!(producing, stopping);
    let produced = produced.context("a producer saw an error")?;
    stopped?;
    let after = led_by(&cluster, &[1]).await?;
    let mut client = cluster.client(1).await?;
    for ((partition, (leader, epoch)), one) in before.iter().zip(&produced) {
        ensure!(one.count > 20, "only {} records", one.count);
        holds(&mut client, *partition, id, 0..i64::from(one.count)).await?;
        // one move each: nothing was sealed and given away
        let moves = i32::from(*leader == 2);
        ensure!(after[partition].1 == epoch + moves, "{before:?} {after:?}");
        if *leader == 2 {
            let (found, end) = end_of_epoch(&mut client, *partition, *epoch).await?;
            ensure!(
                found == *epoch && end > 0 && end <= one.count.into(),
                "{end}"
            );
        }
    }
    ensure!(committed_offset(&cluster, 1, "g").await? == 7);
    cluster.stop().await?;
    let gaps = produced.iter().map(|one| one.gap);
    gaps.max().context("there are partitions")
}

// A5, C1, C2: no client sees an error but that another broker leads
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_hands_its_partitions_over_while_they_are_written() -> Result<()> {
    let gap = stop_under_load(&[NO_SESSION_ENDS]).await?;
    println!("longest gap with the object WAL: {gap:?}");
    Ok(())
}

// E4: otherwise the partitions would wait for the node
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_the_disk_wal_hands_its_partitions_over_too() -> Result<()> {
    let gap = stop_under_load(&[NO_SESSION_ENDS, ("highwater.wal", "disk")]).await?;
    println!("longest gap with the disk WAL: {gap:?}");
    Ok(())
}

// E4: a broker that comes leads its share, and dies afterwards with everything that was moved to it
#[tokio::test(flavor = "multi_thread")]
async fn a_new_broker_leads_its_share_and_what_moved_survives_its_death() -> Result<()> {
    let settings = [("leader.imbalance.check.interval.seconds", "1")];
    let mut cluster = Cluster::start(1, &settings).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1]).await?;
    let id = producer_id(&mut cluster.client(1).await?).await?;
    let mut client = cluster.client(1).await?;
    for partition in before.keys() {
        for sequence in 0..5 {
            send(&mut client, *partition, id, sequence).await?;
        }
    }
    cluster.start_broker(2).await?;
    until("the new broker leads its share", async || {
        let now = leaders(&cluster, 1).await?;
        Ok(now.values().any(|(leader, _)| *leader == 2))
    })
    .await?;
    let now = led_by(&cluster, &[1, 2]).await?;
    for (partition, (leader, epoch)) in &now {
        ensure!(
            *epoch == before[partition].1 + i32::from(*leader == 2),
            "{now:?}"
        );
        let mut client = cluster.client(*leader).await?;
        // I6: the producer's state moved too
        ensure!(send(&mut client, *partition, id, 4).await? == 4);
        ensure!(send(&mut client, *partition, id, 5).await? == 5);
    }
    // the first leader dies while its log still has what it handed over; then the second one comes back to nothing
    cluster.kill(1).await;
    let last = led_by(&cluster, &[2]).await?;
    for partition in last.keys() {
        let mut client = cluster.client(2).await?;
        ensure!(send(&mut client, *partition, id, 5).await? == 5);
        holds(&mut client, *partition, id, 0..6).await?;
    }
    cluster.start_broker(1).await?;
    cluster.kill(2).await;
    for partition in led_by(&cluster, &[1]).await?.keys() {
        let mut client = cluster.client(1).await?;
        ensure!(send(&mut client, *partition, id, 6).await? == 6);
        holds(&mut client, *partition, id, 0..7).await?;
    }
    cluster.stop().await
}
