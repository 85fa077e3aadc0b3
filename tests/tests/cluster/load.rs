//! Leaderships spread by load (E4): heavy partitions that one broker leads go to several.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use highwater_tests::{Cluster, T0, large_batch, until};

use crate::served::{PARTITIONS, leaders, led_by};

const BATCH_BYTES: usize = 512 << 10;

/// Writes a batch to a partition of `t`, if the broker that led it still leads it.
async fn write(cluster: &Cluster, (partition, leader): (i32, i32)) -> Result<bool> {
    let mut client = cluster.client(leader).await?;
    let request = highwater_client::produce(
        &highwater_client::Topic::from("t"),
        [(partition, large_batch(BATCH_BYTES, T0))],
        -1,
    );
    let answer = client.call(&request, 10).await?;
    let code = answer.responses[0].partition_responses[0].error_code;
    ensure!([0, 6].contains(&code), "error code {code}");
    Ok(code == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_heavy_partitions_of_one_broker_are_parted() -> Result<()> {
    let settings = [("leader.imbalance.check.interval.seconds", "1")];
    let cluster = Cluster::start(2, &settings).await?;
    cluster.create_topic(2, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2]).await?;
    let of = |id: i32| before.iter().filter(move |(_, (leader, _))| *leader == id);
    let most = (1..=2)
        .max_by_key(|id| of(*id).count())
        .context("two brokers")?;
    let heavy: Vec<i32> = of(most).map(|(partition, _)| *partition).collect();
    ensure!(heavy.len() == 2, "{before:?}");
    until("two brokers lead the heavy partitions", async || {
        let now = leaders(&cluster, 1).await?;
        let mut led = BTreeSet::new();
        for partition in &heavy {
            let (leader, _) = now.get(partition).context("it is there")?;
            if *leader >= 0 {
                write(&cluster, (*partition, *leader)).await?;
                led.insert(*leader);
            }
        }
        Ok(led.len() == 2)
    })
    .await?;
    cluster.stop().await
}
