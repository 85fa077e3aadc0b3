//! Record batches that tests produce.

use bytes::Bytes;
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};

/// A timestamp for records, in milliseconds.
pub const T0: i64 = 1_790_000_000_000;

/// Builds a batch of this many records, whose timestamps are a millisecond apart.
#[must_use]
pub fn batch(count: i64, first_timestamp: i64) -> Bytes {
    producer_batch(count, first_timestamp, ProducerFields::default())
}

/// Does the same as [`batch`], for a producer with an id.
///
/// # Panics
/// Never, because no codec can fail.
#[must_use]
pub fn producer_batch(count: i64, first_timestamp: i64, producer: ProducerFields) -> Bytes {
    let mut builder = BatchBuilder::new(producer, Codec::None);
    for i in 0..count {
        let value = format!("value-{i}");
        builder.push(first_timestamp + i, Some(b"key"), Some(value.as_bytes()));
    }
    builder.build().expect("no codec fails")
}

/// Builds a batch of one record, whose value has this many bytes.
///
/// # Panics
/// Never, because no codec can fail.
#[must_use]
pub fn large_batch(value_bytes: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::default();
    builder.push(timestamp, None, Some(&vec![b'x'; value_bytes]));
    builder.build().expect("no codec fails")
}

/// The fields of a producer in a batch, in its first epoch.
#[must_use]
pub fn producer_fields(id: i64, base_sequence: i32) -> ProducerFields {
    ProducerFields {
        id,
        epoch: 0,
        base_sequence,
    }
}
