//! Reads a partition of an internal topic into its state machine.
//!
//! A record that is unknown, as a newer broker may have written it, is passed over and told once for each type and version
//! (`CoordinatorLoaderImpl`); one that is malformed ends the load, for what it said would be lost for good.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use highwater_coordinator::{Coordinator, CoordinatorRecord, RecordError, UnknownRecord};
use highwater_partition_log::Isolation;
use highwater_protocol::records::split_batches;
use highwater_types::StreamOffset;

use super::Host;
use super::shard::{Driver, now};
use super::work::Work;

/// Bytes read at a time.
const READ_BYTES: usize = 128 << 10;
/// Stretches of the log that are read together, ahead of what is replayed.
const STRETCHES_AHEAD: usize = 4;
/// Offsets of a stretch, at least and at most.
const STRETCH_OFFSETS: (StreamOffset, StreamOffset) = (16, 1000);
/// The most that a batch may be once decompressed.
const RECORDS_BYTES_MAX: usize = 256 << 20;

/// Batches read from a part of the log, which may go on beyond them.
struct Stretch {
    end: StreamOffset,
    batches: Vec<Bytes>,
}

/// Replays the partition from its start to its end, as it is when loading begins: what was appended before may be
/// acknowledged at any time, so that is waited for. Nothing that an earlier driver of this partition decided comes after it.
pub(super) async fn load<H: Host>(
    driver: &Driver<H>,
    work: &mut Work<H::Machine>,
) -> Result<(), String> {
    let bounds = driver.log.bounds();
    let end = bounds.next;
    durable_up_to(driver, end).await?;
    let ahead = StreamOffset::try_from(STRETCHES_AHEAD).unwrap_or(1);
    let (least, most) = STRETCH_OFFSETS;
    let length = ((end - bounds.start) / ahead).clamp(least, most);
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

/// Waits until all up to an offset is durable. Of a partition that is deleted it never is, and its driver is stopped.
async fn durable_up_to<H: Host>(driver: &Driver<H>, end: StreamOffset) -> Result<(), String> {
    let mut bounds = driver.log.watch();
    // both arms are cancellation safe
    tokio::select! {
        biased;
        reached = bounds.wait_for(|bounds| bounds.confirmed >= end) => match reached {
            Ok(_bounds) => Ok(()),
            Err(_gone) => Err("the partition is closed".to_owned()),
        },
        _error = driver.streams.ended() => Err("the write-ahead log has ended".to_owned()),
    }
}

/// Reads up to the end of a stretch, or until it has enough for one.
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

/// Whole batches from the one that holds `at`; at least one.
async fn read<H: Host>(driver: &Driver<H>, at: StreamOffset) -> Result<Vec<Bytes>, String> {
    let read = driver
        .log
        .read_cold(at, READ_BYTES, true, Isolation::ReadUncommitted)
        .await
        .map_err(|error| error.to_string())?;
    if read.batches.iter().all(Bytes::is_empty) {
        return Err(format!("nothing is read offset={at}"));
    }
    Ok(read.batches)
}

/// Kinds of unknown records that a load tells at most.
const SKIPPED_MAX: usize = 100;

/// The kinds of records that a load passes over.
#[derive(Debug, Default)]
struct Skipped(BTreeSet<UnknownRecord>);

impl Skipped {
    /// Whether it is the first of its kind, which is to be told.
    fn is_first(&mut self, unknown: UnknownRecord) -> bool {
        self.0.len() < SKIPPED_MAX && self.0.insert(unknown)
    }
}

/// The log on its way into the state machine.
struct Replaying<'a, H: Host> {
    driver: &'a Driver<H>,
    work: &'a mut Work<H::Machine>,
    /// Up to where it is replayed.
    at: StreamOffset,
    skipped: Skipped,
}

impl<H: Host> Replaying<'_, H> {
    /// Takes whole batches, without those that were replayed before.
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
