//! No client can harm others: texts that are too long or not UTF-8, numbers at their limits, and a defect of the node.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use highwater_broker::api::APIS;
use highwater_codegen::{Fill, Message as Schema, NAME, read_schema, sample};
use highwater_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use highwater_protocol::records::{BatchHeader, TimestampType};
use highwater_protocol::{
    ErrorCode, FrameWriter, Request, StrBytes, TEXT_BYTES_MAX, for_each_api, messages,
};
use highwater_tests::{Outcome, Panicking, TestNode, ask_oddly, find_coordinator};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{T0, batch};

async fn with_groups() -> Result<TestNode> {
    let node = TestNode::start(&[("offsets.topic.num.partitions", "1")]).await?;
    node.create_topic(NAME, 1, &[]).await?;
    let mut client = node.client().await?;
    find_coordinator(&mut client, NAME).await?;
    let commit = commit(NAME, Some("m"));
    // The coordinator's partition may still be loading.
    while client.call(&commit, 8).await?.topics[0].partitions[0].error_code != 0 {
        tokio::task::yield_now().await;
    }
    Ok(node)
}

fn commit(group: &str, metadata: Option<&str>) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: NAME.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_metadata: metadata.map(StrBytes::from),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn join(group: &str, protocol: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: StrBytes::from(group),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: StrBytes::from(protocol),
            metadata: Bytes::from_static(b"m"),
        }],
        ..Default::default()
    }
}

fn frame<R: Request>(request: &R, version: i16) -> Result<Bytes> {
    let flexible = version >= R::FLEXIBLE_FROM;
    let mut out = FrameWriter::request(R::KEY, version, flexible, 1, NAME);
    request.write(&mut out, version);
    Ok(out.finish()?.concat().split_off(4).into())
}

/// Makes a request whose first text is one byte longer than the limit. The writer refuses such a text, so the byte is
/// inserted into the encoded request.
fn too_long<R: Request>(request: &R, version: i16) -> Result<Bytes> {
    let mut frame = frame(request, version)?.to_vec();
    let encoded = |length: u8| [0x80 | length, 0x80, 0x02];
    let at = frame.windows(3).position(|bytes| bytes == encoded(0));
    let at = at.context("a length of 32,768 less one")?;
    frame.splice(at..at + 3, encoded(1).into_iter().chain(*b"g"));
    Ok(frame.into())
}

// `MessageDataGenerator` of Kafka 4.4 reads no text over 32,767 bytes, in flexible versions either.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_long_closes_its_connection_and_no_other() -> Result<()> {
    let node = with_groups().await?;
    let longest = "g".repeat(TEXT_BYTES_MAX);
    let mut client = node.client().await?;
    let answer = client.call(&commit(&longest, None), 8).await?;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let answer = client.call(&join(&longest, &longest), 6).await?;
    assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
    let heartbeat = HeartbeatRequest {
        group_id: StrBytes::from(longest.as_str()),
        ..Default::default()
    };
    for (frame, is_closed) in [
        (frame(&commit(&longest, None), 9)?, Outcome::Answered),
        (too_long(&commit(&longest, None), 9)?, Outcome::Closed),
        (too_long(&join(&longest, "range"), 9)?, Outcome::Closed),
        (too_long(&heartbeat, 4)?, Outcome::Closed),
    ] {
        assert_eq!(ask_oddly(node.address, &frame).await?, is_closed);
    }
    let answer = client.call(&MetadataRequest::default(), 12).await?;
    assert_eq!(answer.error_code, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_id_is_cut_to_fit() -> Result<()> {
    let node = with_groups().await?;
    let mut client = node.client().await?;
    client.set_client_id("c".repeat(32_740));
    for version in [5, 9] {
        let answer = client.call(&join("cut", "range"), version).await?;
        assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
        assert_eq!(answer.member_id.len(), TEXT_BYTES_MAX);
        // The member may use the id in every version.
        let request = JoinGroupRequest {
            member_id: answer.member_id.clone(),
            ..join("cut", "range")
        };
        let joined = client.call(&request, version).await?;
        assert_eq!(joined.error_code, 0);
        let heartbeat = HeartbeatRequest {
            group_id: "cut".into(),
            generation_id: joined.generation_id,
            member_id: answer.member_id,
            ..Default::default()
        };
        assert_eq!(client.call(&heartbeat, 3).await?.error_code, 0);
        let leave = messages::LeaveGroupRequest {
            group_id: "cut".into(),
            member_id: heartbeat.member_id,
            ..Default::default()
        };
        client.call(&leave, 2).await?;
    }
    Ok(())
}

// Kafka 4.4 reads texts by `new String(bytes, UTF_8)` in `ByteBufferAccessor.readString`.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_utf_8_is_replaced() -> Result<()> {
    let node = with_groups().await?;
    // This is ApiVersions 0 of a client with the id caf\xe9.
    let frame = Bytes::from_static(b"\0\x12\0\0\0\0\0\x07\0\x04caf\xe9");
    let outcome = ask_oddly(node.address, &frame).await?;
    assert_eq!(outcome, Outcome::Answered);
    let mut client = node.client().await?;
    let marker = "\u{e9}\u{e8}";
    let mut out = FrameWriter::request(OffsetCommitRequest::KEY, 7, false, 1, "test");
    highwater_protocol::Message::write(&commit(NAME, Some(marker)), &mut out, 7);
    let mut frame = out.finish()?.concat();
    let at = frame.windows(4).position(|four| four == marker.as_bytes());
    frame[at.expect("it is there")..][..4].copy_from_slice(b"\xff\xfeab");
    client.send_raw(&frame).await?;
    let (_, body) = client.receive_raw().await?.context("it is answered")?;
    let answer = highwater_client::decode::<OffsetCommitRequest>(body, 7)?;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let request = OffsetFetchRequest {
        group_id: NAME.into(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: NAME.into(),
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let answer = client.call(&request, 5).await?;
    let metadata = answer.topics[0].partitions[0].metadata.as_deref();
    assert_eq!(metadata, Some("\u{fffd}\u{fffd}ab"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_own_connection_alone() -> Result<()> {
    let node = TestNode::start_with(Arc::new(Panicking)).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut other = node.client().await?;
    let heartbeat = HeartbeatRequest {
        group_id: "broken".into(),
        ..Default::default()
    };
    let mut client = node.client().await?;
    client.send(&heartbeat, 4).await?;
    assert!(client.is_closed().await);
    assert_eq!(other.produce("t", 0, batch(1, T0)).await?.error_code, 0);
    let ended = tokio::time::timeout(std::time::Duration::ZERO, node.failed()).await;
    assert!(ended.is_err(), "the node goes on: {ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_at_their_end_do_not_overflow() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let configs = [("message.timestamp.after.max.ms", "9223372036854775807")];
    node.create_topic("t", 1, &configs).await?;
    let mut client = node.client().await?;
    // The batch has one record with a timestamp delta of 1, so that the record's timestamp would exceed the largest
    // one.
    let batch = batch(1, T0);
    let mut far = BatchHeader::read(&batch)?
        .restamped(&batch, TimestampType::CreateTime, i64::MAX)
        .to_vec();
    far[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
    assert_eq!(std::mem::replace(&mut far[63], 2), 0);
    let header = BatchHeader::read(&far)?;
    let far = header.restamped(&far, TimestampType::CreateTime, i64::MAX);
    assert_eq!(client.produce("t", 0, far).await?.error_code, 0);
    for timestamp in [0, T0, i64::MAX, -1, -2, -3] {
        let request = highwater_tests::offset_at("t", timestamp);
        let answer = client.call(&request, 7).await?;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{timestamp}");
    }
    Ok(())
}

const SAMPLES: usize = 3;
const SEED: u64 = 1;

/// Sends every API in every version, with odd texts and numbers at their limits: each is answered, and nothing panics.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_can_be_read_is_answered() -> Result<()> {
    let node = with_groups().await?;
    let schema = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/schema"));
    let schema = read_schema(schema)?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut answered = 0;
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let of = &schema[stringify!($request)];
            for frame in frames::<messages::$request>(of, &mut random)? {
                let outcome = ask_oddly(node.address, &frame).await?;
                answered += usize::from(outcome == Outcome::Answered);
            }
        };
    }
    for_each_api!(each);
    assert!(answered > 400, "only {answered} were answered");
    Ok(())
}

fn frames<R: Request>(schema: &Schema, random: &mut ChaCha8Rng) -> Result<Vec<Bytes>> {
    let mut frames = Vec::new();
    let Some(entry) = APIS.iter().find(|entry| entry.key == R::KEY) else {
        return Ok(frames);
    };
    for version in entry.min..=entry.max {
        for _ in 0..SAMPLES {
            let flexible = version >= R::FLEXIBLE_FROM;
            let out = FrameWriter::request(R::KEY, version, flexible, 1, NAME);
            let mut frame = out.finish()?.concat().split_off(4);
            frame.extend(sample(schema, version, Fill::Odd, &mut || {
                random.next_u32()
            })?);
            frames.push(frame.into());
        }
    }
    Ok(frames)
}
