//! Reads a partition of an internal topic into its state machine.
//!
//! A record of an unknown type or version may come from a newer broker. It is skipped, and logged once for each type
//! and version, as in Kafka's `CoordinatorLoaderImpl`. A malformed record ends the load, because what it said would be
//! lost for good.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use highwater_coordinator::{Coordinator, CoordinatorRecord, RecordError, UnknownRecord};
use highwater_kraft_meta::LOST_OFFSETS;
use highwater_partition_log::Isolation;
use highwater_protocol::records::split_batches;
use highwater_runtime::reasons;
use highwater_types::StreamOffset;

use super::Host;
use super::shard::{Driver, now};
use super::work::Work;

/// The bytes of one read.
const READ_BYTES: usize = 128 << 10;
/// The number of stretches of the log that are read together, ahead of the replay.
const STRETCHES_AHEAD: usize = 4;
/// A log with so many offsets is one stretch.
const SPARSE_OFFSETS: StreamOffset = LOST_OFFSETS / 2;
/// The least and the most offsets of a stretch of any other log.
const STRETCH_OFFSETS: (StreamOffset, StreamOffset) = (16, 1000);
/// The most bytes of a decompressed batch.
const RECORDS_BYTES_MAX: usize = 256 << 20;

/// The batches that were read from a stretch of the log, which may have more.
struct Stretch {
    end: StreamOffset,
    batches: Vec<Bytes>,
}

/// Replays the partition from its start to the end that it has when the load begins. Records before that end may be
/// acknowledged at any time, so the load waits until they are durable. No record that an earlier driver of this
/// partition decided comes after that end.
pub(super) async fn load<H: Host>(
    driver: &Driver<H>,
    work: &mut Work<H::Machine>,
) -> Result<(), String> {
    let bounds = driver.log.bounds();
    let end = bounds.next;
    durable_up_to(driver, end).await?;
    let ahead = StreamOffset::try_from(STRETCHES_AHEAD).unwrap_or(1);
    let (least, most) = STRETCH_OFFSETS;
    let length = match end - bounds.start {
        // most of the offsets were lost (D5), and a stretch without batches would read those after it
        all @ SPARSE_OFFSETS.. => all,
        all => (all / ahead).clamp(least, most),
    };
    let starts = std::iter::successors(Some(bounds.start), |from| Some(from + length))
        .take_while(|from| *from < end);
    let mut stretches = futures::stream::iter(starts)
        .map(|from| read_stretch(driver, from, end.min(from + length)))
        .buffered(STRETCHES_AHEAD);
    let mut replaying = Replaying {
        driver,
        work,
        at: bounds.start,
        skipped: Skipped::default(),
    };
    while let Some(stretch) = stretches.next().await {
        let stretch = stretch?;
        for batches in &stretch.batches {
            replaying.batches(batches)?;
        }
        while replaying.at < stretch.end {
            for batches in read(driver, replaying.at).await? {
                replaying.batches(&batches)?;
            }
        }
    }
    let (machine, effects) = (&mut work.machine, &mut work.effects);
    driver.host.catch_up(machine, effects);
    work.now = now(driver);
    machine.loaded(work.now, effects);
    Ok(())
}

/// Waits until every offset up to this one is durable. In a deleted partition that never happens, and its driver is
/// stopped.
async fn durable_up_to<H: Host>(driver: &Driver<H>, end: StreamOffset) -> Result<(), String> {
    let mut bounds = driver.log.watch();
    // Both arms are cancellation safe.
    tokio::select! {
        biased;
        reached = bounds.wait_for(|bounds| bounds.confirmed >= end) => match reached {
            Ok(_bounds) => Ok(()),
            Err(_gone) => Err("the partition is closed".to_owned()),
        },
        _error = driver.streams.ended() => Err("the write-ahead log has ended".to_owned()),
    }
}

/// Reads to the end of a stretch, or until it has the bytes of one read.
async fn read_stretch<H: Host>(
    driver: &Driver<H>,
    from: StreamOffset,
    end: StreamOffset,
) -> Result<Stretch, String> {
    let mut stretch = Stretch {
        end,
        batches: Vec::new(),
    };
    let (mut at, mut bytes) = (from, 0);
    while at < end && bytes < READ_BYTES {
        for batches in read(driver, at).await? {
            bytes += batches.len();
            let last = split_batches(&batches).map_err(|error| error.to_string())?;
            at = last.last().map_or(at, |(header, _)| header.next_offset());
            stretch.batches.push(batches);
        }
    }
    Ok(stretch)
}

/// Reads whole batches, from the one that holds `at` on; at least one.
async fn read<H: Host>(driver: &Driver<H>, at: StreamOffset) -> Result<Vec<Bytes>, String> {
    let read = driver
        .log
        .read_cold(at, READ_BYTES, true, Isolation::ReadUncommitted)
        .await
        .map_err(|error| reasons(&error))?;
    if read.batches.iter().all(Bytes::is_empty) {
        return Err(format!("nothing is read offset={at}"));
    }
    Ok(read.batches)
}

/// The most kinds of unknown records that a load logs.
const SKIPPED_MAX: usize = 100;

/// The kinds of records that a load has skipped.
#[derive(Debug, Default)]
struct Skipped(BTreeSet<UnknownRecord>);

impl Skipped {
    /// Whether it is the first record of its kind, which is logged.
    fn is_first(&mut self, unknown: UnknownRecord) -> bool {
        self.0.len() < SKIPPED_MAX && self.0.insert(unknown)
    }
}

/// The replay of the log into the state machine.
struct Replaying<'a, H: Host> {
    driver: &'a Driver<H>,
    work: &'a mut Work<H::Machine>,
    /// The offset up to which the log is replayed.
    at: StreamOffset,
    skipped: Skipped,
}

impl<H: Host> Replaying<'_, H> {
    /// Replays whole batches, except for records that were replayed before.
    fn batches(&mut self, batches: &Bytes) -> Result<(), String> {
        for (header, batch) in split_batches(batches).map_err(|error| error.to_string())? {
            if header.next_offset() <= self.at {
                continue;
            }
            self.at = header.next_offset();
            let records = header
                .records(&batch, RECORDS_BYTES_MAX)
                .map_err(|error| error.to_string())?;
            if header.is_control() {
                continue;
            }
            for record in &records {
                let record = record.map_err(|error| error.to_string())?;
                let record = CoordinatorRecord {
                    key: record.key.unwrap_or_default(),
                    value: record.value,
                };
                self.record(&record)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &CoordinatorRecord) -> Result<(), String> {
        match self.work.machine.replay(record, self.work.now) {
            Err(RecordError::Unknown(unknown)) => {
                if self.skipped.is_first(unknown) {
                    tracing::warn!(
                        topic = H::TOPIC,
                        partition = self.driver.index,
                        reason = %unknown,
                        "records of an unknown type or version are skipped"
                    );
                }
                Ok(())
            }
            replayed => replayed.map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_records_are_told_once_for_each_type_and_version() {
        let mut skipped = Skipped::default();
        let unknown = |record_type, version| UnknownRecord {
            record_type,
            version,
        };
        let told = [
            (12, None),
            (12, None),
            (2, Some(9)),
            (2, Some(8)),
            (2, Some(9)),
        ]
        .map(|(record_type, version)| skipped.is_first(unknown(record_type, version)));
        assert_eq!(told, [true, false, true, true, false]);
        let more = (0..1000).filter(|of| skipped.is_first(unknown(100 + of, None)));
        assert_eq!(
            more.count(),
            SKIPPED_MAX - 3,
            "a log of rubbish does not fill the memory"
        );
    }
}
