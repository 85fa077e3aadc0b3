//! Batches that Kafka's Java producer classes encoded, by `java RoundTrip.java write protocol/tests/fixtures`.

mod rule;

use bytes::Bytes;
use highwater_protocol::records::{BatchHeader, Codec, split_batches, walk};
use rule::{ExpectedRecord, PRODUCER, build, record};

const DECOMPRESSED_MAX: usize = 1 << 20;

const FIXTURES: [(&str, Codec, i32); 11] = [
    ("none", Codec::None, 12),
    ("gzip", Codec::Gzip, 200),
    ("snappy", Codec::Snappy, 200),
    ("lz4", Codec::Lz4, 200),
    ("zstd", Codec::Zstd, 200),
    ("gzip-noise", Codec::Gzip, 1),
    ("snappy-noise", Codec::Snappy, 1),
    ("lz4-noise", Codec::Lz4, 1),
    ("zstd-noise", Codec::Zstd, 1),
    ("lz4-level-17", Codec::Lz4, 200),
    ("zstd-level-22", Codec::Zstd, 200),
];

fn fixture(name: &str) -> Bytes {
    let path = format!("tests/fixtures/{name}.hex");
    let text = std::fs::read_to_string(path).expect("the fixture is there");
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits");
    digits.chunks(2).map(byte).collect()
}

fn holds_the_rule(name: &str, batch: &Bytes, codec: Codec, count: i32) {
    let header = BatchHeader::read(batch).expect(name);
    header.check_crc(batch).expect(name);
    assert_eq!(
        (header.codec(), header.bytes),
        (Ok(codec), batch.len()),
        "{name}"
    );
    assert_eq!(
        (header.count, header.last_offset_delta),
        (count, count - 1),
        "{name}"
    );
    assert_eq!(
        (header.producer_id, header.producer_epoch),
        (PRODUCER.id, PRODUCER.epoch)
    );
    assert_eq!(
        (header.base_sequence, header.last_sequence()),
        (0, count - 1),
        "{name}"
    );
    let records = header.records(batch, DECOMPRESSED_MAX).expect(name);
    let mut seen = Vec::new();
    for read in &records {
        let read = read.expect(name);
        let i = read.offset_delta;
        let read = ExpectedRecord {
            timestamp: header.base_timestamp + read.timestamp_delta,
            key: read.key,
            value: read.value,
            headers: read.headers,
        };
        assert_eq!(read, record(i, count), "{name} {i}");
        seen.push((i, read.timestamp));
    }
    assert!(seen.iter().map(|(i, _)| *i).eq(0..count), "{name}");
    let largest = seen.iter().map(|(_, timestamp)| *timestamp).max();
    assert_eq!(largest, Some(header.max_timestamp), "{name}");
    let mut walked = Vec::new();
    walk(records.body(), count, |i, timestamp, _| {
        walked.push((i, header.base_timestamp + timestamp));
    })
    .expect(name);
    assert_eq!(walked, seen, "{name}");
}

#[test]
fn batches_of_the_java_producer_are_read_whatever_their_codec() {
    for (name, codec, count) in FIXTURES {
        holds_the_rule(name, &fixture(name), codec, count);
    }
}

#[test]
fn batches_of_the_java_producer_are_told_apart_when_they_lie_in_a_row() {
    let row: Vec<u8> = FIXTURES
        .iter()
        .flat_map(|(name, ..)| fixture(name))
        .collect();
    let batches = split_batches(&row.into()).expect("sound");
    assert_eq!(batches.len(), FIXTURES.len());
    for ((header, batch), (name, ..)) in batches.iter().zip(FIXTURES) {
        assert_eq!((*batch).clone(), fixture(name), "{name}");
        header.check_crc(batch).expect(name);
    }
}

#[test]
fn ours_hold_the_same_and_uncompressed_are_the_same_bytes() {
    for (name, codec, count) in FIXTURES {
        let ours = build(codec, count).expect("builds");
        holds_the_rule(name, &ours, codec, count);
    }
    assert_eq!(build(Codec::None, 12).expect("builds"), fixture("none"));
}
