//! From the log cache to objects: encode, put, commit, then let go (rules U1 to U3, U6).

mod carry;
mod share;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use highwater_object_format::{
    BatchEntry, ObjectHeader, ObjectWriter, StreamPart, SummedBytes, WrittenObject,
};
use highwater_object_storage::{IoClass, PutMode, StorageError, layout};
use highwater_runtime::{crash_point, reasons};
use highwater_types::{LeaderEpoch, ObjectId, StreamId, StreamOffset, WalPosition};
use highwater_wal::{ConfirmedBatch, HEAD_BYTES, SealedWal};
use tokio::time::Instant;

use self::carry::carry;
use self::share::{Share, cut};
use crate::store::Shared;
use crate::stream::ObjectStream;
use crate::{Claim, ObjectCommit, StreamError};

/// How long a failed upload rests.
const REST: Duration = Duration::from_secs(1);
/// How much of a former epoch's WAL is uploaded at a time (D3).
const WINDOW_BYTES: usize = 32 << 20;

/// Uploads for ever: when enough has gathered, and at the latest after the interval.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let wake = shared.wake_upload.notified();
        if tokio::time::timeout(shared.config.upload_interval, wake)
            .await
            .is_err()
        {
            tracing::trace!("upload interval is over");
        }
        if let Err(error) = once(&shared).await {
            tracing::warn!(%error, "upload failed, it is tried again");
            tokio::time::sleep(REST).await;
        }
    }
}

/// Deletes condemned objects after their grace, again and again until it is recorded (G1).
pub(crate) async fn reap(shared: Arc<Shared>) {
    let mut seen: BTreeMap<ObjectId, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(shared.config.grace / 2).await;
        let condemned = match shared.metadata.condemned().await {
            Ok(condemned) => condemned,
            Err(error) => {
                tracing::warn!(%error, "cannot see condemned objects");
                continue;
            }
        };
        let now = Instant::now();
        seen.retain(|id, _| condemned.contains(id));
        for id in &condemned {
            seen.entry(*id).or_insert(now);
        }
        let due: Vec<ObjectId> = seen
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= shared.config.grace)
            .map(|(id, _)| *id)
            .collect();
        if !due.is_empty()
            && let Err(error) = shared.delete(&due).await
        {
            tracing::warn!(%error, "cannot delete condemned objects, it is tried again");
        }
    }
}

/// Uploads all that is durable now; nothing to do is no error. One at a time.
pub(crate) async fn once(shared: &Arc<Shared>) -> Result<(), StreamError> {
    let _one = shared.uploading.lock().await;
    let (streams, floor) = cut(shared);
    if streams.is_empty() {
        commit_floor(shared, floor).await?;
    } else {
        upload(shared, streams, floor).await?;
    }
    shared.wal().trim(floor).await.map_err(StreamError::Wal)?;
    carry(shared, floor).await
}

async fn upload(
    shared: &Shared,
    streams: Vec<(Arc<ObjectStream>, StreamOffset)>,
    floor: WalPosition,
) -> Result<(), StreamError> {
    let object = shared.next_object();
    let mut writer = ObjectWriter::new(&header(shared, object));
    let mut shares = Vec::with_capacity(streams.len());
    for (stream, end) in streams {
        let share = Share::of(shared, stream, end);
        share.write(&mut writer).await;
        shares.push(share);
    }
    let written = writer.finish();
    put_and_commit(shared, object, &written, floor, false).await?;
    for share in shares {
        share.release(shared);
    }
    shared.evict_to(shared.parts.memory.limit() / 4 * 3);
    Ok(())
}

/// Where all that became durable was of streams that were deleted since, the floor moves without an object: the log is
/// let go of below a floor that is committed alone (D2).
async fn commit_floor(shared: &Shared, floor: WalPosition) -> Result<(), StreamError> {
    if floor.at <= shared.committed_floor().at {
        return Ok(());
    }
    commit(shared, shared.next_object(), 0, Vec::new(), floor, false).await
}

fn header(shared: &Shared, id: ObjectId) -> ObjectHeader {
    ObjectHeader {
        cluster: shared.parts.cluster,
        id,
        nonce: shared.parts.nonce,
        rewrite_number: 0,
        floor: shared.committed_floor(),
    }
}

/// A batch with the sum that the log was given of it.
fn summed(bytes: Bytes, tail_crc: u32) -> SummedBytes {
    SummedBytes {
        bytes,
        summed_from: HEAD_BYTES,
        crc: tail_crc,
    }
}

async fn put_and_commit(
    shared: &Shared,
    object: ObjectId,
    written: &WrittenObject,
    floor: WalPosition,
    recovering: bool,
) -> Result<(), StreamError> {
    crash_point("upload-before-put");
    put(shared, object, written).await?;
    crash_point("upload-after-put");
    commit_written(shared, object, written, floor, recovering).await
}

async fn commit_written(
    shared: &Shared,
    object: ObjectId,
    written: &WrittenObject,
    floor: WalPosition,
    recovering: bool,
) -> Result<(), StreamError> {
    let claims = written.parts.iter().map(|part| claim(object, part));
    let claims = claims.collect();
    commit(shared, object, written.bytes, claims, floor, recovering).await
}

async fn commit(
    shared: &Shared,
    object: ObjectId,
    object_bytes: u64,
    claims: Vec<(StreamId, Claim)>,
    floor: WalPosition,
    recovering: bool,
) -> Result<(), StreamError> {
    let commit = ObjectCommit {
        epoch: shared.parts.epoch,
        object,
        object_bytes,
        claims,
        floor,
        lowest_in_flight: object.number,
        confirmed: floor,
        recovering,
    };
    let committed = shared.metadata.commit(commit).await?;
    shared.set_committed_floor(floor);
    crash_point("upload-after-commit");
    shared.metadata.seen(committed.at).await
}

/// U2: a number names one body for ever; an unknown outcome is put again with the same body, and "exists" is ours, for
/// the epoch in the key is this incarnation's alone.
async fn put(
    shared: &Shared,
    object: ObjectId,
    written: &WrittenObject,
) -> Result<(), StreamError> {
    let key = layout::object(object);
    let storage = &shared.parts.storage;
    let mut tries = 0;
    loop {
        let put = storage.put(
            &key,
            written.body.clone(),
            PutMode::IfAbsent,
            IoClass::Upload,
        );
        match put.await {
            Ok(_) => {
                shared.store_full.send_replace(false);
                return Ok(());
            }
            Err(StorageError::Precondition { .. }) if tries > 0 => {
                shared.store_full.send_replace(false);
                return Ok(());
            }
            Err(
                error @ (StorageError::Unknown { .. }
                | StorageError::Failed { .. }
                | StorageError::Full { .. }),
            ) => {
                tries += 1;
                let full = matches!(error, StorageError::Full { .. });
                shared.store_full.send_replace(full);
                tracing::warn!(error = reasons(&error), "put failed, it is tried again");
                tokio::time::sleep(REST).await;
            }
            Err(error) => return Err(StreamError::Storage(error)),
        }
    }
}

fn claim(object: ObjectId, part: &StreamPart) -> (StreamId, Claim) {
    let directory = &part.directory;
    let claim = Claim {
        range: directory.range.clone(),
        object: Some(object),
        part: part.blocks.clone(),
        max_timestamp: directory.max_timestamp,
        rolls: directory.rolls.clone(),
        open_from: directory.open_from,
        checkpoint_bytes: directory
            .checkpoint
            .as_ref()
            .map(|bytes| bytes.len() as u64),
        leader_epoch: directory.leader_epoch,
    };
    (directory.stream, claim)
}

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
        writer.end_stream(None, Vec::new(), None, Vec::new());
    }
    put_and_commit(shared, object, &writer.finish(), floor, true).await
}
