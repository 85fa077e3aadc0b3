//! Lines 1 to 5 of docs/KAFKA-BEHAVIOUR.md: order, versions, and reasons to close a connection.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use bytes::Bytes;
use highwater_broker::auth::{Authorizer, Operation, Principal, Resource};
use highwater_protocol::messages::list_offsets_request::ListOffsetsPartition;
use highwater_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, MetadataRequest,
};
use highwater_protocol::{ApiKey, ErrorCode, Message, Reader};
use highwater_tests::{TestNode, produce_request};

use super::{T0, batch};

// KAFKA-BEHAVIOUR 1; A3
#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_order_of_requests_and_see_what_was_before_them() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let mut sent = Vec::new();
    for i in 0..50 {
        let request = produce_request("t", 0, batch(10, T0 + i), -1);
        sent.push(client.send(&request, 12).await?);
    }
    let asked = highwater_tests::latest("t");
    let last = client.send(&asked, 10).await?;
    for (i, id) in (0..).zip(sent) {
        let answer = client.receive(id).await?;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, i * 10));
    }
    let answer = client.receive(last).await?;
    assert_eq!(answer.topics[0].partitions[0].offset, 500);
    Ok(())
}

// KAFKA-BEHAVIOUR 2
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    // The header has key 18, version 99, correlation id 7, no client id and no tagged fields.
    client
        .send_raw(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0])
        .await?;
    let (id, body) = client.receive_raw().await?.expect("it is answered");
    let answer = ApiVersionsResponse::read(&mut Reader::new(body), 0)?;
    assert_eq!(
        (id, answer.error_code),
        (7, ErrorCode::UnsupportedVersion.code())
    );
    let keys: Vec<i16> = answer.api_keys.iter().map(|api| api.api_key).collect();
    assert_eq!(keys, [18]);
    Ok(())
}

// KAFKA-BEHAVIOUR 3, 4
#[tokio::test(flavor = "multi_thread")]
async fn api_versions_tells_of_produce_from_0_and_hides_features_that_begin_at_0() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    for version in 0..=4 {
        let answer = client.call(&request, version).await?;
        let produce = answer.api_keys.iter().find(|api| api.api_key == 0);
        assert_eq!(
            produce.map(|api| api.min_version),
            Some(0),
            "version {version}"
        );
        assert_eq!(answer.api_keys.len(), highwater_broker::api::APIS.len());
        if version == 3 {
            let hidden = answer
                .supported_features
                .iter()
                .all(|one| one.min_version > 0);
            assert!(hidden, "{:?}", answer.supported_features);
        }
    }
    // The name does not match Kafka's pattern.
    let request = ApiVersionsRequest {
        client_software_name: " bad ".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let answer = client.call(&request, 4).await?;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    Ok(())
}

// KAFKA-BEHAVIOUR 5
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_closes_the_connection() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let unknown_api: &[u8] = &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let old_produce: &[u8] = &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff];
    let negative_length: &[u8] = &[0xff, 0xff, 0xff, 0xff];
    let huge_length: &[u8] = &[0x7f, 0xff, 0xff, 0xff];
    // This is Metadata 1 with an array of 2147483647 topics.
    let lying_array: &[u8] = &[
        0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
    ];
    for bytes in [
        unknown_api,
        old_produce,
        negative_length,
        huge_length,
        lying_array,
    ] {
        let mut client = node.client().await?;
        client.send_raw(bytes).await?;
        assert!(client.is_closed().await, "{bytes:?}");
    }
    // The node goes on.
    let answer = node
        .client()
        .await?
        .call(&MetadataRequest::default(), 12)
        .await?;
    assert_eq!(answer.topics.len(), 0);
    Ok(())
}

// KAFKA-BEHAVIOUR 5
#[tokio::test(flavor = "multi_thread")]
async fn unknown_tagged_fields_are_skipped() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    // This is ApiVersions 3. Its header has tag 9 of two bytes; its body has "a", "b", and tag 5 of one byte.
    let body = [
        0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 1, 9, 2, 0xaa, 0xbb, 2, b'a', 2, b'b', 1, 5, 1, 0xcc,
    ];
    let mut frame = vec![0, 0, 0, u8::try_from(body.len())?];
    frame.extend_from_slice(&body);
    client.send_raw(&frame).await?;
    let (_, body) = client.receive_raw().await?.expect("it is answered");
    let answer = ApiVersionsResponse::read(&mut Reader::new(body), 3)?;
    assert_eq!(answer.error_code, 0);
    assert!(
        answer
            .api_keys
            .iter()
            .any(|api| api.api_key == ApiKey::Fetch as i16)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_frees_its_waiting_fetch() -> Result<()> {
    let node = TestNode::start(&[("max.connections", "3")]).await?;
    node.create_topic("t", 1, &[]).await?;
    for _ in 0..20 {
        let mut client = node.client().await?;
        let mut fetch: FetchRequest = highwater_tests::fetch("t", 0, 1 << 20);
        fetch.max_wait_ms = 600_000;
        fetch.min_bytes = 1;
        client.send(&fetch, 12).await?;
        drop(client);
    }
    // If the memory of the three were still held, a fourth could not be served.
    let mut client = node.client().await?;
    let answer = client.produce("t", 0, batch(1, T0)).await?;
    assert_eq!(answer.error_code, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_a_request_are_ignored() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    // This is Metadata 1 without topics, and with three trailing bytes.
    let body = [0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3];
    let mut frame = vec![0, 0, 0, u8::try_from(body.len())?];
    frame.extend_from_slice(&body);
    client.send_raw(&frame).await?;
    let answer: Option<(i32, Bytes)> = client.receive_raw().await?;
    assert_eq!(answer.map(|(id, _)| id), Some(7));
    Ok(())
}

/// The order in which a large and a small request were served: an entry for each change between their topics.
#[derive(Debug, Default)]
struct Turns(Mutex<Vec<bool>>);

impl Authorizer for Turns {
    fn allows(&self, _: &Principal, _: Operation, resource: Resource<'_>) -> bool {
        let is_large = resource == Resource::Topic("large");
        if is_large || resource == Resource::Topic("small") {
            let mut turns = self.0.lock().expect("is whole");
            if turns.last() != Some(&is_large) {
                turns.push(is_large);
            }
        }
        true
    }
}

// One thread serves both, and the small requests have their turn between the entries of the large one.
#[tokio::test]
async fn a_large_request_lets_small_ones_pass() -> Result<()> {
    let turns = Arc::new(Turns::default());
    let node = TestNode::start_with(Arc::<Turns>::clone(&turns)).await?;
    let (mut client, mut other) = (node.client().await?, node.client().await?);
    let mut large = highwater_tests::latest("large");
    let one = large.topics[0].partitions[0].clone();
    let partitions = (0..20_000).map(|partition_index| ListOffsetsPartition {
        partition_index,
        ..one.clone()
    });
    large.topics[0].partitions = partitions.collect();
    let small = highwater_tests::latest("small");
    let smalls = async {
        loop {
            other.call(&small, 10).await?;
        }
    };
    // The loop of small requests is cancelled at the end, and its connection is not used again.
    tokio::select! {
        biased;
        answered = client.call(&large, 10) => drop(answered?),
        failed = smalls => return failed,
    }
    let turns = turns.0.lock().expect("is whole");
    let large_turns = turns.iter().filter(|is_large| **is_large).count();
    assert!(
        large_turns > 1,
        "the large one is served in one go: {turns:?}"
    );
    Ok(())
}
