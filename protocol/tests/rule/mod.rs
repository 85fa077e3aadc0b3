//! The rule by which `tests/clients/java/RoundTrip.java` fills batches: it gives the record at each index of a batch.

use bytes::Bytes;
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields, RecordHeader};

const TIME: i64 = 1_700_000_000_000;

/// The producer of every batch.
pub(crate) const PRODUCER: ProducerFields = ProducerFields {
    id: 7,
    epoch: 1,
    base_sequence: 0,
};

/// The record that the rule gives.
#[derive(Debug, PartialEq)]
pub(crate) struct ExpectedRecord {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<RecordHeader>,
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

pub(crate) fn record(i: i32, count: i32) -> ExpectedRecord {
    let at = usize::try_from(i).expect("an index");
    let key = (i % 3 != 0).then(|| Bytes::from(format!("key-{i}")));
    let value = if count == 1 {
        Some(noise(3000))
    } else {
        let byte = |place| low_byte(at + place / 50);
        (i % 5 != 4).then(|| (0..(at * 37) % 2000).map(byte).collect())
    };
    let header = |h: usize| RecordHeader {
        key: Bytes::from(format!("h{}", h % 2)),
        value: (h != 1).then(|| Bytes::from(vec![low_byte(h), 0xff])),
    };
    ExpectedRecord {
        timestamp: TIME + i64::from(i) * 7 - i64::from(i % 2) * 1000,
        key,
        value,
        headers: (0..at % 4).map(header).collect(),
    }
}

fn noise(length: usize) -> Bytes {
    let mut state = 1u64;
    let mut byte = || {
        state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
        state.to_le_bytes()[2]
    };
    (0..length).map(|_| byte()).collect()
}

/// The batch that we build of the rule's records.
pub(crate) fn build(codec: Codec, count: i32) -> std::io::Result<Bytes> {
    let mut builder = BatchBuilder::new(PRODUCER, codec);
    for i in 0..count {
        let wanted = record(i, count);
        builder.push_with_headers(
            wanted.timestamp,
            wanted.key.as_deref(),
            wanted.value.as_deref(),
            &wanted.headers,
        );
    }
    builder.build()
}
