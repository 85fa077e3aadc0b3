//! The batches and requests that a producer sends repeatedly. They are built once, with a valid checksum.

use anyhow::Result;
use bytes::Bytes;
use highwater_client::{EncodedRequest, Topic, produce};
use highwater_protocol::messages::ProduceRequest;
use highwater_protocol::records::{BATCH_HEADER_BYTES, BatchBuilder};
use highwater_types::Uuid;

use crate::socket::CLIENT_ID;

const ACKS_ALL: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;

/// A record batch without a producer id, so that a broker accepts it any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: u64,
}

impl Batch {
    /// Builds a batch of as many records as fit into `batch_bytes`, at least one. Each has a value of `record_bytes`
    /// and no key.
    pub(crate) fn build(record_bytes: usize, batch_bytes: usize, timestamp: i64) -> Result<Self> {
        let values = noise(record_bytes);
        let mut records =
            (batch_bytes.saturating_sub(BATCH_HEADER_BYTES) / record_bytes.max(1)).max(1);
        loop {
            let mut builder = BatchBuilder::default();
            for _ in 0..records {
                builder.push(timestamp, None, Some(&values));
            }
            let bytes = builder.build()?;
            if bytes.len() <= batch_bytes || records == 1 {
                let records = u64::try_from(records)?;
                return Ok(Self { bytes, records });
            }
            records -= (records / 100).max(1);
        }
    }
}

/// Incompressible bytes, which are the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A whole request, which is encoded once.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) request: EncodedRequest<ProduceRequest>,
    /// The partitions that the request writes to.
    pub(crate) partitions: Vec<i32>,
    /// The number of bytes in its batches.
    pub(crate) batch_bytes: u64,
}

impl Frame {
    /// Builds a request with one batch for each of these partitions, acknowledged by all replicas.
    pub(crate) fn build(topic: Uuid, partitions: &[i32], batch: &Batch) -> Result<Self> {
        let batches = partitions.iter().map(|index| (*index, batch.bytes.clone()));
        let topic = Topic::from(topic);
        let mut request = produce(&topic, batches, ACKS_ALL);
        request.timeout_ms = TIMEOUT_MS;
        Ok(Self {
            request: EncodedRequest::new(&request, topic.produce_version(), CLIENT_ID)?,
            partitions: partitions.to_vec(),
            batch_bytes: u64::try_from(batch.bytes.len() * partitions.len())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_protocol::records::BatchHeader;

    #[test]
    fn batches_are_as_large_as_asked_and_sound() {
        for (record, batch) in [(100, 16 << 10), (1 << 10, 128 << 10), (1 << 10, 16 << 10)] {
            let built = Batch::build(record, batch, 1000).expect("builds");
            assert!(built.bytes.len() <= batch, "{record} in {batch}");
            assert!(
                built.bytes.len() > batch - 2 * record,
                "{record} in {batch}"
            );
            let header = BatchHeader::read(&built.bytes).expect("sound");
            header.check_crc(&built.bytes).expect("sound");
            assert_eq!(u64::try_from(header.count), Ok(built.records));
        }
        let single = Batch::build(64 << 10, 16 << 10, 1000).expect("builds");
        assert_eq!(single.records, 1);
    }
}
