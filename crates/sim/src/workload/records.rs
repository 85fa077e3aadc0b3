//! Records whose values contain their identity.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_protocol::records::{
    BatchBuilder, BatchHeader, Codec, ProducerFields, split_batches,
};

use crate::checker::Identity;

const HEADER_BYTES: usize = 12;
const LIMIT: usize = 16 << 20;

fn filler(identity: Identity) -> u8 {
    identity.producer.to_be_bytes()[3] ^ identity.sequence.to_be_bytes()[3] ^ 0x5a
}

/// Makes a value of `bytes` or a few more.
fn value(identity: Identity, bytes: usize) -> Bytes {
    let mut value = BytesMut::with_capacity(HEADER_BYTES + bytes);
    value.put_u32(identity.producer);
    value.put_i32(identity.sequence);
    value.put_u32(u32::try_from(bytes).unwrap_or(0));
    value.put_bytes(filler(identity), bytes);
    value.freeze()
}

fn parse(mut value: Bytes) -> Option<Identity> {
    if value.len() < HEADER_BYTES {
        return None;
    }
    let identity = Identity {
        producer: value.get_u32(),
        sequence: value.get_i32(),
    };
    let bytes = usize::try_from(value.get_u32()).ok()?;
    // a comparison of slices is fast without optimisation too
    let sound = value.len() == bytes && value == vec![filler(identity); bytes];
    sound.then_some(identity)
}

/// Makes a batch of records with these sizes of values.
pub(super) fn batch(
    producer: ProducerFields,
    records: &[Identity],
    value_bytes: usize,
    timestamp: i64,
) -> Bytes {
    let mut builder = BatchBuilder::new(producer, Codec::None);
    for identity in records {
        let value = value(*identity, value_bytes);
        builder.push(timestamp, Some(b"key"), Some(&value));
    }
    builder.build().expect("no codec can fail")
}

/// A record as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) identity: Identity,
}

/// Returns the records of whole batches, or an error if they are not as a producer sent them.
pub(super) fn read(bytes: &Bytes) -> Result<Vec<Read>, String> {
    let mut found = Vec::new();
    let batches = split_batches(bytes).map_err(|error| error.to_string())?;
    for (header, batch) in batches {
        let at = header.base_offset;
        let damaged = |error: &dyn std::fmt::Display| format!("batch at {at}: {error}");
        header.check_crc(&batch).map_err(|error| damaged(&error))?;
        let records = header
            .records(&batch, LIMIT)
            .map_err(|error| damaged(&error))?;
        for record in &records {
            let record = record.map_err(|error| damaged(&error))?;
            let offset = at + i64::from(record.offset_delta);
            let identity = record.value.and_then(parse);
            let identity = identity.ok_or_else(|| damaged(&"no value of ours"))?;
            if !is_of(&header, record.offset_delta, identity) {
                return Err(damaged(&format!("{identity:?} is not of this batch")));
            }
            found.push(Read {
                offset,
                leader_epoch: header.leader_epoch,
                identity,
            });
        }
    }
    Ok(found)
}

fn is_of(header: &BatchHeader, delta: i32, identity: Identity) -> bool {
    header.base_sequence + delta == identity.sequence
}
