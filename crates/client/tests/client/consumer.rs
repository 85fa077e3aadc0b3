//! A consumer, with and without a fetch session (KIP-227).

use highwater_client::{Connection, Consumer, Error, Limits, Topic};
use highwater_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use highwater_protocol::messages::{FetchRequest, FetchResponse};
use highwater_protocol::{ApiKey, ErrorCode};
use highwater_types::Uuid;

use crate::peer::{Peer, Received, connect};

const TOPIC: Uuid = Uuid([7; 16]);
const SESSION: i32 = 41;

fn consumer() -> Consumer {
    let offsets = [(0, 100), (2, 200)];
    Consumer::new(TOPIC.into(), offsets, Limits::default())
}

/// An empty answer with this session and this error of the whole fetch.
fn empty(session_id: i32, error_code: i16) -> FetchResponse {
    FetchResponse {
        session_id,
        error_code,
        ..Default::default()
    }
}

/// The id and the epoch of a request's session, and the partitions that it names, each with its offset.
type Asked = (i32, i32, Vec<(i32, i64)>);

fn asked(received: &Received<FetchRequest>) -> Asked {
    let request = &received.request;
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let places = partitions.map(|one| (one.partition, one.fetch_offset));
    (request.session_id, request.session_epoch, places.collect())
}

/// Fetches once; returns the request and the outcome.
async fn fetch(
    consumer: &mut Consumer,
    (client, broker): (&mut Connection, &mut Peer),
    answer: &FetchResponse,
) -> (Asked, Result<Vec<PartitionData>, Error>) {
    let served = broker.serve::<FetchRequest>(answer);
    let (outcome, received) = tokio::join!(consumer.fetch(client), served);
    (asked(&received), outcome)
}

#[tokio::test(start_paused = true)]
async fn without_a_session_every_request_names_every_partition() {
    let (mut client, mut broker) = connect();
    let mut consumer = consumer();
    for offset in [100, 150] {
        let ends = (&mut client, &mut broker);
        let (request, outcome) = fetch(&mut consumer, ends, &empty(0, 0)).await;
        assert_eq!(request, (0, -1, vec![(0, offset), (2, 200)]));
        assert!(outcome.expect("is answered").is_empty());
        consumer.seek(0, 150);
    }
    assert_eq!([consumer.offset(0), consumer.offset(1)], [Some(150), None]);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_sent_only_what_it_does_not_know() {
    let (mut client, mut broker) = connect();
    let mut consumer = consumer().with_session();
    let all = vec![(0, 100), (2, 200)];
    for (expected, seek) in [
        ((0, 0, all), None),
        ((SESSION, 1, vec![]), Some((2, 250))),
        ((SESSION, 2, vec![(2, 250)]), None),
        ((SESSION, 3, vec![]), None),
    ] {
        let ends = (&mut client, &mut broker);
        let (request, outcome) = fetch(&mut consumer, ends, &empty(SESSION, 0)).await;
        assert_eq!(request, expected);
        outcome.expect("is answered");
        if let Some((partition, offset)) = seek {
            consumer.seek(partition, offset);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_a_new_session_is_begun_with_every_partition() {
    let code = ErrorCode::FetchSessionIdNotFound.code();
    let (mut client, mut broker) = connect();
    let mut consumer = consumer().with_session();
    let ends = (&mut client, &mut broker);
    fetch(&mut consumer, ends, &empty(SESSION, 0))
        .await
        .1
        .expect("is answered");
    consumer.seek(0, 150);
    let ends = (&mut client, &mut broker);
    let (request, refused) = fetch(&mut consumer, ends, &empty(0, code)).await;
    assert_eq!(request, (SESSION, 1, vec![(0, 150)]));
    assert!(
        matches!(refused, Err(Error::Refused { api: ApiKey::Fetch, code: found }) if found == code),
        "{refused:?}"
    );
    let ends = (&mut client, &mut broker);
    let (request, _) = fetch(&mut consumer, ends, &empty(SESSION, 0)).await;
    assert_eq!(request, (0, 0, vec![(0, 150), (2, 200)]));
    broker.close().await;
    let lost = consumer.fetch(&mut client).await;
    assert!(matches!(lost, Err(Error::Closed)), "{lost:?}");
    let (mut client, mut broker) = connect();
    let ends = (&mut client, &mut broker);
    let (request, _) = fetch(&mut consumer, ends, &empty(SESSION, 0)).await;
    assert_eq!(request, (0, 0, vec![(0, 150), (2, 200)]));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_gives_no_session_is_named_every_partition_each_time() {
    let (mut client, mut broker) = connect();
    let mut consumer = consumer().with_session();
    for _ in 0..2 {
        let ends = (&mut client, &mut broker);
        let (request, _) = fetch(&mut consumer, ends, &empty(0, 0)).await;
        assert_eq!(request, (0, 0, vec![(0, 100), (2, 200)]));
    }
}

// KIP-516: up to version 12 by name, from 13 on by id.
#[tokio::test(start_paused = true)]
async fn the_topic_is_named_as_the_version_demands_and_its_partitions_are_returned() {
    for (topic, version) in [(Topic::from("t"), 12), (Topic::from(TOPIC), 17)] {
        let (mut client, mut broker) = connect();
        let mut consumer = Consumer::new(topic.clone(), [(0, 5)], Limits::default());
        let partition = PartitionData {
            partition_index: 0,
            high_watermark: 9,
            ..Default::default()
        };
        let answer = FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let served = broker.serve::<FetchRequest>(&answer);
        let (outcome, received) = tokio::join!(consumer.fetch(&mut client), served);
        assert_eq!(received.header.api_version, version);
        let named = &received.request.topics[0];
        assert_eq!((&named.topic, named.topic_id), (&topic.name(), topic.id()));
        let limits = (
            received.request.max_bytes,
            named.partitions[0].partition_max_bytes,
        );
        assert_eq!(limits, (50 << 20, 1 << 20), "as Kafka's consumer");
        let outcome = outcome.expect("is answered");
        assert_eq!(outcome[0].high_watermark, 9);
    }
}
