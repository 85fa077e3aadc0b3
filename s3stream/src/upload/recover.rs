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

/// D3: reads a former epoch's WAL back in windows and uploads each; checkpoints come when the streams are open.
pub(crate) async fn recover(shared: &Shared, sealed: SealedWal) -> Result<u64, StreamError> {
    let SealedWal::Replay(mut batches) = sealed;
    let mut window: BTreeMap<(StreamId, LeaderEpoch), Vec<ConfirmedBatch>> = BTreeMap::new();
    let mut bytes = 0;
    let mut count = 0;
    let mut floor = WalPosition::default();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(StreamError::Wal)?;
        if bytes >= WINDOW_BYTES && batch.end != floor {
            upload_window(shared, std::mem::take(&mut window), floor).await?;
            bytes = 0;
        }
        bytes += batch.bytes.len();
        count += 1;
        floor = batch.end;
        window
            .entry((batch.stream, batch.leader_epoch))
            .or_default()
            .push(batch);
    }
    if !window.is_empty() {
        upload_window(shared, window, floor).await?;
    }
    Ok(count)
}

async fn upload_window(
    shared: &Shared,
    window: BTreeMap<(StreamId, LeaderEpoch), Vec<ConfirmedBatch>>,
    floor: WalPosition,
) -> Result<(), StreamError> {
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
    put_and_commit(shared, object, &writer.finish(), floor, true).await
}
