//! Brings the batches that a former epoch left in its WAL into objects with claims (rule D3).
//!
//! This file owns the windows in which the log is read back, and the progress of that. A recovery runs before the log
//! of this epoch is attached, so that nothing else is uploaded meanwhile. `seal` has the way of an object WAL.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::BoxStream;
use highwater_object_format::{BatchEntry, ObjectWriter};
use highwater_runtime::crash_point;
use highwater_types::{LeaderEpoch, StreamId, WalPosition};
use highwater_wal::{ConfirmedBatch, ReplayedGroup, SealedWal, WalError};

use super::{SealedClaims, Uploads, summed};
use crate::StreamError;

/// The bytes of a former epoch's WAL that are uploaded at a time (D3).
const WINDOW_BYTES: usize = 32 << 20;

type Groups = BoxStream<'static, Result<ReplayedGroup, WalError>>;

/// Whole group commits that are uploaded together.
#[derive(Debug, Default)]
struct Window {
    batches: BTreeMap<(StreamId, LeaderEpoch), Vec<ConfirmedBatch>>,
    batch_bytes: usize,
    /// The bytes of the log that they take.
    log_bytes: u64,
    /// The WAL position after the last of them.
    end: WalPosition,
}

impl Window {
    fn add(&mut self, group: ReplayedGroup) {
        self.log_bytes += group.bytes;
        for batch in group.batches {
            self.batch_bytes += batch.bytes.len();
            self.end = batch.end;
            let stream = (batch.stream, batch.leader_epoch);
            self.batches.entry(stream).or_default().push(batch);
        }
    }
}

/// The progress of a start's recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryStatus {
    /// The number of batches that were uploaded.
    pub batches: u64,
    /// The bytes of the write-ahead log that these took.
    pub bytes: u64,
    /// The bytes of the write-ahead log to recover.
    pub bytes_total: u64,
}

/// How the batches of a former epoch's WAL get their claims.
#[derive(Debug, Clone)]
pub enum Recovered {
    /// The batches were uploaded, and their claims are committed.
    Uploaded,
    /// The claims are not committed: the command that closes the epoch registers them (W8).
    Sealed(SealedClaims),
}

impl Uploads {
    /// The progress of the recovery.
    pub(crate) fn recovery(&self) -> RecoveryStatus {
        *self.recovery_status()
    }

    pub(super) fn recovery_status(&self) -> MutexGuard<'_, RecoveryStatus> {
        self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a former epoch's WAL back in windows and uploads each, or puts the index of its objects. Checkpoints are
    /// written only when the streams are open.
    pub(crate) async fn recover(&self, sealed: SealedWal) -> Result<Recovered, StreamError> {
        match sealed {
            SealedWal::Empty => {}
            SealedWal::Replay { bytes, groups } => {
                self.recovery_status().bytes_total += bytes;
                self.replay(groups).await?;
            }
            SealedWal::Range(range) => return self.index(range).await.map(Recovered::Sealed),
        }
        Ok(Recovered::Uploaded)
    }

    async fn replay(&self, mut groups: Groups) -> Result<(), StreamError> {
        let mut window = Window::default();
        while let Some(group) = groups.next().await {
            let group = group.map_err(StreamError::Wal)?;
            if window.batch_bytes >= WINDOW_BYTES {
                self.upload_window(std::mem::take(&mut window)).await?;
            }
            window.add(group);
        }
        if !window.batches.is_empty() {
            self.upload_window(window).await?;
        }
        Ok(())
    }

    async fn upload_window(&self, window: Window) -> Result<(), StreamError> {
        let batches: usize = window.batches.values().map(Vec::len).sum();
        let object = self.next_object();
        let mut writer = ObjectWriter::new(&self.header(object));
        for ((stream, epoch), batches) in window.batches {
            let first = batches.first().map_or(0, |batch| batch.base);
            let label = self.metadata.label(stream).await?;
            writer.begin_stream(stream, label, epoch, first);
            for batch in batches {
                let entry = BatchEntry {
                    base: batch.base,
                    count: batch.count,
                    bytes: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
                    max_timestamp: batch.max_timestamp,
                };
                let body = summed(batch.bytes, batch.tail_crc);
                writer.push_batch(entry, batch.delta, batch.roll, batch.append_time, body);
            }
            let leader_epochs = self.metadata.leader_epochs(stream).await?;
            writer.end_stream(None, Vec::new(), None, leader_epochs);
        }
        let written = writer.finish();
        crash_point("upload-before-put");
        self.put(object, &written).await?;
        crash_point("upload-after-put");
        let (written, floor) = (Some(&written), window.end);
        self.commit(object, written, floor, Vec::new()).await?;
        let mut recovery = self.recovery_status();
        recovery.batches += batches as u64;
        recovery.bytes += window.log_bytes;
        Ok(())
    }
}
