//! Uploads what a former epoch of the node left in its WAL (rule D3).

use std::collections::BTreeMap;

use futures::StreamExt;
use highwater_object_format::{BatchEntry, ObjectWriter};
use highwater_types::{LeaderEpoch, StreamId, WalPosition};
use highwater_wal::{ConfirmedBatch, SealedWal};

use super::put::put_and_commit;
use super::{header, summed};
use crate::StreamError;
use crate::store::Shared;

/// How much of a former epoch's WAL is uploaded at a time (D3).
const WINDOW_BYTES: usize = 32 << 20;

/// What is uploaded together, by stream and leader epoch.
type Window = BTreeMap<(StreamId, LeaderEpoch), Vec<ConfirmedBatch>>;

/// How far a start's recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryStatus {
    /// Batches that were uploaded.
    pub batches: u64,
    /// Bytes of the write-ahead log that they took.
    pub bytes: u64,
    /// Bytes there are to recover.
    pub bytes_total: u64,
}

/// D3: reads a former epoch's WAL back in windows and uploads each; checkpoints come when the streams are open.
pub(crate) async fn recover(shared: &Shared, sealed: SealedWal) -> Result<u64, StreamError> {
    let SealedWal::Replay { bytes, mut batches } = sealed;
    shared.recovery().bytes_total = bytes;
    let mut window = Window::default();
    let mut window_bytes = 0;
    let mut floor = WalPosition::default();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(StreamError::Wal)?;
        if window_bytes >= WINDOW_BYTES && batch.end != floor {
            upload_window(shared, std::mem::take(&mut window), floor).await?;
            window_bytes = 0;
        }
        window_bytes += batch.bytes.len();
        floor = batch.end;
        window
            .entry((batch.stream, batch.leader_epoch))
            .or_default()
            .push(batch);
    }
    if !window.is_empty() {
        upload_window(shared, window, floor).await?;
    }
    Ok(shared.recovery().batches)
}

async fn upload_window(
    shared: &Shared,
    window: Window,
    floor: WalPosition,
) -> Result<(), StreamError> {
    let begin = shared.committed_floor().at;
    let batches: usize = window.values().map(Vec::len).sum();
    let object = shared.next_object();
    let mut writer = ObjectWriter::new(&header(shared, object));
    for ((stream, epoch), batches) in window {
        let first = batches.first().map_or(0, |batch| batch.base);
        let label = shared.metadata.label(stream).await?;
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
        let leader_epochs = shared.metadata.leader_epochs(stream).await?;
        writer.end_stream(None, Vec::new(), None, leader_epochs);
    }
    put_and_commit(shared, object, &writer.finish(), floor).await?;
    let mut recovery = shared.recovery();
    recovery.batches += batches as u64;
    recovery.bytes += floor.at - begin;
    Ok(())
}
