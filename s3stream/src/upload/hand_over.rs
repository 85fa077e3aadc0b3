//! Closing streams for a planned move, so that another node may open them (rules C1, C2).
//!
//! A stream is handed over by the command that commits its last claim. What it has in the log is uploaded first, while it is
//! still written; then its appends are stopped, and the few batches that came meanwhile go into an object of their own. So
//! writers wait for one put and one command. Only one upload is under way at a time, hence the numbers of objects stay in
//! order (U2), and no other object has batches of these streams that are not committed.
//!
//! Until the command is sent the move can be put off: the object is then committed like any other, and appends go on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use highwater_runtime::crash_point;
use highwater_types::StreamId;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout_at};

use super::Uploads;
use super::begun::Begun;
use crate::stream::{ObjectStream, State};
use crate::{HandedOver, Stream, StreamError};

/// The bytes of batches that an upload takes before writers have to wait.
const LAST_BYTES_MAX: u64 = 1 << 20;
/// How long uploads are waited for before that, however much is written meanwhile; and how often they are looked at.
const UPLOADS_BEFORE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);
/// How long writers wait until appended batches are durable and the last object is put. After that the move is put off. It
/// is less than the second for which a request waits, so that a request whose partition stays is carried out in its turn.
const PATIENCE: Duration = Duration::from_millis(900);

/// Streams that are being handed over. While this lives, no upload is made. If it is dropped, the move is put off.
#[derive(Debug)]
pub struct HandingOver {
    uploads: Arc<Uploads>,
    under_way: OwnedMutexGuard<Option<Begun>>,
    streams: Vec<Arc<ObjectStream>>,
}

/// Makes uploads due while it lives.
struct Moving<'a>(&'a Uploads);

impl<'a> Moving<'a> {
    fn new(uploads: &'a Uploads) -> Self {
        uploads.moving.fetch_add(1, Ordering::Relaxed);
        uploads.wake.notify_one();
        Self(uploads)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.moving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Uploads {
    /// See [`crate::ObjectStreamStore::begin_hand_over`].
    pub(crate) async fn begin_hand_over(
        self: &Arc<Self>,
        ids: &[StreamId],
    ) -> Result<HandingOver, StreamError> {
        let streams = ids.iter().filter_map(|id| self.streams.get(*id));
        let streams: Vec<_> = streams.collect();
        self.check_uploads()?;
        self.upload_most_of(&streams).await?;
        let mut under_way = Arc::clone(&self.under_way).lock_owned().await;
        // an upload was stopped in its middle
        self.final_errors(self.go_on(&mut under_way).await)?;
        self.check_uploads()?;
        Ok(HandingOver {
            uploads: Arc::clone(self),
            under_way,
            streams,
        })
    }

    /// Waits until the streams are uploaded but for some bytes, or for long: their writers may be faster than uploads are.
    async fn upload_most_of(&self, streams: &[Arc<ObjectStream>]) -> Result<(), StreamError> {
        let left = || -> u64 {
            let states = streams.iter().map(|stream| stream.lock());
            let bytes = |state: MutexGuard<'_, State>| -> u64 {
                let pinned = state.cache.pinned();
                pinned.map(|batch| batch.bytes.len() as u64).sum()
            };
            states.map(bytes).sum()
        };
        if left() <= LAST_BYTES_MAX {
            return Ok(());
        }
        let _moving = Moving::new(self);
        let begun = Instant::now();
        while left() > LAST_BYTES_MAX && begun.elapsed() < UPLOADS_BEFORE {
            self.check_uploads()?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether a hand-over waits for uploads.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Relaxed) > 0
    }

    /// Refuses a hand-over while uploads fail.
    fn check_uploads(&self) -> Result<(), StreamError> {
        let outage = self.outage();
        match outage.failing() {
            Some((_, why)) => Err(StreamError::Unavailable {
                reason: format!("uploads fail: {why}"),
            }),
            None => Ok(()),
        }
    }

    /// Ends the node epoch if an upload was refused for good (A1).
    fn final_errors<T>(&self, result: Result<T, StreamError>) -> Result<T, StreamError> {
        if let Err(error) = &result {
            self.end_by(error);
        }
        result
    }
}

impl HandingOver {
    /// Closes the streams, to which nothing is appended any more, and hands them over. It returns once the node's own image
    /// shows that. From the moment when the command is sent, it is sent until it is answered.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`] if batches do not become durable or the store does not take them in time: the streams
    /// are as before, and appends may go on. Any other error ends the node epoch.
    pub async fn finish(mut self) -> Result<(), StreamError> {
        let deadline = Instant::now() + PATIENCE;
        self.until_durable(deadline).await?;
        let uploads = Arc::clone(&self.uploads);
        let encoding = Begun::encode_last(&uploads, &self.streams);
        let encoded = timeout_at(deadline, encoding).await;
        let encoded = encoded.map_err(|_elapsed| late("their last object is not encoded"))?;
        let begun = self.under_way.insert(uploads.final_errors(encoded)?);
        crash_point("hand-over-before-put");
        let put = timeout_at(deadline, begun.put(&uploads)).await;
        let put =
            put.map_err(|_elapsed| late("the object store does not take their last object"))?;
        uploads.final_errors(put)?;
        crash_point("hand-over-after-put");
        let handed_over = self.streams.iter().map(|stream| {
            let mut state = stream.lock();
            // C1
            state.is_closed = true;
            HandedOver {
                stream: stream.id,
                epoch: stream.epoch,
                end: state.bounds.next,
            }
        });
        let handed_over = handed_over.collect();
        uploads.final_errors(begun.commit(&uploads, handed_over).await)?;
        crash_point("hand-over-after-commit");
        if let Some(done) = self.under_way.take() {
            done.release(&uploads);
        }
        Ok(())
    }

    /// Waits until all that was appended to the streams is durable (C1).
    async fn until_durable(&self, deadline: Instant) -> Result<(), StreamError> {
        for stream in &self.streams {
            let mut changes = stream.watch_bounds();
            let until_durable = async {
                // an append does not change the watched value
                while stream.bounds().confirmed < stream.bounds().next {
                    tokio::select! {
                        // the sender lives as long as the stream
                        Ok(()) = changes.changed() => {}
                        reason = self.uploads.failed() => {
                            return Err(StreamError::Unavailable { reason });
                        }
                    }
                }
                Ok(())
            };
            let waited = timeout_at(deadline, until_durable).await;
            waited.map_err(|_elapsed| late("appended batches do not become durable"))??;
        }
        Ok(())
    }
}

fn late(why: &str) -> StreamError {
    let reason = format!("{why} within {PATIENCE:?}");
    StreamError::Unavailable { reason }
}
