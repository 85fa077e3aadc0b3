//! Lines 10 to 16 of docs/KAFKA-BEHAVIOUR.md: refused batches and their answers, and idempotence.

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{FindCoordinatorRequest, InitProducerIdRequest};
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};
use highwater_tests::{TestNode, produce_request, producer_fields, producer_id};

use super::{T0, batch, producer_batch};

// KAFKA-BEHAVIOUR 10, 13
#[tokio::test(flavor = "multi_thread")]
async fn acks_are_checked_and_acks_0_is_silent() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let answer = client
        .call(&produce_request("t", 0, batch(1, T0), 2), 12)
        .await?;
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::InvalidRequiredAcks.code());
    assert_eq!(partition.base_offset, -1, "13");
    client
        .send(&produce_request("t", 0, batch(1, T0), 0), 12)
        .await?;
    let answer = client
        .call(&produce_request("t", 0, batch(1, T0), 1), 12)
        .await?;
    assert_eq!(
        answer.responses[0].partition_responses[0].base_offset, 1,
        "the next answer is the next request's"
    );
    client
        .send(&produce_request("nowhere", 0, batch(1, T0), 0), 12)
        .await?;
    assert!(client.is_closed().await, "an error in acks=0");
    Ok(())
}

// KAFKA-BEHAVIOUR 11, 13, 16
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_takes_exactly_one_sound_batch() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[("max.message.bytes", "1000")])
        .await?;
    let mut client = node.client().await?;
    let two = [batch(1, T0), batch(1, T0)].concat();
    let mut damaged = BytesMut::from(&*batch(1, T0));
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let mut old = BytesMut::from(&*batch(1, T0));
    old[16] = 1;
    let mut large = BatchBuilder::default();
    large.push(T0, None, Some(&[7; 2000]));
    for (batch, error) in [
        (Bytes::from(two), ErrorCode::InvalidRecord),
        (damaged.freeze(), ErrorCode::CorruptMessage),
        (old.freeze(), ErrorCode::InvalidRecord),
        (large.build()?, ErrorCode::MessageTooLarge),
        (Bytes::new(), ErrorCode::InvalidRecord),
        (control_batch(), ErrorCode::InvalidRecord),
    ] {
        let answer = client.produce("t", 0, batch).await?;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (error.code(), -1),
            "{answer:?}"
        );
        assert_eq!(answer.log_append_time_ms, -1);
    }
    let mut zstd = BatchBuilder::new(ProducerFields::default(), Codec::Zstd);
    zstd.push(T0, None, Some(b"v"));
    let zstd = zstd.build()?;
    let answer = client
        .call(&produce_request("t", 0, zstd.clone(), -1), 6)
        .await?;
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::UnsupportedCompressionType.code());
    let answer = client.call(&produce_request("t", 0, zstd, -1), 7).await?;
    assert_eq!(
        answer.responses[0].partition_responses[0].base_offset, 0,
        "nothing was appended before"
    );
    Ok(())
}

/// Makes a batch that claims to hold a marker, with a valid CRC.
fn control_batch() -> Bytes {
    let mut bytes = BytesMut::from(&*batch(1, T0));
    bytes[22] |= 32;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    }) ^ !0
}

// KAFKA-BEHAVIOUR 16
#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_are_the_brokers() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    highwater_tests::find_coordinator(&mut node.client().await?, "g").await?;
    let mut client = node.client().await?;
    let answer = client
        .produce("__consumer_offsets", 0, batch(1, T0))
        .await?;
    assert_eq!(answer.error_code, ErrorCode::InvalidTopicException.code());
    Ok(())
}

// KAFKA-BEHAVIOUR 13
#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_time_is_told_where_it_counts() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await?;
    let mut client = node.client().await?;
    let answer = client.produce("t", 0, batch(3, T0)).await?;
    assert!(answer.log_append_time_ms > T0, "{answer:?}");
    let (_, records) = highwater_tests::read(&mut client, "t", 0).await?;
    let header = highwater_protocol::records::BatchHeader::read(&records)?;
    assert_eq!(header.max_timestamp, answer.log_append_time_ms);
    Ok(())
}

// KAFKA-BEHAVIOUR 13
#[tokio::test(flavor = "multi_thread")]
async fn timestamps_out_of_bounds_are_told_record_by_record() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[("message.timestamp.before.max.ms", "1000")])
        .await?;
    let mut client = node.client().await?;
    let answer = client.produce("t", 0, batch(2, 1000)).await?;
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
    let indexes: Vec<i32> = answer
        .record_errors
        .iter()
        .map(|error| error.batch_index)
        .collect();
    assert_eq!(indexes, [0, 1]);
    Ok(())
}

// KAFKA-BEHAVIOUR 14, 15
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_repeats_itself_is_answered_as_the_first_time() -> Result<()> {
    let node = TestNode::start(&[("highwater.upload.interval.ms", "100")]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    assert_ne!(id, producer_id(&mut client).await?, "never twice");
    let of = |epoch, base_sequence| ProducerFields {
        id,
        epoch,
        base_sequence,
    };
    let send = |epoch, sequence| producer_batch(10, T0, of(epoch, sequence));
    client.produce("t", 0, batch(10, T0)).await?;
    // KAFKA-BEHAVIOUR 15: the producer goes on with its sequence in a topic that was deleted and created again.
    let answer = client.produce("t", 0, send(0, 5)).await?;
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (0, 10),
        "any sequence begins"
    );
    for i in 0..6 {
        let answer = client.produce("t", 0, send(0, 15 + i * 10)).await?;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, i64::from(i + 2) * 10)
        );
    }
    // KAFKA-BEHAVIOUR 14: a repeat of any of the last five batches is answered with that batch's offset.
    for i in 1..6 {
        let answer = client.produce("t", 0, send(0, 15 + i * 10)).await?;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, i64::from(i + 2) * 10)
        );
    }
    let answer = client.produce("t", 0, send(0, 15)).await?;
    assert_ne!(answer.error_code, 0, "older ones are forgotten");
    let answer = client.produce("t", 0, send(0, 1000)).await?;
    assert_eq!(
        answer.error_code,
        ErrorCode::OutOfOrderSequenceNumber.code(),
        "a gap"
    );
    let answer = client.produce("t", 0, send(1, 7)).await?;
    assert_eq!(
        answer.error_code,
        ErrorCode::OutOfOrderSequenceNumber.code(),
        "a new epoch begins at 0"
    );
    assert_eq!(client.produce("t", 0, send(1, 0)).await?.base_offset, 80);
    let answer = client.produce("t", 0, send(0, 75)).await?;
    assert_eq!(answer.error_code, ErrorCode::InvalidProducerEpoch.code());
    // F1 to F5: the answers are the same after an upload and a restart.
    let dir = node.stop().await?;
    let machine = highwater_broker::node::Machine::real();
    let node = TestNode::start_in(dir, &[], machine).await?;
    let mut client = node.client().await?;
    assert_eq!(client.produce("t", 0, send(1, 0)).await?.base_offset, 80);
    assert_eq!(client.produce("t", 0, send(1, 10)).await?.base_offset, 90);
    assert!(
        producer_id(&mut client).await? > id,
        "never twice, also not after a restart"
    );
    Ok(())
}

// KAFKA-BEHAVIOUR 14
#[tokio::test(flavor = "multi_thread")]
async fn after_the_largest_sequence_comes_0() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    client.produce("t", 0, batch(1, T0)).await?;
    let first = client
        .produce(
            "t",
            0,
            producer_batch(8, T0, producer_fields(id, i32::MAX - 3)),
        )
        .await?;
    assert_eq!((first.error_code, first.base_offset), (0, 1));
    let next = client
        .produce("t", 0, producer_batch(2, T0, producer_fields(id, 4)))
        .await?;
    assert_eq!((next.error_code, next.base_offset), (0, 9));
    let again = client
        .produce(
            "t",
            0,
            producer_batch(8, T0, producer_fields(id, i32::MAX - 3)),
        )
        .await?;
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    Ok(())
}

// KAFKA-BEHAVIOUR 11
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_lies_is_refused() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let honest = batch(2, T0);
    // The count of records follows the base sequence.
    let mut lying = BytesMut::from(&honest[..57]);
    lying.put_i32(3);
    lying.extend_from_slice(&honest[61..]);
    let crc = crc32c(&lying[21..]);
    lying[17..21].copy_from_slice(&crc.to_be_bytes());
    let answer = client.produce("t", 0, lying.freeze()).await?;
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord.code());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_for_good() -> Result<()> {
    let node = TestNode::start(&[]).await?;
    let mut client = node.client().await?;
    let request = InitProducerIdRequest {
        transactional_id: Some("t".into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let answer = client.call(&request, 4).await?;
    let refused = ErrorCode::TransactionalIdAuthorizationFailed.code();
    assert_eq!(answer.error_code, refused);
    let find = FindCoordinatorRequest {
        key_type: 1,
        coordinator_keys: vec!["t".into()],
        ..Default::default()
    };
    let found = client.call(&find, 4).await?.coordinators.remove(0);
    assert_eq!(found.error_code, refused);
    let why = found.error_message.unwrap_or_default();
    assert!(why.contains("Transactions are not supported"), "{why}");
    Ok(())
}
