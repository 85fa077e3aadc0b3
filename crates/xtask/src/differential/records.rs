//! Builds record batches, sound or damaged, from the description in a scenario; shows batches as trees.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use highwater_protocol::records::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, Codec, ProducerFields, RecordHeader,
};
use serde_json::{Map, Value, json};

use crate::jars::hash;

/// The fields of a batch's header that a scenario may overwrite: name, position, width.
const PLACES: &[(&str, usize, usize)] = &[
    ("BaseOffset", 0, 8),
    ("Length", 8, 4),
    ("LeaderEpoch", 12, 4),
    ("Magic", 16, 1),
    ("Attributes", 21, 2),
    ("LastOffsetDelta", 23, 4),
    ("BaseTimestamp", 27, 8),
    ("MaxTimestamp", 35, 8),
    ("ProducerId", 43, 8),
    ("ProducerEpoch", 51, 2),
    ("BaseSequence", 53, 4),
    ("Count", 57, 4),
];
const CRC_AT: usize = 17;

/// Builds the bytes of one batch, or of several if the description is a list.
///
/// A batch is an object with these fields: `Codec`, `Values` (a list of texts, or `Count` and `Size`), `At`
/// (milliseconds relative to the start of the run, or else `Timestamp`), `Every` (milliseconds between records),
/// `Keys`, `Headers`, `Set` (header fields that are overwritten before the CRC is computed), `Crc` (`"bad"`), `Cut`
/// (the number of bytes removed at the end), `Legacy` (the magic of an older message format).
pub(super) fn build(spec: &Value, start: i64) -> Result<Vec<u8>> {
    match spec {
        Value::Array(batches) => {
            let mut out = Vec::new();
            for batch in batches {
                out.extend(build(batch, start)?);
            }
            Ok(out)
        }
        Value::Object(batch) if batch.contains_key("Legacy") => legacy(batch, start),
        Value::Object(batch) => one(batch, start),
        other => bail!("no records: {other}"),
    }
}

fn values(batch: &Map<String, Value>) -> Result<Vec<Option<Vec<u8>>>> {
    if let Some(values) = batch.get("Values") {
        let values = values.as_array().context("values aren't a list")?;
        let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        return Ok(values.iter().map(bytes).collect());
    }
    let number =
        |name: &str, default: u64| batch.get(name).and_then(Value::as_u64).unwrap_or(default);
    let (count, size) = (number("Records", 1), usize::try_from(number("Size", 10))?);
    // random bytes, which no codec makes smaller
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    Ok((0..count)
        .map(|_| Some((0..size).map(|_| noise()).collect()))
        .collect())
}

fn timestamp(batch: &Map<String, Value>, start: i64) -> i64 {
    let number = |name: &str| batch.get(name).and_then(Value::as_i64);
    number("Timestamp").unwrap_or_else(|| start + number("At").unwrap_or(-60_000))
}

fn one(batch: &Map<String, Value>, start: i64) -> Result<Vec<u8>> {
    let codec = match batch.get("Codec").and_then(Value::as_str) {
        None | Some("none") => Codec::None,
        Some("gzip") => Codec::Gzip,
        Some("snappy") => Codec::Snappy,
        Some("lz4") => Codec::Lz4,
        Some("zstd") => Codec::Zstd,
        Some(other) => bail!("there is no codec {other}"),
    };
    let producer = match batch.get("Producer").and_then(Value::as_array) {
        None => ProducerFields::default(),
        Some(fields) => {
            let field = |at: usize| fields.get(at).and_then(Value::as_i64).context("a producer");
            ProducerFields {
                id: field(0)?,
                epoch: i16::try_from(field(1)?)?,
                base_sequence: i32::try_from(field(2)?)?,
            }
        }
    };
    let every = batch.get("Every").and_then(Value::as_i64).unwrap_or(1);
    let key = batch.get("Key").map_or(Some("key"), Value::as_str);
    let header = RecordHeader {
        key: Bytes::from_static(b"header"),
        value: None,
    };
    let mut builder = BatchBuilder::new(producer, codec);
    let mut at = timestamp(batch, start);
    for value in values(batch)? {
        let key = key.map(str::as_bytes);
        builder.push_with_headers(at, key, value.as_deref(), std::slice::from_ref(&header));
        at += every;
    }
    let mut bytes = builder.build()?.to_vec();
    if let Some(set) = batch.get("Set") {
        write_over(&mut bytes, set)?;
    }
    if batch.get("Crc").is_some() {
        bytes[CRC_AT] ^= 0xff;
    }
    let cut = batch.get("Cut").and_then(Value::as_u64).unwrap_or(0);
    bytes.truncate(bytes.len() - usize::try_from(cut)?);
    Ok(bytes)
}

fn write_over(bytes: &mut [u8], set: &Value) -> Result<()> {
    for (name, value) in set.as_object().context("`Set` isn't an object of fields")? {
        let place = PLACES.iter().find(|(known, ..)| known == name);
        let (_, at, width) = place.with_context(|| format!("a batch has no {name}"))?;
        let value = value.as_i64().context("a number")?.to_be_bytes();
        bytes[*at..at + width].copy_from_slice(&value[8 - width..]);
    }
    // the CRC is right for the damaged batch
    let sound = BatchHeader::read(bytes).and_then(|header| header.check_crc(bytes));
    if let Err(BatchError::Crc { computed, .. }) = sound {
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&computed.to_be_bytes());
    }
    Ok(())
}

/// A message set of the older formats: one message without a key.
fn legacy(batch: &Map<String, Value>, start: i64) -> Result<Vec<u8>> {
    let magic = batch
        .get("Legacy")
        .and_then(Value::as_u64)
        .context("a magic")?;
    let mut body = vec![u8::try_from(magic)?, 0];
    if magic == 1 {
        body.extend(timestamp(batch, start).to_be_bytes());
    }
    body.extend((-1i32).to_be_bytes());
    body.extend(3i32.to_be_bytes());
    body.extend(b"old");
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let mut out = 0i64.to_be_bytes().to_vec();
    out.extend(i32::try_from(body.len() + 4)?.to_be_bytes());
    out.extend(crc.sum().to_be_bytes());
    out.extend(body);
    Ok(out)
}

/// Shows batches as a list of their headers, each with a hash of the bytes after it.
pub(super) fn show(bytes: &[u8]) -> Value {
    let mut list = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        match batch(rest) {
            Ok((tree, length)) => {
                list.push(tree);
                rest = &rest[length..];
            }
            Err(_) => {
                list.push(json!({ "(part of a batch, bytes)": rest.len() }));
                break;
            }
        }
    }
    Value::Array(list)
}

fn batch(bytes: &[u8]) -> Result<(Value, usize)> {
    let header = BatchHeader::read(bytes)?;
    ensure!(header.bytes >= BATCH_HEADER_BYTES, "no batch");
    let crc = match header.check_crc(bytes) {
        Ok(()) => "sound",
        Err(_) => "wrong",
    };
    let tree = json!({
        "BaseOffset": header.base_offset,
        "LeaderEpoch": header.leader_epoch,
        "Crc": crc,
        "Attributes": header.attributes,
        "LastOffsetDelta": header.last_offset_delta,
        "BaseTimestamp": header.base_timestamp,
        "MaxTimestamp": header.max_timestamp,
        "ProducerId": header.producer_id,
        "ProducerEpoch": header.producer_epoch,
        "BaseSequence": header.base_sequence,
        "Count": header.count,
        "Body": &hash(&bytes[BATCH_HEADER_BYTES..header.bytes])[..12],
    });
    Ok((tree, header.bytes))
}
