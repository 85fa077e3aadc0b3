//! The settings of one log.

use highwater_protocol::records::{Codec, TimestampType};
use highwater_runtime::{WallClock, WorkPool};

use crate::{AppendError, ProducerMemory};

/// The services of its node that a log uses.
#[derive(Debug, Clone)]
pub struct LogContext {
    /// The time of day.
    pub clock: WallClock,
    /// Tells this log from others and is the same at every opening: the jitter of its rolls is drawn from it.
    pub seed: u64,
    /// The memory for producers, shared with the node's other logs.
    pub producers: ProducerMemory,
    /// The threads on which batches are decompressed.
    pub pool: WorkPool,
}

/// The topic configurations of Kafka that the log acts on. Units are milliseconds and bytes; -1 means no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `max.message.bytes`.
    pub max_message_bytes: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`, `None` for `producer`.
    pub compression: Option<Codec>,
    /// `compression.gzip.level` or `compression.zstd.level`, `None` for the codec's default.
    pub compression_level: Option<i32>,
    /// `retention.ms`.
    pub retention_ms: i64,
    /// `retention.bytes`.
    pub retention_bytes: i64,
    /// `segment.bytes`.
    pub segment_bytes: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// Whether `cleanup.policy` has `delete`.
    pub delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub compact: bool,
    /// `producer.id.expiration.ms` of the broker.
    pub producer_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: None,
            compression_level: None,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete: true,
            compact: false,
            producer_expiration_ms: 86_400_000,
        }
    }
}

impl LogConfig {
    /// Checks the size of a batch as it is stored.
    pub(crate) fn check_size(&self, batch_bytes: usize) -> Result<(), AppendError> {
        let bytes = i64::try_from(batch_bytes).unwrap_or(i64::MAX);
        if bytes > self.max_message_bytes {
            return Err(AppendError::TooLarge {
                bytes: batch_bytes,
                limit: self.max_message_bytes,
            });
        }
        if bytes > self.segment_bytes {
            return Err(AppendError::OverSegment {
                bytes: batch_bytes,
                limit: self.segment_bytes,
            });
        }
        Ok(())
    }
}
