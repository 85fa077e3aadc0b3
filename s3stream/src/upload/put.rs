//! Puts an object and commits it, again and again under the same number, until both are done or refused (rules U2, U3).

use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_object_format::{HEADER_BYTES, ObjectHeader, StreamPart, WrittenObject};
use highwater_object_storage::{IoClass, ObjectKey, PutMode, StorageError, layout};
use highwater_runtime::crash_point;
use highwater_types::{ObjectId, StreamId, WalPosition};

use crate::store::Shared;
use crate::{Claim, ObjectCommit, StreamError};

/// How long a failed put or commit rests.
const REST: Duration = Duration::from_secs(1);
/// How long a start goes on while every put or commit fails (D3): a short outage holds it up, and of one that lasts it
/// tells the reason and ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts an object and commits what it holds.
///
/// # Errors
/// What is refused for good: the node epoch ends.
#[tracing::instrument(
    level = "debug",
    name = "upload",
    skip_all,
    fields(object_key = %layout::object(object), bytes = written.bytes)
)]
pub(super) async fn put_and_commit(
    shared: &Shared,
    object: ObjectId,
    written: &WrittenObject,
    floor: WalPosition,
) -> Result<(), StreamError> {
    crash_point("upload-before-put");
    put(shared, object, written).await?;
    crash_point("upload-after-put");
    commit_written(shared, object, written, floor).await
}

/// Commits what an object holds that is put, or that needs no object.
pub(super) async fn commit_written(
    shared: &Shared,
    object: ObjectId,
    written: &WrittenObject,
    floor: WalPosition,
) -> Result<(), StreamError> {
    let claims = written.parts.iter().map(|part| claim(object, part));
    let claims = claims.collect();
    commit(shared, object, written.bytes, claims, floor).await
}

/// Where all that became durable was of streams that were deleted since, the floor moves without an object: the log is
/// let go of below a floor that is committed alone (D2).
pub(super) async fn commit_floor(shared: &Shared, floor: WalPosition) -> Result<(), StreamError> {
    if floor <= shared.committed_floor() {
        return Ok(());
    }
    commit(shared, shared.next_object(), 0, Vec::new(), floor).await
}

/// U3: the same command until it is answered, for a repeat gets the first answer; then until the image shows it (U6).
async fn commit(
    shared: &Shared,
    object: ObjectId,
    object_bytes: u64,
    claims: Vec<(StreamId, Claim)>,
    floor: WalPosition,
) -> Result<(), StreamError> {
    let commit = ObjectCommit {
        epoch: shared.parts.epoch,
        object,
        object_bytes,
        claims,
        floor,
        lowest_in_flight: object.number,
        confirmed: floor,
        recovering: shared.is_recovering(),
    };
    loop {
        match commit_once(shared, commit.clone()).await {
            Ok(()) => break,
            Err(error @ StreamError::Unavailable { .. }) => rest(shared, error).await?,
            Err(error) => return Err(error),
        }
    }
    shared.set_committed_floor(floor);
    let number = object.number;
    shared.committed_upload.store(number, Ordering::Relaxed);
    shared.upload_succeeded();
    Ok(())
}

/// Waits before the same again; a start that has waited for long ends with the reason. While the store is full the start
/// waits for what is condemned to be deleted too, which is after its grace; other failures in between do not end that.
async fn rest(shared: &Shared, error: StreamError) -> Result<(), StreamError> {
    let failed = shared.upload_failed(&error);
    let until_room = PATIENCE.saturating_add(shared.config.room_within);
    let is_long = failed.since_full >= PATIENCE || failed.all >= until_room;
    if shared.is_recovering() && is_long {
        return Err(error);
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

async fn commit_once(shared: &Shared, commit: ObjectCommit) -> Result<(), StreamError> {
    let committed = shared.metadata.commit(commit).await?;
    crash_point("upload-after-commit");
    shared.metadata.seen(committed.at).await
}

/// U2: a number names one body for ever, so whatever happened to a put, the same is put again; of an object that is there
/// its header says whose it is.
pub(super) async fn put(
    shared: &Shared,
    object: ObjectId,
    written: &WrittenObject,
) -> Result<(), StreamError> {
    let key = layout::object(object);
    let storage = &shared.parts.storage;
    loop {
        let body = written.body.clone();
        let put = storage.put(&key, body, PutMode::IfAbsent, IoClass::Upload);
        let is_ours = match put.await {
            Ok(_) => Ok(true),
            Err(StorageError::Precondition { .. }) => is_ours(shared, object, &key).await,
            Err(error) => Err(error),
        };
        match is_ours {
            Ok(true) => {
                shared.store_full.send_replace(false);
                return Ok(());
            }
            Ok(false) => {
                return Err(StreamError::Damaged {
                    key: key.to_string(),
                    reason: "another process wrote it in this one's place".to_owned(),
                });
            }
            Err(error) => {
                let full = matches!(error, StorageError::Full { .. });
                shared.store_full.send_replace(full);
                rest(shared, StreamError::Storage(error)).await?;
            }
        }
    }
}

async fn is_ours(shared: &Shared, object: ObjectId, key: &ObjectKey) -> Result<bool, StorageError> {
    let storage = &shared.parts.storage;
    let head = storage.get(key, 0..HEADER_BYTES as u64, IoClass::Upload);
    let header = ObjectHeader::parse(&head.await?);
    Ok(header.is_ok_and(|header| header.id == object && header.nonce == shared.parts.nonce))
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
