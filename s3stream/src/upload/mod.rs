//! From the log cache to objects: encode, put, commit, then let go (rules U1 to U3, U6).

mod carry;
mod put;
mod recover;
mod share;

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use highwater_object_format::{ObjectHeader, ObjectWriter, SummedBytes, WrittenObject};
use highwater_runtime::reasons;
use highwater_types::{ObjectId, WalPosition};
use highwater_wal::HEAD_BYTES;
use tokio::time::Instant;

use self::carry::carry;
use self::put::{commit_floor, put_and_commit};
pub use self::recover::RecoveryStatus;
pub(crate) use self::recover::recover;
use self::share::Share;
use crate::StreamError;
use crate::store::Shared;
use crate::stream::ObjectStream;

/// Uploads for ever: when enough has gathered, when room is short, and at the latest after the interval. Ends when an upload
/// is refused for good, and the node epoch with it (A1, U3).
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        until_due(&shared).await;
        if let Err(error) = next(&shared).await {
            shared.fail(reasons(&error));
            return;
        }
    }
}

async fn until_due(shared: &Shared) {
    let interval = shared.config.upload_interval;
    let begin = Instant::now();
    loop {
        // what comes while nothing is there is not as old as that when this is over
        let oldest = shared.backlog().oldest().unwrap_or(begin);
        if shared.is_upload_due() {
            return;
        }
        tokio::select! {
            () = shared.wake_upload.notified() => {}
            () = tokio::time::sleep_until(oldest + interval) => return,
        }
    }
}

/// Uploads all that is durable now; nothing to do is no error.
pub(crate) async fn all(shared: &Arc<Shared>) -> Result<(), StreamError> {
    while next(shared).await? {}
    Ok(())
}

/// An upload that was begun. It goes on under its number where the task that began it was stopped in its middle: another
/// object would leave this one behind (U2).
#[derive(Debug)]
pub(crate) struct Begun {
    /// None where all before the floor was of streams that were deleted since.
    object: Option<(ObjectId, WrittenObject)>,
    floor: WalPosition,
    shares: Vec<Share>,
}

/// Uploads the oldest of what is durable, as one object; whether there was anything. One at a time. Cancellation safe: the
/// next call goes on.
async fn next(shared: &Arc<Shared>) -> Result<bool, StreamError> {
    let mut begun = shared.uploading.lock().await;
    if begun.is_none() {
        // whatever lies before the cut has been handed out: that is done under the same lock
        let cut = shared.backlog().cut();
        if let Some(floor) = cut {
            *begun = Some(begin(shared, floor).await?);
        }
    }
    let is_any = begun.is_some();
    if let Some(upload) = &*begun {
        upload.put_and_commit(shared).await?;
    }
    if let Some(done) = begun.take() {
        let floor = done.floor;
        done.release(shared);
        shared.wal().trim(floor);
    }
    carry(shared, shared.committed_floor()).await?;
    Ok(is_any)
}

impl Begun {
    async fn put_and_commit(&self, shared: &Shared) -> Result<(), StreamError> {
        match &self.object {
            Some((object, written)) => put_and_commit(shared, *object, written, self.floor).await,
            None => commit_floor(shared, self.floor).await,
        }
    }

    fn release(self, shared: &Shared) {
        for share in self.shares {
            share.release(shared);
        }
        shared.backlog().uploaded(self.floor);
        shared.evict_for_room();
    }
}

/// Encodes what is durable before a position.
async fn begin(shared: &Shared, floor: WalPosition) -> Result<Begun, StreamError> {
    let streams: Vec<Arc<ObjectStream>> = {
        let streams = shared.streams.read();
        let streams = streams.unwrap_or_else(PoisonError::into_inner);
        streams.values().cloned().collect()
    };
    let mut shares = Vec::new();
    let mut writer = None;
    for stream in streams {
        let Some(share) = Share::of(shared, stream, floor) else {
            continue;
        };
        let (_, writer) = writer.get_or_insert_with(|| {
            let object = shared.next_object();
            (object, ObjectWriter::new(&header(shared, object)))
        });
        share.write(shared, writer).await?;
        shares.push(share);
    }
    Ok(Begun {
        object: writer.map(|(object, writer)| (object, writer.finish())),
        floor,
        shares,
    })
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

#[cfg(test)]
mod tests;
