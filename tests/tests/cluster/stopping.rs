//! A broker is told to stop while its object store is away (rules A5, E2, W7).

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use highwater_object_storage::{Failure, Operation, Plan, Request, RequestKind};
use highwater_protocol::messages::{MetadataRequest, MetadataRequestTopic};
use highwater_tests::{Cluster, produce_request, producer_id, until};
use tokio::time::timeout;

use crate::served::{PARTITIONS, batch_of, holds, led_by, send};
use crate::stores::Stores;

/// The broker that is told to stop.
const STOPPED: i32 = 1;
/// The records of each of its partitions that it has acknowledged before.
const BEFORE: i32 = 20;
/// Longer than any wait that ends.
const NEVER: Duration = Duration::from_secs(60);

/// What becomes of a request to the store during an outage.
type Outage = fn(&Request<'_>) -> Plan;

fn refused(_request: &Request<'_>) -> Plan {
    Plan::fail(Failure::Failed("503"))
}

fn without_answer(_request: &Request<'_>) -> Plan {
    Plan::hang()
}

/// The log has what was put, but the broker can't know that.
fn applied_without_answer(request: &Request<'_>) -> Plan {
    match request.operation {
        Operation::Put { .. } => Plan::pass().answered(Failure::Unknown),
        _ => Plan::fail(Failure::Failed("503")),
    }
}

/// The broker stops in an outage while a put is in flight, and another one takes its partitions over, although no session
/// ends by itself.
async fn stops_in(outage: Outage) -> Result<()> {
    let stores = Stores::new(2);
    let settings = [
        ("highwater.object.storage", "memory:"),
        ("broker.session.timeout.ms", "600000"),
    ];
    let mut cluster = Cluster::start_on(2, &settings, stores.machines()).await?;
    cluster.create_topic(2, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2]).await?;
    let led = before.iter().filter(|(_, led)| led.0 == STOPPED);
    let led: Vec<i32> = led.map(|(partition, _)| *partition).collect();
    ensure!(!led.is_empty(), "{before:?}");
    let mut client = cluster.client(STOPPED).await?;
    let id = producer_id(&mut client).await?;
    for partition in &led {
        for sequence in 0..BEFORE {
            send(&mut client, *partition, id, sequence).await?;
        }
    }

    let store = stores.of(STOPPED);
    store.set_hook(outage);
    let puts = store.calls(RequestKind::Put);
    let mut sent = Vec::new();
    for partition in &led {
        let mut client = cluster.client(STOPPED).await?;
        let request = produce_request("t", *partition, batch_of(id, BEFORE), -1);
        let asked = client.send(&request, 12).await?;
        sent.push((client, asked));
    }
    until("a put is in flight", async || {
        Ok(store.calls(RequestKind::Put) > puts)
    })
    .await?;
    let meanwhile = async |cluster: &Cluster| gets_nothing(cluster).await;
    let stopping = cluster.stop_broker_while(STOPPED, meanwhile);
    let stopped = timeout(NEVER, stopping).await;
    stopped.context("it stops")??;
    for (mut client, asked) in sent {
        ensure!(client.receive(asked).await.is_err(), "I1: not acknowledged");
    }

    led_by(&cluster, &[2]).await?;
    let mut client = cluster.client(2).await?;
    let end = i64::from(BEFORE);
    for partition in led {
        // I6: what was acknowledged is known, and what was not is there once, wherever it comes from
        ensure!(send(&mut client, partition, id, BEFORE - 1).await? == end - 1);
        ensure!(send(&mut client, partition, id, BEFORE).await? == end);
        holds(&mut client, partition, id, 0..end + 1).await?;
    }
    cluster.stop().await
}

/// E4: while the broker stops, its session goes on, and the other one leads what is created.
async fn gets_nothing(cluster: &Cluster) -> Result<()> {
    let created = AtomicI32::new(0);
    until("new partitions go to the other broker alone", async || {
        let topic = format!("new-{}", created.fetch_add(1, Ordering::SeqCst));
        cluster.create_topic(2, &topic, PARTITIONS).await?;
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.into()),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let view = cluster.client(2).await?.call(&request, 9).await?;
        ensure!(view.brokers.len() == 2, "the stop is over");
        let mut led = view.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(led.all(|partition| partition.leader_id == 2))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_while_its_store_is_away_ends_and_a_survivor_goes_on_at_once()
-> Result<()> {
    let outages: [(&str, Outage); 3] = [
        ("refused", refused),
        ("without an answer", without_answer),
        ("applied without an answer", applied_without_answer),
    ];
    for (name, outage) in outages {
        stops_in(outage).await.context(name)?;
    }
    Ok(())
}
