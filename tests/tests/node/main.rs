//! A whole node, asked by a client that does what no real client would. The numbers are docs/KAFKA-BEHAVIOUR.md's.

mod admin;
mod answers;
mod authorization;
mod cold_reads;
mod compression;
mod connection;
mod coordinators;
mod damage;
mod faults;
mod fetch;
mod groups;
mod limits;
mod odd_clients;
mod offsets;
mod opening;
mod produce;
mod producers;
mod retention;
mod starts;
mod uploads;
mod waiting;

use bytes::Bytes;
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};

/// A batch of records `0..count` with these values' sizes and timestamps from `first_timestamp` on.
fn batch(count: i64, first_timestamp: i64) -> Bytes {
    producer_batch(count, first_timestamp, ProducerFields::default())
}

fn producer_batch(count: i64, first_timestamp: i64, producer: ProducerFields) -> Bytes {
    let mut builder = BatchBuilder::new(producer, Codec::None);
    for i in 0..count {
        let value = format!("value-{i}");
        builder.push(first_timestamp + i, Some(b"key"), Some(value.as_bytes()));
    }
    builder.build().expect("no codec fails")
}

const T0: i64 = 1_790_000_000_000;
