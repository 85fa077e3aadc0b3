//! Three controllers and two brokers that call each other by TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use highwater_tests::{Certificates, Cluster, connect_tls, tls_client, until};
use highwater_tls::Context;
use highwater_tls::fixture::Authority;

use crate::quorum::{SESSION, create};
use crate::served::{PARTITIONS, leaders, led_by};

/// Whether a controller takes a client: it trusts the client's certificate, and the client its.
async fn takes(controller: SocketAddr, client: &Arc<Context>) -> bool {
    match connect_tls(controller, client).await {
        Ok(mut connection) => connection.versions().await.is_ok(),
        Err(_) => false,
    }
}

/// Waits until every controller takes a client, or until none does.
async fn all_take(cluster: &Cluster, client: &Arc<Context>, do_take: bool) -> Result<()> {
    for controller in cluster.controllers.addresses() {
        until("the controllers use the new certificates", async || {
            Ok(takes(controller, client).await == do_take)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_on_tls_goes_on_while_its_certificates_are_replaced() -> Result<()> {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let files = Certificates::new(&first)?;
    let own = files.settings();
    let own = own.iter().map(|(key, value)| (*key, value.as_str()));
    let map = (
        "listener.security.protocol.map",
        "CONTROLLER:SSL,PLAINTEXT:PLAINTEXT",
    );
    // a leader that changes shows that a broker was fenced
    let still = ("auto.leader.rebalance.enable", "false");
    let settings: Vec<_> = own.chain(SESSION).chain([map, still]).collect();
    let mut cluster = Cluster::start_with(3, 2, &settings).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2]).await?;
    let client = |issuer, trusted| tls_client(Some(issuer), "node", trusted);
    all_take(&cluster, &client(&first, &first), true).await?;
    assert!(!takes(cluster.controllers.addresses()[0], &client(&second, &first)).await);

    files.trust(&[&first, &second])?;
    all_take(&cluster, &client(&second, &first), true).await?;
    files.identify(&second, "node")?;
    all_take(&cluster, &client(&second, &second), true).await?;
    files.trust(&[&second])?;
    all_take(&cluster, &client(&first, &second), false).await?;
    create(async || cluster.client(1).await, "replaced").await?;
    assert_eq!(leaders(&cluster, 2).await?, before, "no broker was fenced");

    // every connection is opened anew, with the new certificates on both sides
    for broker in [1, 2] {
        cluster.set_cut(broker, true);
        cluster.set_cut(broker, false);
        create(
            async || cluster.client(broker).await,
            &format!("by-{broker}"),
        )
        .await?;
    }
    for id in cluster.controllers.ids() {
        cluster.controllers.kill(id).await;
        create(async || cluster.client(1).await, &format!("without-{id}")).await?;
        cluster.controllers.start(id).await?;
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_certificate_the_controllers_do_not_trust_is_no_member() -> Result<()> {
    let (nodes, others) = (Authority::new("nodes"), Authority::new("others"));
    let (files, stranger) = (Certificates::new(&nodes)?, Certificates::new(&others)?);
    stranger.trust(&[&nodes])?;
    let map = (
        "listener.security.protocol.map",
        "CONTROLLER:SSL,PLAINTEXT:PLAINTEXT",
    );
    let own = files.settings();
    let own = own.iter().map(|(key, value)| (*key, value.as_str()));
    let settings: Vec<_> = own.chain([map]).collect();
    let mut cluster = Cluster::start_with(1, 1, &settings).await?;
    let joined = {
        let keystore = &stranger.settings()[2];
        let other = [("ssl.keystore.location".to_owned(), keystore.1.clone())];
        let starting = cluster.start_broker_with(2, &other);
        tokio::time::timeout(std::time::Duration::from_secs(3), starting).await
    };
    assert!(joined.is_err(), "{joined:?}");
    let mut client = cluster.client(1).await?;
    let metadata = client
        .call(&highwater_client::describe_all_topics(), 9)
        .await?;
    let ids: Vec<i32> = metadata
        .brokers
        .iter()
        .map(|broker| broker.node_id)
        .collect();
    assert_eq!(ids, [1]);
    cluster.stop().await
}
