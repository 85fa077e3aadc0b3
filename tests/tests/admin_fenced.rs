//! Metrics of a broker that was fenced and can't start again. The test is a process of its own, because the recorder of
//! metrics belongs to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use highwater_io::Faults;
use highwater_kafka_peer::process::free_port;
use highwater_protocol::messages::MetadataRequest;
use highwater_tests::{
    Cluster, T0, batch, commit, faulty_machine, find_coordinator, http_get, until,
};

/// Gauges that are more than 0 while a broker serves records and a group.
const SERVES: [&str; 3] = [
    "highwater_broker_partitions{state=\"open\"} ",
    "highwater_broker_groups{state=\"Empty\"} ",
    "highwater_broker_memory_used_bytes{budget=\"log_cache\"} ",
];

/// The values of these series.
async fn values(address: &str) -> Result<Vec<f64>> {
    let (status, text) = http_get(address, "/metrics").await?;
    assert_eq!(status, 200);
    let value = |series| {
        let found = text.lines().find_map(|line| line.strip_prefix(series));
        Ok(found.unwrap_or("0").parse()?)
    };
    SERVES.into_iter().map(value).collect()
}

// W11
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_broker_without_a_store_tells_that_it_leads_nothing() -> Result<()> {
    let faults = Arc::new(Faults::default());
    let machine = faulty_machine(&faults);
    let address = format!("127.0.0.1:{}", free_port()?);
    let own = ("highwater.admin.listener".to_owned(), address.clone());
    let settings = [("auto.leader.rebalance.enable", "false")];
    let mut cluster = Cluster::start_on(0, &settings, BTreeMap::from([(1, machine)])).await?;
    cluster.start_broker_with(1, &[own]).await?;
    cluster.create_topic(1, "t", 1).await?;
    let mut client = cluster.client(1).await?;
    until("the record is acknowledged", async || {
        let answer = client.produce("t", 0, batch(1, T0)).await?;
        Ok(answer.error_code == 0)
    })
    .await?;
    find_coordinator(&mut client, "g").await?;
    let answer = client.call(&commit("g", "t", 1), 8).await?;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    until("all is told", async || {
        Ok(values(&address).await?.iter().all(|value| *value > 0.0))
    })
    .await?;

    // another one sees the fence
    cluster.start_broker(2).await?;
    let mut other = cluster.client(2).await?;
    faults.fill_below(Some(cluster.objects().to_owned()));
    cluster.set_cut(1, true);
    until("the broker is fenced", async || {
        let metadata = other.call(&MetadataRequest::default(), 9).await?;
        Ok(metadata.brokers.iter().all(|broker| broker.node_id == 2))
    })
    .await?;
    cluster.set_cut(1, false);
    // nobody samples the gauges meanwhile
    until("the broker waits for the store", async || {
        let (_, told) = http_get(&address, "/health/ready").await?;
        Ok(told.contains("waiting to start the broker again"))
    })
    .await?;
    assert_eq!(values(&address).await?, [0.0; SERVES.len()]);
    faults.fill_below(None);
    cluster.stop().await
}
