//! Record batches, as produce requests and the log's readers decode them.

use anyhow::Result;
use bytes::Bytes;
use highwater_protocol::records::{
    BatchBuilder, BatchHeader, Codec, ProducerFields, RecordHeader, TimestampType, split_batches,
    walk,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::decompression;
use crate::allocator::{Bound, within};
use crate::campaign::Target;
use crate::captured;

pub(crate) const TARGET: Target = Target {
    name: "records",
    seeds,
    check,
};

const SEEDS_PER_CODEC: usize = 20;
const DECOMPRESSED_MAX: usize = 256 << 10;

fn seeds(random: &mut ChaCha8Rng) -> Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        for i in 0..SEEDS_PER_CODEC {
            let mut bytes = batch(codec, random)?.to_vec();
            if i % 4 == 0 {
                bytes.extend_from_slice(&batch(Codec::None, random)?);
            }
            seeds.push(bytes);
        }
    }
    for batch in captured::batches()? {
        // a few batches are larger than the longest input
        if BatchHeader::read(&batch)?
            .records(&batch, DECOMPRESSED_MAX)
            .is_ok()
        {
            seeds.push(batch.to_vec());
        }
    }
    Ok(seeds)
}

fn batch(codec: Codec, random: &mut ChaCha8Rng) -> Result<Bytes> {
    let producer = ProducerFields {
        id: 7,
        epoch: 1,
        base_sequence: i32::MAX,
    };
    let mut builder = BatchBuilder::new(producer, codec);
    for _ in 0..1 + random.next_u32() % 8 {
        let mut field = || {
            let length = usize::try_from(random.next_u32() % 200).unwrap_or(0);
            (length % 4 != 0).then(|| Bytes::from(vec![random.next_u32().to_be_bytes()[0]; length]))
        };
        let (key, value) = (field(), field());
        let header = |_| RecordHeader {
            key: field().unwrap_or_default(),
            value: field(),
        };
        let headers: Vec<RecordHeader> = (0..2).map(header).collect();
        let timestamp = i64::from(random.next_u32());
        builder.push_with_headers(timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    Ok(builder.build()?)
}

fn check(bytes: &Bytes) -> Result<bool, String> {
    // the list of batches: 128 bytes for each 61 of input, doubled while it grows, and half as much again while it is
    // copied
    let bound = Bound {
        single: 4 * bytes.len() + 1024,
        live: 8 * bytes.len() + 1024,
    };
    let Ok(batches) = within(bound, || split_batches(bytes))? else {
        return Ok(false);
    };
    let mut accepted = true;
    for (header, batch) in &batches {
        accepted &= check_batch(header, batch)?;
    }
    Ok(accepted)
}

fn check_batch(header: &BatchHeader, batch: &Bytes) -> Result<bool, String> {
    let sound = header.check_crc(batch).is_ok();
    let (last, next) = (header.last_sequence(), header.next_offset());
    if header.base_sequence >= 0 && last < -1 && header.last_offset_delta >= 0 {
        return Err(format!(
            "last sequence {last} next offset {next} of {header:?}"
        ));
    }
    let stamped = header.restamped(batch, TimestampType::LogAppendTime, 5);
    let restamped = BatchHeader::read(&stamped).map_err(|error| error.to_string())?;
    if restamped.timestamp_type() != TimestampType::LogAppendTime
        || restamped.check_crc(&stamped).is_err()
    {
        return Err(format!("restamped as {restamped:?}"));
    }
    let Ok(codec) = header.codec() else {
        return Ok(false);
    };
    let bound = decompression::bound(codec, DECOMPRESSED_MAX);
    let Ok(records) = within(bound, || header.records(batch, DECOMPRESSED_MAX))? else {
        return Ok(false);
    };
    let body = records.body();
    let mut walked = Vec::new();
    let walk = walk(body, header.count, |offset, timestamp, has_key| {
        walked.push((offset, timestamp, has_key));
    });
    // decompression in a window; snappy has no window other than its blocks
    let window = match codec {
        Codec::Snappy => bound,
        _ => decompression::bound(codec, 64 << 10),
    };
    let mut windowed = Vec::with_capacity(walked.len());
    let by_window = within(window, || {
        header.walk(batch, DECOMPRESSED_MAX, |offset, timestamp, has_key| {
            if windowed.len() < windowed.capacity() {
                windowed.push((offset, timestamp, has_key));
            }
        })
    })?;
    if walked != windowed || walk.is_ok() != by_window.is_ok() {
        return Err(format!("walked {walked:?}, in a window {windowed:?}"));
    }
    // a header takes two bytes of input and 64 of memory, doubled while the list grows, and half as much again while
    // it is copied
    let bound = Bound {
        single: 64 * body.len() + 4096,
        live: 96 * body.len() + 4096,
    };
    let mut read = Vec::new();
    let mut iter = records.iter();
    while let Some(record) = within(bound, || iter.next())? {
        let Ok(record) = record else {
            break;
        };
        read.push((
            record.offset_delta,
            record.timestamp_delta,
            record.key.is_some(),
        ));
    }
    if walked != read {
        return Err(format!("walked {walked:?}, read {read:?}"));
    }
    Ok(sound && walk.is_ok())
}
