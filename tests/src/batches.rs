//! Record batches that tests produce.

use bytes::Bytes;
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};

/// A time at which records may be stamped, in milliseconds.
pub const T0: i64 = 1_790_000_000_000;

/// A batch of so many records, stamped a millisecond apart.
#[must_use]
pub fn batch(count: i64, first_timestamp: i64) -> Bytes {
    producer_batch(count, first_timestamp, ProducerFields::default())
}

/// As [`batch`], of a producer.
///
/// # Panics
/// Never: no codec can fail.
#[must_use]
pub fn producer_batch(count: i64, first_timestamp: i64, producer: ProducerFields) -> Bytes {
    let mut builder = BatchBuilder::new(producer, Codec::None);
    for i in 0..count {
        let value = format!("value-{i}");
        builder.push(first_timestamp + i, Some(b"key"), Some(value.as_bytes()));
    }
    builder.build().expect("no codec fails")
}
