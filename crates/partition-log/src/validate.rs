//! Checks of a batch before it is appended, with the outcomes of Kafka's LogValidator (KAFKA-BEHAVIOUR 11, 13, 16).
//! Pure; no lock is held.

use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::records::{BatchHeader, Codec, TimestampType};
use highwater_runtime::WorkPool;
use highwater_s3stream::HEAD_BYTES;

use crate::decoding::check_cost;
use crate::{AppendError, LogConfig, recompress};

/// The origin of a batch: some checks apply to clients only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client.
    Client,
    /// A coordinator of this broker.
    Coordinator,
}

/// A batch that has passed the checks.
#[derive(Debug, Clone)]
pub struct ValidatedBatch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
    /// The CRC-32 of `bytes` after [`HEAD_BYTES`]. It is computed with the checks, while the bytes are in the
    /// processor's cache.
    pub(crate) tail_crc: u32,
    pub(crate) max_timestamp: i64,
    /// The offset delta of the first record with the largest timestamp.
    pub(crate) max_timestamp_at: i32,
    /// The broker's time, if the topic has `message.timestamp.type=LogAppendTime`.
    pub(crate) log_append_time: Option<i64>,
}

impl ValidatedBatch {
    /// The size of the batch in bytes, and its number of records.
    #[must_use]
    pub fn size(&self) -> (usize, i32) {
        (self.bytes.len(), self.header.count)
    }
}

/// The number of invalid records that are reported to the client at most.
const RECORD_ERRORS_MAX: usize = 100;

/// What a batch is checked against.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) version: i16,
    pub(crate) origin: Origin,
    pub(crate) config: Arc<LogConfig>,
    pub(crate) now_ms: i64,
}

impl Check {
    /// Checks a batch; on the pool's threads and within its memory if the batch is decompressed for that.
    pub(crate) async fn within(
        self,
        pool: &WorkPool,
        records: &Bytes,
    ) -> Result<ValidatedBatch, AppendError> {
        let cost = check_cost(records, &self.config, pool.bytes_max());
        let records = records.clone();
        let check = move || {
            let config = (&*self.config, cost.decoded_bytes_max);
            validate(&records, self.version, self.origin, config, self.now_ms)
        };
        match cost.held {
            None => check(),
            Some(bytes) => pool.run(bytes, check).await,
        }
    }
}

/// Checks a batch from a produce request of `version`, decompressing at most `decoded_bytes_max` bytes.
pub(crate) fn validate(
    records: &Bytes,
    version: i16,
    origin: Origin,
    (config, decoded_bytes_max): (&LogConfig, usize),
    now_ms: i64,
) -> Result<ValidatedBatch, AppendError> {
    let header = BatchHeader::read(records).map_err(|error| AppendError::from_batch(&error))?;
    if header.bytes != records.len() {
        return Err(AppendError::NotOneBatch);
    }
    if origin == Origin::Client {
        config.check_size(header.bytes)?;
    }
    header
        .check_crc(records)
        .map_err(|error| AppendError::from_batch(&error))?;
    check_header(&header, version, origin)?;
    let codec = header
        .codec()
        .map_err(|error| AppendError::from_batch(&error))?;
    let largest = check_records(&header, records, (config, decoded_bytes_max), now_ms)?;
    match config.compression.filter(|target| *target != codec) {
        Some(target) => {
            let rebuilt =
                recompress::rebuild(&header, records, target, (config, decoded_bytes_max))?;
            let header =
                BatchHeader::read(&rebuilt).map_err(|error| AppendError::from_batch(&error))?;
            finish(header, &rebuilt, largest, config, now_ms)
        }
        None => finish(header, records, largest, config, now_ms),
    }
}

fn check_header(header: &BatchHeader, version: i16, origin: Origin) -> Result<(), AppendError> {
    if header.count <= 0 || header.count.saturating_sub(1) != header.last_offset_delta {
        return Err(AppendError::invalid(
            "the batch's record count is not its last offset delta + 1",
        ));
    }
    if origin == Origin::Client {
        if header.base_offset != 0 {
            return Err(AppendError::invalid(
                "the base offset of a client's batch must be 0",
            ));
        }
        if header.is_control() {
            return Err(AppendError::invalid(
                "clients must not write control batches",
            ));
        }
        if header.is_transactional() {
            return Err(AppendError::Transactional);
        }
        if version < 7 && header.codec() == Ok(Codec::Zstd) {
            return Err(AppendError::ZstdTooEarly);
        }
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(AppendError::invalid(
            "a batch with a producer id must have a base sequence",
        ));
    }
    if header.producer_id >= 0 && header.producer_epoch < 0 {
        return Err(AppendError::OldProducerEpoch {
            producer: header.producer_id,
            epoch: header.producer_epoch,
            held: 0,
        });
    }
    Ok(())
}

/// The largest timestamp of a batch, and the offset delta of the first record with it.
#[derive(Debug, Clone, Copy)]
struct Largest {
    timestamp: i64,
    at: i32,
}

/// Checks lengths, offset deltas, timestamps, and keys in a compacted topic, record by record. Returns the largest
/// timestamp.
fn check_records(
    header: &BatchHeader,
    batch: &[u8],
    (config, decoded_bytes_max): (&LogConfig, usize),
    now_ms: i64,
) -> Result<Largest, AppendError> {
    let checks_time = config.timestamp_type == TimestampType::CreateTime;
    let earliest = now_ms.saturating_sub(config.timestamp_before_max_ms);
    let latest = now_ms.saturating_add(config.timestamp_after_max_ms);
    // LogAppendTime marks timestamps that a broker's clock gave: a client may not claim it
    let pretends = !checks_time && header.timestamp_type() == TimestampType::LogAppendTime;
    let mut largest = Largest {
        timestamp: -1,
        at: 0,
    };
    let mut expected = 0;
    let mut misplaced = false;
    let mut keyless = Vec::new();
    let mut untimely = Vec::new();
    let walked = header.walk(
        batch,
        decoded_bytes_max,
        |offset_delta, timestamp_delta, has_key| {
            misplaced |= offset_delta != expected;
            if config.compact && !has_key && keyless.len() < RECORD_ERRORS_MAX {
                keyless.push((
                    expected,
                    "compacted topic cannot accept message without key".to_owned(),
                ));
            }
            let timestamp = header.base_timestamp.saturating_add(timestamp_delta);
            if timestamp > largest.timestamp {
                largest = Largest {
                    timestamp,
                    at: expected,
                };
            }
            let out = timestamp != -1 && !(earliest..=latest).contains(&timestamp);
            if checks_time && out && untimely.len() < RECORD_ERRORS_MAX {
                let message = format!(
                    "Timestamp {timestamp} of message with offset {expected} is out of range. \
                     The timestamp should be within [{earliest}, {latest}]"
                );
                untimely.push((expected, message));
            }
            if pretends && untimely.len() < RECORD_ERRORS_MAX {
                let message = "a producer must not set the timestamp type to LogAppendTime";
                untimely.push((expected, message.to_owned()));
            }
            expected = expected.saturating_add(1);
        },
    );
    walked.map_err(|error| AppendError::from_records(&error))?;
    if misplaced {
        return Err(AppendError::invalid(
            "the offset deltas of the records do not count from 0",
        ));
    }
    if !keyless.is_empty() {
        let reason = "one or more records have been rejected".to_owned();
        return Err(AppendError::InvalidRecord {
            reason,
            records: keyless,
        });
    }
    if !untimely.is_empty() {
        let reason = "One or more records have been rejected due to invalid timestamp".to_owned();
        return Err(AppendError::InvalidTimestamp {
            reason,
            records: untimely,
        });
    }
    Ok(largest)
}

/// Stamps the batch if the topic has LogAppendTime, and corrects a wrong largest timestamp in its header.
fn finish(
    header: BatchHeader,
    records: &Bytes,
    largest: Largest,
    config: &LogConfig,
    now_ms: i64,
) -> Result<ValidatedBatch, AppendError> {
    let by_broker = config.timestamp_type == TimestampType::LogAppendTime;
    let Largest { timestamp, at } = match by_broker {
        true => Largest {
            timestamp: now_ms,
            at: 0,
        },
        false => largest,
    };
    let fits =
        header.timestamp_type() == config.timestamp_type && header.max_timestamp == timestamp;
    let (header, bytes) = if fits {
        (header, records.clone())
    } else {
        let stamped = header.restamped(records, config.timestamp_type, timestamp);
        let header =
            BatchHeader::read(&stamped).map_err(|error| AppendError::from_batch(&error))?;
        (header, stamped)
    };
    let log_append_time = by_broker.then_some(now_ms);
    Ok(ValidatedBatch {
        header,
        tail_crc: crc32fast::hash(&bytes[HEAD_BYTES..]),
        bytes,
        max_timestamp: timestamp,
        max_timestamp_at: at,
        log_append_time,
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use highwater_io::RealThreads;
    use highwater_runtime::ByteBudget;

    use super::*;
    use crate::decoding::DECOMPRESSED_BYTES_MAX;
    use crate::fixture::{batch, check};

    // KAFKA-BEHAVIOUR 11
    #[test]
    fn exactly_one_sound_batch_is_taken() {
        let config = LogConfig::default();
        let good = batch(Codec::None, 1_000_000);
        let taken = check(&good, &config).expect("is taken");
        assert_eq!(
            (taken.max_timestamp, taken.bytes.as_ptr()),
            (1_000_000, good.as_ptr())
        );
        let two = Bytes::from([&good[..], &good[..]].concat());
        assert!(matches!(
            check(&two, &config),
            Err(AppendError::NotOneBatch)
        ));
        let empty = check(&Bytes::new(), &config);
        assert!(matches!(empty, Err(AppendError::NotOneBatch)));
        let mut broken = good.to_vec();
        broken[70] ^= 1;
        assert!(matches!(
            check(&broken.into(), &config),
            Err(AppendError::Corrupt(_))
        ));
        let mut old = good.to_vec();
        old[16] = 1;
        assert!(matches!(
            check(&old.into(), &config),
            Err(AppendError::OldFormat)
        ));
        let zstd = batch(Codec::Zstd, 1_000_000);
        assert!(check(&zstd, &config).is_ok());
        let early = validate(
            &zstd,
            6,
            Origin::Client,
            (&config, DECOMPRESSED_BYTES_MAX),
            1_000_000,
        );
        assert!(matches!(early, Err(AppendError::ZstdTooEarly)));
    }

    // I11
    #[tokio::test]
    async fn what_is_compressed_is_checked_in_the_pool_within_its_memory() {
        let budget = ByteBudget::new(1 << 20);
        let pool = WorkPool::start(&RealThreads, budget.clone());
        let check = || Check {
            version: 9,
            origin: Origin::Client,
            config: Arc::default(),
            now_ms: 1_000_000,
        };
        let held = budget.try_acquire(1 << 20).expect("is free");
        let plain = batch(Codec::None, 1_000_000);
        let plain = check().within(&pool, &plain).now_or_never();
        assert!(plain.expect("waits for nothing").is_ok());
        let zipped = batch(Codec::Gzip, 1_000_000);
        let mut waiting = Box::pin(check().within(&pool, &zipped));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert!(waiting.await.is_ok());
    }

    // KAFKA-BEHAVIOUR 13, 16
    #[test]
    fn what_a_topic_does_not_allow_is_refused_by_record() {
        let good = batch(Codec::Lz4, 1_000_000);
        let small = LogConfig {
            max_message_bytes: 70,
            ..LogConfig::default()
        };
        assert!(matches!(
            check(&good, &small),
            Err(AppendError::TooLarge { .. })
        ));
        let compact = LogConfig {
            compact: true,
            ..LogConfig::default()
        };
        let refused = check(&good, &compact).expect_err("a record has no key");
        assert!(matches!(refused, AppendError::InvalidRecord { records, .. } if records[0].0 == 1));
        let strict = LogConfig {
            timestamp_after_max_ms: 10,
            ..LogConfig::default()
        };
        let refused = check(&batch(Codec::None, 1_000_012), &strict).expect_err("too late");
        let AppendError::InvalidTimestamp { records, .. } = refused else {
            panic!("another error: {refused}");
        };
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn the_broker_stamps_where_it_is_asked_to() {
        let timestamp_type = TimestampType::LogAppendTime;
        let config = LogConfig {
            timestamp_type,
            ..LogConfig::default()
        };
        let taken = check(&batch(Codec::None, 5), &config).expect("is taken");
        taken
            .header
            .check_crc(&taken.bytes)
            .expect("has a new checksum");
        assert_eq!(taken.header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(
            (taken.header.max_timestamp, taken.log_append_time),
            (1_000_000, Some(1_000_000))
        );
        let pretends = check(&taken.bytes, &config);
        assert!(
            matches!(pretends, Err(AppendError::InvalidTimestamp { records, .. }) if records.len() == 2)
        );
    }
}
