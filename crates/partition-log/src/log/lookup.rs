//! Lookups of offsets by time. The stream finds the batch, which is then read to find the record.

use highwater_protocol::records::BatchHeader;
use highwater_s3stream::FetchLimit;
use highwater_types::{StreamOffset, Timestamp};

use super::PartitionLog;
use crate::decoding::{decoded_bytes_max, decoding_bytes};
use crate::find::{FoundOffset, find_record};
use crate::{Isolation, ReadError};

/// What a ListOffsets request asks for (KAFKA-BEHAVIOUR 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kafka's special timestamps")]
pub enum OffsetQuery {
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    LatestTiered,
    EarliestPendingUpload,
    AtTime(Timestamp),
}

impl PartitionLog {
    /// Looks up an offset (KAFKA-BEHAVIOUR 21).
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list_offsets(
        &self,
        query: OffsetQuery,
        _isolation: Isolation,
    ) -> Result<FoundOffset, ReadError> {
        let bounds = self.stream.bounds();
        let at = |offset| FoundOffset {
            offset,
            timestamp: -1,
            leader_epoch: self.epochs.at(offset),
        };
        let none = FoundOffset {
            offset: -1,
            timestamp: -1,
            leader_epoch: None,
        };
        match query {
            OffsetQuery::Latest => Ok(FoundOffset {
                leader_epoch: Some(self.epochs.current()),
                ..at(bounds.confirmed)
            }),
            OffsetQuery::Earliest | OffsetQuery::EarliestLocal => Ok(at(bounds.start)),
            OffsetQuery::LatestTiered | OffsetQuery::EarliestPendingUpload => Ok(none),
            OffsetQuery::MaxTimestamp => Ok(self.largest().await?.unwrap_or(none)),
            OffsetQuery::AtTime(time) => {
                let found = self.first_at(bounds.start, time).await?;
                Ok(found.unwrap_or(none))
            }
        }
    }

    /// The first record of the largest timestamp. As in Kafka, a deleted record counts while its roll is the active
    /// one.
    async fn largest(&self) -> Result<Option<FoundOffset>, ReadError> {
        loop {
            let start = {
                let state = self.lock();
                let bounds = self.stream.bounds();
                if let Some(deleted) = state.active.deleted_largest(bounds) {
                    return Ok(Some(deleted));
                }
                bounds.start
            };
            let found = self.largest_left().await;
            // otherwise records may have been deleted during the lookup, and it is repeated
            if self.stream.bounds().start == start {
                return found;
            }
        }
    }

    async fn largest_left(&self) -> Result<Option<FoundOffset>, ReadError> {
        let largest = self.stream.max_timestamp().await;
        let Some((largest, batch)) = largest.map_err(ReadError::Stream)? else {
            return Ok(None);
        };
        let (found, _) = self.first_record(batch, batch, largest).await?;
        Ok(found)
    }

    /// The first record at or after `from` whose timestamp is at least `time`.
    async fn first_at(
        &self,
        mut from: StreamOffset,
        time: Timestamp,
    ) -> Result<Option<FoundOffset>, ReadError> {
        loop {
            let batch = self.stream.offset_for_time(from, time).await;
            let Some(batch) = batch.map_err(ReadError::Stream)? else {
                return Ok(None);
            };
            let (found, next) = self.first_record(batch, from, time).await?;
            if found.is_some() {
                return Ok(found);
            }
            // the batch's records of that time lie below `from`
            from = next.max(from.saturating_add(1));
        }
    }

    /// The first record at or after `from`, in the batch at `base`, whose timestamp is at least `time`; and where the
    /// batch ends.
    async fn first_record(
        &self,
        base: StreamOffset,
        from: StreamOffset,
        time: Timestamp,
    ) -> Result<(Option<FoundOffset>, StreamOffset), ReadError> {
        let start = self.stream.bounds().start;
        let limit = FetchLimit {
            bytes: 1,
            before: base.saturating_add(1),
            at_least_one: true,
        };
        let mut next = base.saturating_add(1);
        let read = self
            .stream
            .fetch(base.max(start), limit)
            .await
            .map_err(ReadError::Stream)?;
        let batches = read.into_iter().next().unwrap_or_default();
        if let Ok(header) = BatchHeader::read(&batches) {
            next = header.next_offset();
        }
        let held = decoding_bytes(&batches);
        let decoded_bytes_max = decoded_bytes_max(held, self.pool.bytes_max());
        let find = move || find_record(&batches, time, from, decoded_bytes_max);
        let found = match held {
            0 => find(),
            bytes => self.pool.run(bytes, find).await,
        };
        Ok((found?, next))
    }
}
