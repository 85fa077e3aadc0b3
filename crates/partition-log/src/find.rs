//! Finds a record by its timestamp within a batch. Pure.

use bytes::Bytes;
use highwater_protocol::records::{TimestampType, split_batches};
use highwater_types::{LeaderEpoch, StreamOffset, Timestamp};

use crate::ReadError;

/// An offset and its timestamp; each is -1 if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: StreamOffset,
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The leader epoch in which the record was written.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// The first record at or after `from` whose timestamp is at least `time`. Decompresses piece by piece.
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
            // the batch's base comes from a client: adding to it must not overflow
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
