//! A record by its time, within the batch that holds it. Pure.

use bytes::Bytes;
use highwater_protocol::records::{BatchHeader, TimestampType, split_batches};
use highwater_types::{LeaderEpoch, StreamOffset, Timestamp};

use crate::validate::DECOMPRESSED_BYTES_MAX;
use crate::{FoundOffset, ReadError};

/// The memory that decompressing the records of a batch holds; 0 where they are not compressed.
pub(crate) fn decoding_bytes(batch: &Bytes) -> u64 {
    let decoder = BatchHeader::read(batch)
        .ok()
        .and_then(|header| header.decoder(batch, DECOMPRESSED_BYTES_MAX).ok());
    let held = decoder.map_or(0, |mut decoder| decoder.held_bytes_max());
    u64::try_from(held).unwrap_or(u64::MAX)
}

/// How far a batch is decompressed whose decoder holds so many bytes at most. A window that is larger than the memory there
/// is fills as output comes: it gives no more output than that (I11).
pub(crate) fn decoded_bytes_max(held: u64, memory: u64) -> usize {
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    match usize::try_from(held).is_ok_and(|held| held <= memory) {
        true => DECOMPRESSED_BYTES_MAX,
        false => DECOMPRESSED_BYTES_MAX.min(memory),
    }
}

/// The first record from `from` on whose timestamp reaches `time`. Decompressed in a window.
pub(crate) fn find_record(
    batches: &Bytes,
    time: Timestamp,
    from: StreamOffset,
    decoded_bytes_max: usize,
) -> Result<Option<FoundOffset>, ReadError> {
    let corrupt = |error: &dyn std::fmt::Display| ReadError::Corrupt(error.to_string());
    for (header, batch) in split_batches(batches).map_err(|error| corrupt(&error))? {
        let by_broker = header.timestamp_type() == TimestampType::LogAppendTime;
        let mut found = None;
        let walked = header.walk(&batch, decoded_bytes_max, |offset_delta, delta, _| {
            // the client's numbers: a sum may be more than there is
            let offset = header.base_offset.saturating_add(offset_delta.into());
            let timestamp = match by_broker {
                true => header.max_timestamp,
                false => header.base_timestamp.saturating_add(delta),
            };
            if found.is_none() && timestamp >= time && offset >= from {
                found = Some(FoundOffset {
                    offset,
                    timestamp,
                    leader_epoch: Some(LeaderEpoch(header.leader_epoch)),
                });
            }
        });
        if found.is_some() {
            return Ok(found);
        }
        walked.map_err(|error| corrupt(&error))?;
    }
    Ok(None)
}
