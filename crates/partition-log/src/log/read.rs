//! Reads of whole batches, from memory or from objects.

use highwater_s3stream::FetchLimit;
use highwater_types::StreamOffset;

use super::PartitionLog;
use crate::watermarks::{check_range, outcome};
use crate::{Isolation, ReadError, ReadOutcome};

impl PartitionLog {
    /// The watermarks now, as a result without records.
    #[must_use]
    pub fn nothing(&self, isolation: Isolation) -> ReadOutcome {
        outcome(self.stream.bounds(), Vec::new(), isolation)
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
        let bounds = self.stream.bounds();
        check_range(bounds, from)?;
        if from >= bounds.confirmed {
            return Ok(outcome(bounds, Vec::new(), isolation));
        }
        let limit = FetchLimit {
            bytes: max_bytes,
            before: bounds.confirmed,
            at_least_one,
        };
        let fetched = self
            .stream
            .fetch_cached(from, limit)
            .ok_or(ReadError::NeedsObjects)?;
        Ok(ReadOutcome {
            is_cut: fetched.is_cut,
            ..outcome(bounds, fetched.batches, isolation)
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
        let bounds = self.stream.bounds();
        check_range(bounds, from)?;
        let limit = FetchLimit {
            bytes: max_bytes,
            before: bounds.confirmed,
            at_least_one,
        };
        let batches = self
            .stream
            .fetch(from, limit)
            .await
            .map_err(ReadError::Stream)?;
        Ok(outcome(bounds, batches, isolation))
    }
}
