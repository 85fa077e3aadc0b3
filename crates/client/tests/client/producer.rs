//! A producer, over one connection after the other.

use bytes::Bytes;
use highwater_client::{Batch, Connection, Error, Producer};
use highwater_protocol::messages::produce_response::{
    PartitionProduceResponse, TopicProduceResponse,
};
use highwater_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
};
use highwater_protocol::{ApiKey, ErrorCode};
use highwater_types::Uuid;

use crate::peer::{Peer, Received, connect};

const TOPIC: Uuid = Uuid([7; 16]);

fn acknowledged(base_offset: i64, error_code: i16) -> ProduceResponse {
    ProduceResponse {
        responses: vec![TopicProduceResponse {
            partition_responses: vec![PartitionProduceResponse {
                base_offset,
                error_code,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A producer that has pushed batches with these numbers.
fn producer(in_flight_max: usize, numbers: &[u8]) -> Producer<u8> {
    let mut producer = Producer::new(TOPIC.into(), 3, in_flight_max);
    for &tag in numbers {
        let bytes = Bytes::copy_from_slice(&[tag; 4]);
        producer.push(Batch { bytes, tag });
    }
    producer
}

/// Receives a produce request, and returns it with the number of its batch.
async fn received(broker: &mut Peer) -> (Received<ProduceRequest>, u8) {
    let received = broker.receive::<ProduceRequest>().await;
    let topic = &received.request.topic_data[0];
    let partition = &topic.partition_data[0];
    assert_eq!(
        (received.request.acks, topic.topic_id, partition.index),
        (-1, TOPIC, 3)
    );
    let records = partition.records.clone().expect("a batch").into_bytes();
    let number = records[0];
    (received, number)
}

async fn acknowledge(broker: &mut Peer, base_offset: i64, error_code: i16) -> u8 {
    let (asked, number) = received(broker).await;
    broker
        .answer(&asked, &acknowledged(base_offset, error_code))
        .await;
    number
}

async fn receive(producer: &mut Producer<u8>, client: &mut Connection) -> Option<(u8, i64)> {
    let answered = producer.receive(client).await.expect("is acknowledged")?;
    Some((answered.batch.tag, answered.answer.base_offset))
}

#[tokio::test(start_paused = true)]
async fn batches_without_an_answer_are_sent_again_in_order_over_the_next_connection() {
    let (mut client, mut broker) = connect();
    let mut producer = producer(5, &[1, 2, 3]);
    producer.flush(&mut client).await.expect("sends");
    assert_eq!(acknowledge(&mut broker, 0, 0).await, 1);
    assert_eq!(received(&mut broker).await.1, 2);
    broker.close().await;
    assert_eq!(receive(&mut producer, &mut client).await, Some((1, 0)));
    let lost = producer.receive(&mut client).await;
    assert!(matches!(lost, Err(Error::Closed)), "{lost:?}");
    assert_eq!(producer.waiting(), 2);
    let (mut client, mut broker) = connect();
    producer.resume(&mut client).await.expect("sends");
    for (number, offset) in [(2, 10), (3, 20)] {
        assert_eq!(acknowledge(&mut broker, offset, 0).await, number);
        let answered = receive(&mut producer, &mut client).await;
        assert_eq!(answered, Some((number, offset)));
    }
    assert_eq!(receive(&mut producer, &mut client).await, None);
    assert_eq!(producer.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_is_kept_and_sent_again() {
    let (mut client, mut broker) = connect();
    let mut producer = producer(5, &[1, 2]);
    producer.flush(&mut client).await.expect("sends");
    let code = ErrorCode::NotLeaderOrFollower.code();
    assert_eq!(acknowledge(&mut broker, -1, code).await, 1);
    let refused = producer.receive(&mut client).await;
    assert!(
        matches!(refused, Err(Error::Refused { api: ApiKey::Produce, code: found }) if found == code),
        "{refused:?}"
    );
    let (mut client, mut broker) = connect();
    producer.resume(&mut client).await.expect("sends");
    for number in [1, 2] {
        assert_eq!(acknowledge(&mut broker, 0, 0).await, number);
        assert_eq!(receive(&mut producer, &mut client).await, Some((number, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_partition_acknowledges_nothing() {
    let (mut client, mut broker) = connect();
    let mut producer = producer(5, &[1]);
    producer.flush(&mut client).await.expect("sends");
    broker
        .serve::<ProduceRequest>(&ProduceResponse::default())
        .await;
    let refused = producer.receive(&mut client).await;
    assert!(
        matches!(refused, Err(Error::Incomplete(ApiKey::Produce))),
        "{refused:?}"
    );
    assert_eq!(producer.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_its_room_until_it_is_acknowledged() {
    let (mut client, mut broker) = connect();
    let mut producer = producer(2, &[1, 2]);
    assert!(!producer.has_room());
    producer.flush(&mut client).await.expect("sends");
    assert!(!producer.has_room(), "sent is not acknowledged");
    acknowledge(&mut broker, 0, 0).await;
    receive(&mut producer, &mut client).await;
    assert!(producer.has_room());
}

// KIP-98: sequences count records, and the largest is followed by 0.
#[tokio::test(start_paused = true)]
async fn sequences_follow_each_other_from_0_under_each_producer_id() {
    let (mut client, mut broker) = connect();
    let mut producer = producer(5, &[]);
    let plain = producer.next_fields(10);
    assert_eq!(
        (plain.id, plain.base_sequence),
        (-1, -1),
        "without an id there is no sequence"
    );
    for (id, epoch) in [(11, 0), (12, 3)] {
        let answer = InitProducerIdResponse {
            producer_id: id,
            producer_epoch: epoch,
            ..Default::default()
        };
        let asked = broker.serve::<InitProducerIdRequest>(&answer);
        let (given, asked) = tokio::join!(producer.init(&mut client), asked);
        assert_eq!((given.expect("is given"), producer.id()), (id, Some(id)));
        assert_eq!(asked.request.transactional_id, None);
        for (records, sequence) in [(10, 0), (i32::MAX - 10, 10), (1, i32::MAX), (5, 0), (1, 5)] {
            let fields = producer.next_fields(records);
            assert_eq!(
                (fields.id, fields.epoch, fields.base_sequence),
                (id, epoch, sequence)
            );
        }
    }
    let refusal = InitProducerIdResponse {
        error_code: ErrorCode::ClusterAuthorizationFailed.code(),
        ..Default::default()
    };
    let asked = broker.serve::<InitProducerIdRequest>(&refusal);
    let (refused, _) = tokio::join!(producer.init(&mut client), asked);
    assert!(
        matches!(refused, Err(Error::Refused { code: 31, .. })),
        "{refused:?}"
    );
    assert_eq!(
        producer.next_fields(1).base_sequence,
        6,
        "the former id stays"
    );
}
