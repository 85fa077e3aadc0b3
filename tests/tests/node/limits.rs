//! The bounds of connections, frames and memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use highwater_client::Connection;
use highwater_kafka_peer::process::free_port;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::MetadataRequest;
use highwater_tests::{TestNode, connect, large_batch, produce_request, until};
use tempfile::TempDir;

use super::T0;

async fn is_served(client: &mut Connection) -> bool {
    let request = MetadataRequest::default();
    let asked = client.call(&request, 12);
    matches!(
        tokio::time::timeout(Duration::from_millis(500), asked).await,
        Ok(Ok(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_of_all_connections_one_waits_until_another_ends() -> Result<()> {
    let node = TestNode::start(&[("max.connections", "2")]).await?;
    let mut first = node.client().await?;
    let mut second = node.client().await?;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    let mut third = node.client().await?;
    assert!(!is_served(&mut third).await);
    drop(first);
    // The third client's request is answered now.
    let answered = tokio::time::timeout(Duration::from_secs(10), third.receive_raw()).await??;
    assert!(answered.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_of_its_address_a_connection_is_closed() -> Result<()> {
    let node = TestNode::start(&[("max.connections.per.ip", "1")]).await?;
    let mut first = node.client().await?;
    assert!(is_served(&mut first).await);
    assert!(node.client().await?.is_closed().await);
    assert!(
        is_served(&mut first).await,
        "a connection within the limit stays"
    );
    drop(first);
    until("its place is free again", async || {
        Ok(is_served(&mut node.client().await?).await)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_may_have_a_limit_of_its_own() -> Result<()> {
    let settings = [
        ("max.connections.per.ip", "0"),
        ("max.connections.per.ip.overrides", "127.0.0.1:2,[::1]:9"),
    ];
    let node = TestNode::start(&settings).await?;
    assert_eq!(node.address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut first = node.client().await?;
    let mut second = node.client().await?;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    assert!(node.client().await?.is_closed().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() -> Result<()> {
    let node = TestNode::start(&[("connections.max.idle.ms", "300")]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut waiting = node.client().await?;
    let mut request = highwater_tests::fetch("t", 0, 1 << 20);
    (request.max_wait_ms, request.min_bytes) = (1500, 1);
    waiting.send(&request, 12).await?;
    let mut idle = node.client().await?;
    let closed = tokio::time::timeout(Duration::from_secs(10), idle.is_closed());
    assert!(closed.await?, "idle");
    assert!(
        waiting.receive_raw().await?.is_some(),
        "it waited for records"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_the_limit_closes_its_connection() -> Result<()> {
    let node = TestNode::start(&[("socket.request.max.bytes", "2000")]).await?;
    node.create_topic("t", 1, &[]).await?;
    for (bytes, is_taken) in [(1000, true), (3000, false)] {
        let mut client = node.client().await?;
        let answer = client.produce("t", 0, large_batch(bytes, T0)).await;
        assert_eq!(
            answer.is_ok_and(|answer| answer.error_code == 0),
            is_taken,
            "{bytes}"
        );
    }
    Ok(())
}

// KAFKA-BEHAVIOUR 16; M1
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_its_topic_allows_and_memory_does_not_is_answered() -> Result<()> {
    let node = TestNode::start(&[("highwater.memory.limit", "64MiB")]).await?;
    let allowed = [("max.message.bytes", "20000000")];
    node.create_topic("t", 1, &allowed).await?;
    let mut client = node.client().await?;
    let mut at = 0;
    for (bytes, code) in [
        (6 << 20, ErrorCode::MessageTooLarge),
        // The limit is three quarters of an eighth, including the few other bytes of the request.
        ((6 << 20) - 1000, ErrorCode::None),
        (15_000_000, ErrorCode::MessageTooLarge),
        (1000, ErrorCode::None),
    ] {
        let answer = client.produce("t", 0, large_batch(bytes, T0)).await?;
        assert_eq!(answer.error_code, code.code(), "{bytes}: {answer:?}");
        if answer.error_code == 0 {
            assert_eq!(answer.base_offset, at);
            at += 1;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_tells_its_own_address() -> Result<()> {
    let free = || free_port().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let (outside, inside) = (free()?, free()?);
    let listeners = format!("OUTSIDE://{outside},INSIDE://{inside}");
    let settings = [
        ("listeners", listeners.as_str()),
        ("advertised.listeners", "OUTSIDE://broker.example:19092"),
        (
            "listener.security.protocol.map",
            "OUTSIDE:PLAINTEXT,INSIDE:PLAINTEXT",
        ),
    ];
    let _node = TestNode::start(&settings).await?;
    let own = i32::from(inside.port());
    for (listener, host, port) in [
        (outside, "broker.example", 19092),
        (inside, "127.0.0.1", own),
    ] {
        let mut client = connect(listener).await?;
        let answer = client.call(&MetadataRequest::default(), 12).await?;
        let broker = &answer.brokers[0];
        assert_eq!((&*broker.host, broker.port), (host, port));
    }
    Ok(())
}

// I11, M1, M2: a request that does not fit into memory is not read, none is dropped, and no other client waits.
#[tokio::test(flavor = "multi_thread")]
async fn produce_past_all_memory_waits_and_stops_nothing_else() -> Result<()> {
    let settings = [("highwater.memory.limit", "64MiB")];
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut other = node.client().await?;
    faults.syncs_hang.store(true, Ordering::SeqCst);
    let mut producing = tokio::task::JoinSet::new();
    for _ in 0..48 {
        let mut client = node.client().await?;
        producing.spawn(async move {
            let mut request = produce_request("t", 0, large_batch(1_000_000, T0), -1);
            request.timeout_ms = 60_000;
            client.call(&request, 12).await
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(is_served(&mut other).await, "metadata");
    let (code, _) = highwater_tests::read(&mut other, "t", 0).await?;
    assert_eq!(code, 0, "fetches");
    assert!(producing.try_join_next().is_none(), "nothing is durable");
    faults.syncs_hang.store(false, Ordering::SeqCst);
    let mut offsets = Vec::new();
    while let Some(answered) = producing.join_next().await {
        let answer = answered??;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        offsets.push(partition.base_offset);
    }
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..48), "each is there once");
    Ok(())
}
