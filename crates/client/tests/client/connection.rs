//! Requests and answers on one connection.

use std::io;

use highwater_client::{EncodedRequest, Error, create_topics, encode, new_topic};
use highwater_protocol::messages::{
    CreateTopicsRequest, HeartbeatRequest, HeartbeatResponse, MetadataRequest, MetadataResponse,
};
use highwater_protocol::{ApiKey, RequestHeader, TEXT_BYTES_MAX};

use crate::peer::{ANSWER_BYTES_MAX, answer, connect, connect_within};

/// The version of Heartbeat that the tests use, which is flexible.
const V: i16 = 4;

fn code(error_code: i16) -> HeartbeatResponse {
    HeartbeatResponse {
        error_code,
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_get_their_answers_in_order() {
    let (mut client, mut broker) = connect();
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(
            client
                .send(&HeartbeatRequest::default(), V)
                .await
                .expect("sends"),
        );
    }
    client.set_client_id("other");
    let last = client
        .send(&MetadataRequest::default(), 0)
        .await
        .expect("sends");
    let mut ids = Vec::new();
    for error_code in [25, 27, 0] {
        let asked = broker.serve::<HeartbeatRequest>(&code(error_code)).await;
        assert_eq!(asked.header.client_id.as_deref(), Some("test"));
        ids.push(asked.header.correlation_id);
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    let asked = broker
        .serve::<MetadataRequest>(&MetadataResponse::default())
        .await;
    assert_eq!(asked.header.client_id.as_deref(), Some("other"));
    for (sent, error_code) in sent.into_iter().zip([25, 27, 0]) {
        let answer = client.receive(sent).await.expect("is answered");
        assert_eq!(answer.error_code, error_code);
    }
    client.receive(last).await.expect("is answered");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_request_is_refused() {
    let (mut client, mut broker) = connect();
    let first = client
        .send(&HeartbeatRequest::default(), V)
        .await
        .expect("sends");
    client
        .send(&HeartbeatRequest::default(), V)
        .await
        .expect("sends");
    let id = broker
        .receive::<HeartbeatRequest>()
        .await
        .header
        .correlation_id;
    broker.serve::<HeartbeatRequest>(&code(0)).await;
    let refused = client.receive(first).await;
    assert!(
        matches!(refused, Err(Error::Order { expected, found }) if expected == id && found == id + 1),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_in_pieces_is_kept_over_a_wait_that_was_given_up() {
    let (mut client, mut broker) = connect();
    let sent = client
        .send(&HeartbeatRequest::default(), V)
        .await
        .expect("sends");
    let id = broker
        .receive::<HeartbeatRequest>()
        .await
        .header
        .correlation_id;
    let whole = answer::<HeartbeatRequest>(id, V, &code(27));
    // The client gives up within the length, within the correlation id, and before the last byte.
    let mut from = 0;
    for to in [2, 6, whole.len() - 1] {
        broker.send(&whole[from..to]).await;
        let late = client.receive_raw().await;
        assert!(matches!(late, Err(Error::Late)), "{late:?}");
        assert!(!client.has_answer());
        from = to;
    }
    broker.send(&whole[from..]).await;
    let answer = client.receive(sent).await.expect("is answered");
    assert_eq!(answer.error_code, 27);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_ahead_is_known_to_be_there() {
    let (mut client, mut broker) = connect();
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(
            client
                .send(&HeartbeatRequest::default(), V)
                .await
                .expect("sends"),
        );
    }
    assert!(!client.has_answer());
    let mut frames = Vec::new();
    for _ in 0..3 {
        let id = broker
            .receive::<HeartbeatRequest>()
            .await
            .header
            .correlation_id;
        frames.push(answer::<HeartbeatRequest>(id, V, &code(0)));
    }
    let (cut, last) = frames[2].split_at(9);
    broker.send(&[&frames[0], &frames[1], cut].concat()).await;
    let mut sent = sent.into_iter();
    for next_is_there in [true, false] {
        let next = sent.next().expect("was sent");
        client.receive(next).await.expect("is answered");
        assert_eq!(client.has_answer(), next_is_there);
    }
    broker.send(last).await;
    let next = sent.next().expect("was sent");
    client.receive(next).await.expect("is answered");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_closes_between_answers_is_told_from_one_that_closes_within_one() {
    let whole = answer::<HeartbeatRequest>(1, V, &code(0));
    for sent_bytes in 0..whole.len() {
        let (mut client, mut broker) = connect();
        let sent = client
            .send(&HeartbeatRequest::default(), V)
            .await
            .expect("sends");
        broker.send(&whole[..sent_bytes]).await;
        broker.close().await;
        let refused = client.receive(sent).await;
        match sent_bytes {
            0 => assert!(matches!(refused, Err(Error::Closed)), "{refused:?}"),
            _ => assert!(
                matches!(&refused, Err(Error::Connection(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
                "{sent_bytes}: {refused:?}"
            ),
        }
        assert_eq!(client.is_closed().await, sent_bytes == 0, "{sent_bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_that_no_answer_has_is_refused() {
    let over = i32::try_from(ANSWER_BYTES_MAX + 1).expect("it fits");
    for length in [i32::MIN, -1, 0, 3, over, i32::MAX] {
        let (mut client, mut broker) = connect();
        broker.send(&length.to_be_bytes()).await;
        let refused = client.receive_raw().await;
        assert!(
            matches!(refused, Err(Error::Length(found)) if found == length),
            "{refused:?}"
        );
    }
    // The bounds themselves are allowed.
    let (mut client, mut broker) = connect();
    for length in [4, ANSWER_BYTES_MAX] {
        broker
            .send(&u32::try_from(length).expect("it fits").to_be_bytes())
            .await;
        broker.send(&vec![0; length]).await;
        let (id, body) = client
            .receive_raw()
            .await
            .expect("is read")
            .expect("is there");
        assert_eq!((id, body.len()), (0, length - 4));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_follow_the_schema_is_refused() {
    let whole = answer::<HeartbeatRequest>(1, V, &code(0));
    let body = &whole[4..];
    let longer = [body, &[0]].concat();
    for frame in [&body[..body.len() - 1], &longer] {
        let (mut client, mut broker) = connect();
        let sent = client
            .send(&HeartbeatRequest::default(), V)
            .await
            .expect("sends");
        let length = u32::try_from(frame.len()).expect("it fits").to_be_bytes();
        broker.send(&[&length[..], frame].concat()).await;
        let refused = client.receive(sent).await;
        assert!(matches!(refused, Err(Error::Decode(_))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_request_that_was_sent_in_part_none_is_sent() {
    let (mut client, _broker) = connect_within(64);
    let name = "t".repeat(1000);
    let request = create_topics(vec![new_topic(&name, 1, &[])]);
    let late = client.send(&request, 7).await;
    assert!(matches!(late, Err(Error::Late)), "{late:?}");
    let refused = client.send(&HeartbeatRequest::default(), V).await;
    assert!(matches!(refused, Err(Error::Torn)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_encoded_leaves_the_connection_usable() {
    let (mut client, mut broker) = connect();
    let name = "t".repeat(TEXT_BYTES_MAX + 1);
    let request = create_topics(vec![new_topic(&name, 1, &[])]);
    let refused = client.send(&request, 7).await;
    assert!(matches!(refused, Err(Error::Encode(_))), "{refused:?}");
    let (request, response) = (HeartbeatRequest::default(), code(0));
    let asked = broker.serve::<HeartbeatRequest>(&response);
    let (answer, _) = tokio::join!(client.call(&request, V), asked);
    assert_eq!(answer.expect("is answered").error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_encoded_once_differs_by_its_correlation_id_alone() {
    let (mut client, mut broker) = connect();
    let request = create_topics(vec![new_topic("t", 3, &[("a", "b")])]);
    let mut encoded = EncodedRequest::new(&request, 7, "test").expect("encodes");
    for _ in 0..2 {
        client
            .send_encoded::<CreateTopicsRequest>(&mut encoded)
            .await
            .expect("sends");
        let frame = broker.receive_raw().await;
        let header = RequestHeader::parse(&mut frame.clone()).expect("a header");
        assert_eq!(header.api_key, ApiKey::CreateTopics as i16);
        let plain = encode(&request, 7, header.correlation_id, "test").expect("encodes");
        assert_eq!(plain.concat()[4..], frame);
    }
}
