//! What unit tests of several modules share: rolls, batches, and the check of a client's batch.

use bytes::Bytes;
use highwater_protocol::records::{BatchBuilder, Codec, ProducerFields};
use highwater_s3stream::Roll;
use highwater_types::{StreamOffset, Timestamp};

use crate::decoding::DECOMPRESSED_BYTES_MAX;
use crate::validate::{Origin, ValidatedBatch, validate};
use crate::{AppendError, LogConfig};

/// A roll of one record, appended at 1,000,000 ms plus its offset.
pub(crate) fn roll(base: StreamOffset, bytes: u64, timestamp: Timestamp) -> Roll {
    let append_time = 1_000_000 + base;
    Roll {
        base,
        end: base + 1,
        bytes,
        max_timestamp: timestamp,
        first_timestamp: timestamp,
        first_append: append_time,
        last_append: append_time,
    }
}

/// A configuration with small segments and without retention.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        segment_ms: 5000,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

/// A batch of two records, of which the second is 5 ms older.
pub(crate) fn batch(codec: Codec, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(ProducerFields::default(), codec);
    builder.push(timestamp, Some(b"k"), Some(b"v"));
    builder.push(timestamp - 5, None, Some(b"v"));
    builder.build().expect("builds")
}

/// Checks the records of a client at version 9 of Produce, at 1,000,000 ms.
pub(crate) fn check(records: &Bytes, config: &LogConfig) -> Result<ValidatedBatch, AppendError> {
    validate(
        records,
        9,
        Origin::Client,
        (config, DECOMPRESSED_BYTES_MAX),
        1_000_000,
    )
}
