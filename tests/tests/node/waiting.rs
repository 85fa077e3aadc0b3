//! Requests that wait for other clients do not delay any other client.

use std::time::Duration;

use anyhow::Result;
use highwater_client::{Connection, Sent};
use highwater_protocol::Request;
use highwater_protocol::messages::fetch_request::FetchPartition;
use highwater_protocol::messages::{FetchRequest, JoinGroupRequest, MetadataRequest};
use highwater_tests::{TestNode, fetch, find_coordinator, records};

const FOR_EVER_MS: i32 = i32::MAX;
/// With a limit of 64 MiB, small requests have 1 MiB to themselves, and waiting requests have another 1 MiB.
const SMALL: (&str, &str) = ("highwater.memory.limit", "64MiB");
const LARGE_ID_BYTES: usize = 30_000;
/// More requests than either has room for.
const MANY: usize = 48;
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

const PARTITIONS: i32 = 120;

fn waiting_fetch() -> FetchRequest {
    let mut request = fetch("t", 0, 1 << 20);
    let partition = request.topics[0].partitions[0].clone();
    let of = |index| FetchPartition {
        partition: index,
        ..partition.clone()
    };
    request.topics[0].partitions = (0..PARTITIONS).map(of).collect();
    FetchRequest {
        max_wait_ms: FOR_EVER_MS,
        min_bytes: 1,
        ..request
    }
}

/// Sends one request on each of many connections, in frames of nearly the largest size that counts as small.
async fn many<R: Request>(
    node: &TestNode,
    request: &R,
    version: i16,
) -> Result<Vec<(Connection, Sent<R>)>> {
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let mut client = node.client().await?;
        client.set_client_id("c".repeat(LARGE_ID_BYTES));
        let sent = client.send(request, version).await?;
        clients.push((client, sent));
    }
    Ok(clients)
}

async fn others_are_served(node: &TestNode) -> Result<()> {
    for _ in 0..20 {
        let mut other = node.client().await?;
        let request = MetadataRequest::default();
        let asked = tokio::time::timeout(ANSWERED_WITHIN, other.call(&request, 12));
        asked.await??;
    }
    Ok(())
}

// M2
#[tokio::test(flavor = "multi_thread")]
async fn fetches_that_wait_leave_the_memory_of_their_frames_to_others() -> Result<()> {
    let node = TestNode::start(&[SMALL]).await?;
    node.create_topic("t", PARTITIONS, &[]).await?;
    let mut waiting = many(&node, &waiting_fetch(), 12).await?;
    others_are_served(&node).await?;
    // A wait counts memory in proportion to its request. The last request finds no memory, and its answer throttles the
    // client.
    let (mut last, sent) = waiting.pop().expect("there are many");
    let answer = last.receive(sent);
    let answer = tokio::time::timeout(ANSWERED_WITHIN, answer).await??;
    assert_eq!(answer.error_code, 0);
    assert!(records(&answer, 0, 0).is_empty());
    assert_eq!(answer.throttle_time_ms, 500);
    // The connection is served again after that.
    let request = MetadataRequest::default();
    tokio::time::timeout(ANSWERED_WITHIN, last.call(&request, 12)).await??;
    Ok(())
}

fn join() -> JoinGroupRequest {
    JoinGroupRequest {
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: FOR_EVER_MS,
        ..highwater_tests::join("g")
    }
}

// M2
#[tokio::test(flavor = "multi_thread")]
async fn joins_that_wait_leave_the_memory_of_their_frames_to_others() -> Result<()> {
    let node = TestNode::start(&[SMALL]).await?;
    let mut member = node.client().await?;
    find_coordinator(&mut member, "g").await?;
    let joined = member.call(&join(), 3).await?;
    assert_eq!(joined.error_code, 0);
    // The member does not join again, so no other member is told that it joined.
    let _waiting = many(&node, &join(), 3).await?;
    others_are_served(&node).await
}

// M3: the group waits for its members, and the node does not wait for a client that has disconnected.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_waits_ends_with_its_connection() -> Result<()> {
    let node = TestNode::start(&[("max.connections", "2")]).await?;
    let mut member = node.client().await?;
    find_coordinator(&mut member, "g").await?;
    assert_eq!(member.call(&join(), 3).await?.error_code, 0);
    let mut joins = node.client().await?;
    joins.send(&join(), 3).await?;
    drop(joins);
    let mut next = node.client().await?;
    let request = MetadataRequest::default();
    tokio::time::timeout(ANSWERED_WITHIN, next.call(&request, 12)).await??;
    Ok(())
}
