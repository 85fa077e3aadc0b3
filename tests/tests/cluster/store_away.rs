//! Brokers on the object WAL that don't reach the store: one alone is fenced, and none while it is away for all (rule E8).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_object_storage::{Failure, Operation, Plan, Request};
use highwater_tests::{Cluster, produce_request, producer_id, until};

use crate::served::{PARTITIONS, batch_of, holds, leaders, led_by, send};
use crate::stores::Stores;

/// A broker that alone does not reach the store is fenced after three of these, and after 6 s at the earliest.
const SESSION: Duration = Duration::from_secs(1);
/// The records of each partition before the store goes.
const BEFORE: i32 = 5;

/// Puts hang, and all else fails at once.
fn away(request: &Request<'_>) -> Plan {
    match request.operation {
        Operation::Put { .. } => Plan::hang(),
        _ => Plan::fail(Failure::Failed("no connection")),
    }
}

/// Three brokers that lead a partition each, with some records.
async fn three(stores: &Stores) -> Result<(Cluster, i64, BTreeMap<i32, (i32, i32)>)> {
    let session = SESSION.as_millis().to_string();
    let settings = [
        ("highwater.object.storage", "memory:"),
        ("highwater.wal", "object"),
        ("broker.session.timeout.ms", &session),
    ];
    let cluster = Cluster::start_on(3, &settings, stores.machines()).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let led = led_by(&cluster, &[1, 2, 3]).await?;
    let id = producer_id(&mut cluster.client(1).await?).await?;
    for (partition, (leader, _)) in &led {
        let mut client = cluster.client(*leader).await?;
        for sequence in 0..BEFORE {
            send(&mut client, *partition, id, sequence).await?;
        }
    }
    Ok((cluster, id, led))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_alone_does_not_reach_the_store_leads_nothing_until_it_does() -> Result<()> {
    let stores = Stores::new(3);
    let (cluster, id, before) = three(&stores).await?;
    let led_by_it = before.iter().find(|(_, (leader, _))| *leader == 1);
    let (partition, _) = led_by_it.context("each leads one")?;
    stores.of(1).set_hook(away);
    // the others have nothing to put, and look at the store only because they are asked to
    let mut client = cluster.client(1).await?;
    let request = produce_request("t", *partition, batch_of(id, BEFORE), -1);
    let unanswered = client.send(&request, 12).await?;
    let after = led_by(&cluster, &[2, 3]).await?;
    drop((client, unanswered));
    for (partition, (leader, epoch)) in &after {
        if before[partition].0 != 1 {
            assert_eq!(before[partition], (*leader, *epoch), "it stays");
        }
        // what had no answer is sent again
        let mut client = cluster.client(*leader).await?;
        assert_eq!(send(&mut client, *partition, id, BEFORE).await?, 5);
        holds(&mut client, *partition, id, 0..6).await?;
    }

    stores.of(1).set_hook(|_| Plan::pass());
    until("it is back and leads its share", async || {
        let led = leaders(&cluster, 2).await?;
        Ok(led.values().any(|(leader, _)| *leader == 1))
    })
    .await?;
    for (partition, (leader, _)) in led_by(&cluster, &[1, 2, 3]).await? {
        let mut client = cluster.client(leader).await?;
        assert_eq!(send(&mut client, partition, id, BEFORE + 1).await?, 6);
        holds(&mut client, partition, id, 0..7).await?;
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_all_fences_nobody() -> Result<()> {
    let stores = Stores::new(3);
    let (cluster, id, before) = three(&stores).await?;
    for broker in 1..=3 {
        stores.of(broker).set_hook(away);
    }
    let mut clients = Vec::new();
    for (partition, (leader, _)) in &before {
        let mut client = cluster.client(*leader).await?;
        let request = produce_request("t", *partition, batch_of(id, BEFORE), -1);
        let unanswered = client.send(&request, 12).await?;
        clients.push((client, unanswered));
    }
    // longer than a broker alone would keep its partition
    tokio::time::sleep(SESSION * 8).await;
    for broker in 1..=3 {
        stores.of(broker).set_hook(|_| Plan::pass());
    }
    drop(clients);
    for (partition, (leader, _)) in &before {
        let mut client = cluster.client(*leader).await?;
        assert_eq!(send(&mut client, *partition, id, BEFORE).await?, 5);
        holds(&mut client, *partition, id, 0..6).await?;
    }
    assert_eq!(led_by(&cluster, &[1, 2, 3]).await?, before, "nothing moved");
    cluster.stop().await
}
