//! From the log cache to objects: encode, put, commit, then let go (rules U1 to U3, U6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use highwater_object_format::{
    BatchEntry, ObjectHeader, ObjectWriter, StreamPart, SummedBytes, WrittenObject,
};
use highwater_object_storage::{IoClass, PutMode, StorageError, layout};
use highwater_runtime::{crash_point, reasons};
use highwater_types::{
    LeaderEpoch, ObjectId, StreamId, StreamOffset, StreamRange, Timestamp, WalPosition,
};
use highwater_wal::{ConfirmedBatch, HEAD_BYTES, SealedWal};
use tokio::time::Instant;

use crate::store::Shared;
use crate::stream::ObjectStream;
use crate::{Claim, ObjectCommit, StreamError};

/// How long a failed upload rests.
const REST: Duration = Duration::from_secs(1);
/// Batches that are encoded in one go: well under a millisecond.
const BATCHES_AT_ONCE: usize = 32;
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

/// One batch of an upload.
struct Batch {
    entry: BatchEntry,
    delta: Bytes,
    roll: bool,
    append_time: Timestamp,
    body: SummedBytes,
}

/// One stream's share of an upload.
struct Share {
    stream: Arc<ObjectStream>,
    batches: Vec<Batch>,
    checkpoint: Option<Bytes>,
    entries: Vec<(StreamOffset, Bytes)>,
    open_from: Option<StreamOffset>,
}

/// Uploads all that is durable now; nothing to do is no error. One at a time.
pub(crate) async fn once(shared: &Arc<Shared>) -> Result<(), StreamError> {
    let _one = shared.uploading.lock().await;
    let (streams, floor) = {
        let mut cut = shared.cut.lock().unwrap_or_else(PoisonError::into_inner);
        cut.bytes = 0;
        let streams: Vec<Share> = shared
            .streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter_map(|stream| share(shared, stream))
            .collect();
        (streams, cut.end)
    };
    if streams.is_empty() {
        commit_floor(shared, floor).await?;
        return shared.wal().trim(floor).await.map_err(StreamError::Wal);
    }
    let object = shared.next_object();
    let mut writer = ObjectWriter::new(&header(shared, object));
    for share in &streams {
        let first = share.first();
        let label = share.stream.label.clone();
        writer.begin_stream(share.stream.id, label, share.stream.epoch, first);
        for batches in share.batches.chunks(BATCHES_AT_ONCE) {
            for batch in batches {
                let (delta, body) = (batch.delta.clone(), batch.body.clone());
                writer.push_batch(batch.entry, delta, batch.roll, batch.append_time, body);
            }
            // requests go before uploads
            tokio::task::yield_now().await;
        }
        let entries = share.entries.clone();
        writer.end_stream(
            share.checkpoint.clone(),
            entries,
            share.open_from,
            Vec::new(),
        );
    }
    let written = writer.finish();
    put_and_commit(shared, object, &written, floor, false).await?;
    for share in streams {
        release(shared, &share);
    }
    shared.evict_to(shared.parts.memory.limit() / 4 * 3);
    shared.wal().trim(floor).await.map_err(StreamError::Wal)
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

fn share(shared: &Shared, stream: &Arc<ObjectStream>) -> Option<Share> {
    let state = stream.lock();
    let mut deltas: Vec<(StreamRange, Bytes)> = state.deltas.clone();
    let mut batches = Vec::new();
    for batch in state.cache.pinned() {
        let entry = BatchEntry {
            base: batch.base,
            count: u32::try_from(batch.next - batch.base).unwrap_or(u32::MAX),
            bytes: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
            max_timestamp: batch.max_timestamp,
        };
        if !batch.delta.is_empty() {
            deltas.push((batch.base..batch.next, batch.delta.clone()));
        }
        batches.push(Batch {
            entry,
            delta: batch.delta.clone(),
            roll: batch.roll,
            append_time: batch.append_time,
            body: summed(batch.bytes.clone(), batch.tail_crc),
        });
    }
    if batches.is_empty() {
        return None;
    }
    let checkpoint = state.checkpoint.clone();
    drop(state);
    // F2: folded from the previous checkpoint and the deltas up to the cut, written when these outweigh it
    let weight: usize = deltas.iter().map(|(_, delta)| delta.len()).sum();
    let outweighs = weight > 0 && weight >= checkpoint.as_ref().map_or(0, Bytes::len);
    let folded = shared.parts.fold.fold(checkpoint.as_ref(), &deltas);
    let first = batches.first().map_or(0, |batch| batch.entry.base);
    Some(Share {
        stream: Arc::clone(stream),
        batches,
        checkpoint: outweighs.then_some(folded.checkpoint),
        entries: folded
            .entries
            .into_iter()
            .filter(|entry| entry.at >= first)
            .map(|entry| (entry.at, entry.body))
            .collect(),
        open_from: folded.open_from,
    })
}

/// A batch with the sum that the log was given of it.
fn summed(bytes: Bytes, tail_crc: u32) -> SummedBytes {
    SummedBytes {
        bytes,
        summed_from: HEAD_BYTES,
        crc: tail_crc,
    }
}

impl Share {
    fn first(&self) -> StreamOffset {
        self.batches.first().map_or(0, |batch| batch.entry.base)
    }
}

/// U6: called when the node's own image shows the claim.
fn release(shared: &Shared, share: &Share) {
    let Some(last) = share.batches.last() else {
        return;
    };
    let end = last.entry.next();
    let mut state = share.stream.lock();
    state.uploaded = end;
    if share.checkpoint.is_some() {
        state.checkpoint.clone_from(&share.checkpoint);
        state.deltas.clear();
    } else {
        let deltas = share.batches.iter().filter(|batch| !batch.delta.is_empty());
        let fresh: Vec<_> = deltas
            .map(|batch| (batch.entry.base..batch.entry.next(), batch.delta.clone()))
            .collect();
        state.deltas.extend(fresh);
    }
    state.cache.unpin(end);
    drop(state);
    let mut evictable = shared
        .evictable
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    // a few steps for each stream, so that eviction frees no more than is needed
    for batch in share.batches.iter().step_by(64).skip(1) {
        evictable.push_back((share.stream.id, batch.entry.base));
    }
    evictable.push_back((share.stream.id, end));
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
        has_checkpoint: directory.checkpoint.is_some(),
        leader_epoch: directory.leader_epoch,
    };
    (directory.stream, claim)
}

/// D3: reads a former epoch's WAL back in windows and uploads each; checkpoints come with the next upload.
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
