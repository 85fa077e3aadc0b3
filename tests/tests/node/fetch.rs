//! Lines 17 to 20 of docs/KAFKA-BEHAVIOUR.md: bounds, limits, waiting, sessions.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::FetchRequest;
use highwater_protocol::messages::fetch_request::FetchPartition;
use highwater_protocol::records::split_batches;
use highwater_tests::{TestNode, fetch, read, records};
use tokio::time::Instant;

use super::{T0, batch};

// KAFKA-BEHAVIOUR 17
#[tokio::test(flavor = "multi_thread")]
async fn bounds_and_leader_epochs_are_checked() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(10, T0)).await?;
    assert_eq!(
        read(&mut client, "t", 10).await?,
        (0, Bytes::new()),
        "the end is no error"
    );
    let (code, _) = read(&mut client, "t", 11).await?;
    assert_eq!(code, ErrorCode::OffsetOutOfRange.code());
    let (code, found) = read(&mut client, "t", 4).await?;
    assert_eq!(code, 0);
    let batches = split_batches(&found)?;
    assert_eq!(
        batches[0].0.base_offset, 0,
        "the batch that holds the offset, whole"
    );
    let epoch = batches[0].0.leader_epoch;
    for (known, error) in [
        (epoch, ErrorCode::None),
        (epoch - 1, ErrorCode::FencedLeaderEpoch),
        (epoch + 1, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = fetch("t", 0, 1 << 20);
        request.topics[0].partitions[0].current_leader_epoch = known;
        let answer = client.call(&request, 12).await?;
        // An epoch below 0 is not checked.
        let expected = if known < 0 { 0 } else { error.code() };
        assert_eq!(
            answer.responses[0].partitions[0].error_code, expected,
            "{known}"
        );
    }
    Ok(())
}

// KAFKA-BEHAVIOUR 18
#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_partition_exceeds_the_limit_by_one_batch() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 3, &[]).await?;
    let mut client = node.client().await?;
    for partition in 0..3 {
        for _ in 0..3 {
            client.produce("t", partition, batch(100, T0)).await?;
        }
    }
    let one = batch(100, T0).len();
    let mut request = fetch("t", 0, 1);
    let template = request.topics[0].partitions[0].clone();
    let of = |partition| FetchPartition {
        partition,
        ..template.clone()
    };
    request.topics[0].partitions = (0..3).map(of).collect();
    let answer = client.call(&request, 12).await?;
    let lengths: Vec<usize> = (0..3)
        .map(|partition| records(&answer, 0, partition).len())
        .collect();
    assert_eq!(lengths, [one, 0, 0]);
    request.max_bytes = i32::try_from(one * 2 + 10)?;
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = i32::MAX;
    }
    let answer = client.call(&request, 12).await?;
    let lengths: Vec<usize> = (0..3)
        .map(|partition| records(&answer, 0, partition).len())
        .collect();
    assert_eq!(lengths, [one * 2, 0, 0], "whole batches within the limit");
    Ok(())
}

// KAFKA-BEHAVIOUR 18
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_records_and_an_error_does_not() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut waiting = node.client().await?;
    let mut request = fetch("t", 0, 1 << 20);
    request.max_wait_ms = 30_000;
    request.min_bytes = 1;
    let since = Instant::now();
    let id = waiting.send(&request, 12).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.client().await?.produce("t", 0, batch(1, T0)).await?;
    let answer = waiting.receive(id).await?;
    assert!(!records(&answer, 0, 0).is_empty());
    request.topics[0].partitions[0].fetch_offset = 99;
    let answer = waiting.call(&request, 12).await?;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::OffsetOutOfRange.code());
    request.topics[0].topic = "nowhere".into();
    let answer = waiting.call(&request, 12).await?;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition.code());
    assert!(
        since.elapsed() < Duration::from_secs(30),
        "none of them waited"
    );
    Ok(())
}

/// The time limit for answers that need no waiting.
const SOON: Duration = Duration::from_secs(60);

// KAFKA-BEHAVIOUR 18: where a limit cuts the data, Kafka counts all bytes that the limit allows, even if a batch is
// cut.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_limit_cut_is_enough() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    for _ in 0..5 {
        client.produce("t", 0, batch(100, T0)).await?;
    }
    let one = batch(100, T0).len();
    let cut = i32::try_from(one * 3 - 1)?;
    let mut of_partition = fetch("t", 0, cut);
    of_partition.max_bytes = i32::MAX;
    of_partition.min_bytes = cut;
    let mut of_request = fetch("t", 0, i32::MAX);
    of_request.max_bytes = cut;
    of_request.min_bytes = 1 << 30;
    for mut request in [of_partition, of_request] {
        request.max_wait_ms = i32::MAX;
        let answer = tokio::time::timeout(SOON, client.call(&request, 12)).await??;
        assert_eq!(records(&answer, 0, 0).len(), one * 2);
    }
    // An answer that no limit cut waits until there are enough bytes.
    let mut waiting = fetch("t", 400, i32::MAX);
    waiting.min_bytes = i32::try_from(one + 1)?;
    waiting.max_wait_ms = i32::MAX;
    let id = client.send(&waiting, 12).await?;
    node.client().await?.produce("t", 0, batch(100, T0)).await?;
    let answer = tokio::time::timeout(SOON, client.receive(id)).await??;
    assert_eq!(records(&answer, 0, 0).len(), one * 2);
    Ok(())
}

// A fetch that comes too late to wait gets another error, because it names the topic by id.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_is_told_that_its_topic_is_deleted() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    let mut waiting = node.client().await?;
    for _ in 0..20 {
        node.create_topic("t", 1, &[]).await?;
        let all = highwater_client::describe_all_topics();
        let id = client.call(&all, 12).await?.topics[0].topic_id;
        let mut request = fetch("", 0, 1 << 20);
        request.topics[0].topic_id = id;
        request.min_bytes = 1;
        request.max_wait_ms = i32::MAX;
        let sent = waiting.send(&request, 13).await?;
        node.delete_topic("t").await?;
        let answer = tokio::time::timeout(SOON, waiting.receive(sent)).await??;
        let code = answer.responses[0].partitions[0].error_code;
        if code == ErrorCode::UnknownTopicOrPartition.code() {
            return Ok(());
        }
        assert_eq!(code, ErrorCode::UnknownTopicId.code());
    }
    anyhow::bail!("no fetch came in time")
}

// KAFKA-BEHAVIOUR 19
#[tokio::test(flavor = "multi_thread")]
async fn a_session_tells_what_changed() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("a", 1, &[]).await?;
    node.create_topic("b", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("a", 0, batch(1, T0)).await?;
    let mut request = fetch("a", 0, 1 << 20);
    request.topics.extend(fetch("b", 0, 1 << 20).topics);
    request.session_epoch = 0;
    let answer = client.call(&request, 12).await?;
    let session = answer.session_id;
    assert!(session != 0 && answer.error_code == 0);
    assert_eq!(
        answer.responses.len(),
        2,
        "the first answer has every partition"
    );
    let mut next = FetchRequest {
        max_bytes: 1 << 20,
        session_id: session,
        session_epoch: 1,
        ..Default::default()
    };
    next.topics = fetch("a", 1, 1 << 20).topics;
    let answer = client.call(&next, 12).await?;
    assert_eq!(answer.responses.len(), 0, "nothing changed");
    client.produce("b", 0, batch(1, T0)).await?;
    next.topics.clear();
    next.session_epoch = 2;
    let answer = client.call(&next, 12).await?;
    assert_eq!(answer.responses.len(), 1);
    assert_eq!(&*answer.responses[0].topic, "b");
    next.session_epoch = 2;
    let answer = client.call(&next, 12).await?;
    assert_eq!(
        answer.error_code,
        ErrorCode::InvalidFetchSessionEpoch.code()
    );
    next.session_id = session.wrapping_add(1);
    let answer = client.call(&next, 12).await?;
    assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound.code());
    Ok(())
}

// KAFKA-BEHAVIOUR 20
#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_null_unless_asked_for() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(1, T0)).await?;
    let mut request = fetch("t", 0, 1 << 20);
    let answer = client.call(&request, 12).await?;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.aborted_transactions, None);
    assert_eq!(partition.preferred_read_replica, -1);
    request.isolation_level = 1;
    let answer = client.call(&request, 12).await?;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.aborted_transactions, Some(Vec::new()));
    assert_eq!(partition.last_stable_offset, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_fetched_by_id() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(1, T0)).await?;
    let all = highwater_client::describe_all_topics();
    let id = client.call(&all, 12).await?.topics[0].topic_id;
    let mut request = fetch("", 0, 1 << 20);
    request.topics[0].topic_id = id;
    for version in 13..=18 {
        let answer = client.call(&request, version).await?;
        assert!(!records(&answer, 0, 0).is_empty(), "version {version}");
    }
    request.topics[0].topic_id = highwater_types::Uuid([9; 16]);
    let answer = client.call(&request, 13).await?;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicId.code());
    Ok(())
}
