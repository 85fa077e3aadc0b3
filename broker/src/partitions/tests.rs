//! Requests that wait for a partition when the partition closes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_kraft_meta::Action;
use highwater_kraft_meta::command::TrimStream;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::messages::{
    FetchRequest, FetchResponse, PartitionProduceData, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use highwater_protocol::records::BatchBuilder;
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_types::TopicId;
use tokio::time::Instant;

use super::{Closed, Led, Partition};
use crate::fixture::{TestNode, ask, one_partition};

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();
/// The longest time that a request of these tests may wait; no request waits for that long.
const LONG_MS: i32 = 600_000;

async fn open(node: &TestNode) -> Arc<Partition> {
    let topic = node.broker().create_topic(one_partition("t")).await;
    let topic = topic.expect("is created");
    node.broker().partitions.find(&topic, 0).expect("is open")
}

async fn produce(node: &TestNode) -> ProduceResponse {
    let mut batch = BatchBuilder::default();
    batch.push(1, None, Some(b"value"));
    let partition = PartitionProduceData {
        index: 0,
        records: Some(vec![batch.build().expect("no codec fails")].into()),
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: LONG_MS,
        topic_data: vec![TopicProduceData {
            name: StrBytes::from_static("t"),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    ask(&node.node, &request, 11).await
}

/// Sends a fetch by topic id that waits at the tail.
async fn fetch(node: &TestNode, topic_id: TopicId) -> FetchResponse {
    let request = FetchRequest {
        max_wait_ms: LONG_MS,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    ask(&node.node, &request, 16).await
}

/// Waits until a fetch has found the partition, which the registry and the test hold too. The fetch reads the
/// partition's state after that, so it misses no change.
async fn found(partition: &Arc<Partition>) {
    while Arc::strong_count(partition) <= 2 {
        tokio::task::yield_now().await;
    }
}

// KIP-951
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_is_told_the_leader_when_leadership_moves() {
    let node = TestNode::start(&[]).await;
    let partition = open(&node).await;
    let mut fetching = pin!(fetch(&node, partition.topic.id));
    tokio::select! {
        answer = &mut fetching => panic!("it does not wait: {answer:?}"),
        () = found(&partition) => {}
    }
    node.give_away("t", 2).await;
    let answer = fetching.await;
    let told = &answer.responses[0].partitions[0];
    assert_eq!(told.error_code, NOT_LEADER);
    assert_eq!(
        (
            told.current_leader.leader_id,
            told.current_leader.leader_epoch
        ),
        (2, 1)
    );
    let endpoints = answer.node_endpoints.iter();
    let endpoints: Vec<_> = endpoints
        .map(|one| (one.node_id, &*one.host, one.port))
        .collect();
    assert_eq!(endpoints, [(2, "other", 19092)]);
    assert_eq!(partition.closed().get(), Some(Closed::LedElsewhere));
    // A producer that sends its request now gets the same answer.
    let answer = produce(&node).await;
    let told = &answer.responses[0].partition_responses[0];
    assert_eq!(told.error_code, NOT_LEADER);
    assert_eq!(
        (
            told.current_leader.leader_id,
            told.current_leader.leader_epoch
        ),
        (2, 1)
    );
    assert_eq!(answer.node_endpoints[0].port, 19092);
}

// I3
#[tokio::test(flavor = "multi_thread")]
async fn a_produce_that_waits_to_be_durable_is_not_acknowledged_once_its_partition_is_closed() {
    for (why, code) in [
        (Closed::LedElsewhere, ErrorCode::NotLeaderOrFollower),
        (Closed::Deleted, ErrorCode::UnknownTopicOrPartition),
    ] {
        let node = TestNode::start(&[]).await;
        let partition = open(&node).await;
        node.faults.syncs_hang.store(true, Ordering::SeqCst);
        let closing = async {
            while partition.log.bounds().next == 0 {
                tokio::task::yield_now().await;
            }
            partition.closed().set(why);
            node.faults.syncs_hang.store(false, Ordering::SeqCst);
        };
        let (answer, ()) = tokio::join!(produce(&node), closing);
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!((told.error_code, told.base_offset), (code.code(), -1));
        drop(partition);
        node.stop().await;
    }
}

// A4: the topic was looked up before, and the image has changed since.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_this_nodes_any_more_is_not_waited_for() {
    for (is_deleted, code) in [
        (false, ErrorCode::NotLeaderOrFollower),
        (true, ErrorCode::UnknownTopicOrPartition),
    ] {
        let node = TestNode::start(&[]).await;
        let partition = open(&node).await;
        match is_deleted {
            true => node.delete("t").await,
            false => node.give_away("t", 2).await,
        }
        let partitions = &node.broker().partitions;
        let mut changes = partitions.subscribe();
        while partition.closed().get().is_none() {
            changes.changed().await.expect("the node lives");
        }
        let never = Instant::now() + Duration::from_secs(3600);
        let led = partitions.led(&partition.topic, 0, -1).expect("was led");
        assert!(matches!(led, Led::Opening(_)));
        let waited = led.open(never).await;
        assert_eq!(waited.expect_err("is not open").code, code);
    }
}

// A3, C1: a move that is cancelled leaves the partition here, under the next leader epoch. A batch that met the
// hand-over is appended under that epoch: if it were refused, a later one of its connection could come before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_produce_that_met_a_hand_over_is_appended_if_the_partition_stays() {
    let node = TestNode::start(&[]).await;
    let partition = open(&node).await;
    let broker = node.broker();
    let stream = partition.topic.partitions[0].stream;
    let handing_over = broker.streams.begin_hand_over(&[stream]).await;
    let handing_over = handing_over.expect("begins");
    partition.log.stop_appends();
    let answer = {
        let mut producing = pin!(produce(&node));
        tokio::select! {
            answer = &mut producing => panic!("it does not wait: {answer:?}"),
            () = found(&partition) => {}
        }
        // no broker is to lead, so that the leader gets the stream back
        handing_over.finish().await.expect("is decided");
        producing.await
    };
    let told = &answer.responses[0].partition_responses[0];
    assert_eq!((told.error_code, told.base_offset), (0, 0));
    let again = broker.partitions.find(&partition.topic, 0);
    let again = again.expect("is open");
    assert!(again.leader_epoch > partition.leader_epoch);
    drop((partition, again));
    node.stop().await;
}

// The client of a DeleteRecords is gone, or its answer was lost, after the command was proposed.
#[tokio::test(flavor = "multi_thread")]
async fn a_trim_that_nobody_waits_for_moves_the_start_too() {
    let node = TestNode::start(&[]).await;
    let broker = node.broker();
    let topic = broker.create_topic(one_partition("t")).await;
    let topic = topic.expect("creates");
    let partition = broker.partitions.find(&topic, 0).expect("is open");
    let trim = TrimStream {
        stream: topic.partitions[0].stream.0,
        start: 5,
        node_epoch: broker.epoch.0,
        leader_epoch: partition.leader_epoch.0,
    };
    let proposed = broker.metadata.propose(Action::TrimStream(trim).into());
    proposed.await.expect("is taken");
    let mut bounds = partition.log.watch();
    let moved = bounds.wait_for(|bounds| bounds.start == 5);
    drop(moved.await.expect("the stream lives"));
    drop(partition);
    node.stop().await;
}
