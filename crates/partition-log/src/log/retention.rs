//! What removes records and forgets producers: DeleteRecords, retention, and the expiry of idle producers.

use highwater_s3stream::StreamError;
use highwater_types::StreamOffset;

use super::PartitionLog;
use crate::ReadError;
use crate::producers::Forgotten;
use crate::watermarks::start_after_deletion;

impl PartitionLog {
    /// Deletes the records below an offset, durably (KAFKA-BEHAVIOUR 9); -1 stands for the high watermark. Returns
    /// the new log start.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn delete_records(&self, before: StreamOffset) -> Result<StreamOffset, ReadError> {
        if !self.config().delete {
            return Err(ReadError::NotDeletable);
        }
        if let Some(start) = start_after_deletion(self.stream.bounds(), before)? {
            self.stream.trim(start).await.map_err(ReadError::Stream)?;
        }
        Ok(self.stream.bounds().start)
    }

    /// Forgets producers that have been idle for `producer.id.expiration.ms`, here and in the next checkpoint (F5).
    pub(super) fn expire_producers(&self) {
        let idle_ms = self.config().producer_expiration_ms;
        let before = self.clock.now_ms().saturating_sub(idle_ms);
        // as in Kafka, a producer expires once it has been idle for exactly that long
        let before = before.saturating_add(1);
        let Forgotten { before, left_bytes } = self.lock().producers.forget(before);
        self.stream.forget_state(before, left_bytes);
    }

    /// Removes the rolls that retention gives up, oldest first (F6), and forgets idle producers.
    ///
    /// # Errors
    /// When the stream can't be trimmed.
    pub async fn clean(&self) -> Result<(), StreamError> {
        let config = self.config();
        let now = self.clock.now_ms();
        self.expire_producers();
        if !config.delete {
            return Ok(());
        }
        let (start, to) = {
            let mut state = self.lock();
            let (rolls, bounds) = (self.stream.rolls(), self.stream.bounds());
            (
                bounds.start,
                state.active.retain(rolls, bounds, &config, now),
            )
        };
        if let Some(to) = to.filter(|to| *to > start) {
            self.stream.trim(to).await?;
        }
        Ok(())
    }
}
