//! Reads of whole batches, from memory or from objects.

use bytes::Bytes;
use highwater_s3stream::{FetchLimit, StreamBounds};
use highwater_types::StreamOffset;

use super::PartitionLog;
use crate::watermarks::check_range;
use crate::{Isolation, ReadError, ReadOutcome};

/// What a read does.
enum Start {
    /// It reads batches of the stream.
    Stream(StreamOffset, FetchLimit),
    /// It has these batches, and needs none of the stream.
    Whole(Vec<Bytes>),
}

impl PartitionLog {
    /// The watermarks now, as a result without records.
    #[must_use]
    pub fn nothing(&self, isolation: Isolation) -> ReadOutcome {
        ReadOutcome::new(self.stream.bounds(), Vec::new(), isolation)
    }

    /// Reads batches that are in memory (KAFKA-BEHAVIOUR 17).
    ///
    /// # Errors
    /// [`ReadError::NeedsObjects`] when they are not in memory.
    pub fn read(
        &self,
        from: StreamOffset,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<ReadOutcome, ReadError> {
        let (bounds, start) = self.start(from, max_bytes, at_least_one)?;
        let (from, limit) = match start {
            Start::Stream(from, limit) => (from, limit),
            Start::Whole(batches) => return Ok(ReadOutcome::new(bounds, batches, isolation)),
        };
        let fetched = self
            .stream
            .fetch_cached(from, limit)
            .ok_or(ReadError::NeedsObjects)?;
        Ok(ReadOutcome {
            is_cut: fetched.is_cut,
            ..ReadOutcome::new(bounds, fetched.batches, isolation)
        })
    }

    /// Reads batches from objects where they are not in memory.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_cold(
        &self,
        from: StreamOffset,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<ReadOutcome, ReadError> {
        let (bounds, start) = self.start(from, max_bytes, at_least_one)?;
        let batches = match start {
            Start::Stream(from, limit) => {
                let read = self.stream.fetch(from, limit).await;
                read.map_err(ReadError::Stream)?
            }
            Start::Whole(batches) => batches,
        };
        Ok(ReadOutcome::new(bounds, batches, isolation))
    }

    /// Whether about so many bytes of batches follow from an offset on.
    #[must_use]
    pub fn has_bytes(&self, from: StreamOffset, bytes: u64) -> bool {
        self.stream.has_bytes(from, bytes)
    }

    /// Decides where a read begins. A read of offsets that were lost goes on behind them. If no batch is there yet, it gets
    /// one without records, so that the reader's position reaches the high watermark (D5).
    fn start(
        &self,
        asked: StreamOffset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<(StreamBounds, Start), ReadError> {
        let bounds = self.stream.bounds();
        check_range(bounds, asked)?;
        let from = self.lost.first_from(asked);
        if from < bounds.confirmed {
            let limit = FetchLimit {
                bytes: max_bytes,
                before: bounds.confirmed,
                at_least_one,
            };
            return Ok((bounds, Start::Stream(from, limit)));
        }
        let batch = (from > asked).then(|| {
            let bytes_max = if at_least_one { usize::MAX } else { max_bytes };
            self.lost.batch(asked, self.epochs.at(asked), bytes_max)
        });
        Ok((bounds, Start::Whole(batch.flatten().into_iter().collect())))
    }
}
