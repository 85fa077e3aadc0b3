//! Carries out one put of the log: requests, deadlines, hedges and waits around the pure [`Attempt`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use highwater_object_storage::{IoClass, ObjectKey, ObjectStorage, PutMode, StorageError};
use highwater_runtime::{Backoff, SeededRng, crash_point};
use tokio::time::{Instant, sleep, timeout};

use super::attempt::{Action, Answer, Attempt, Event, Found};
use super::config::Repeats;
use super::latency::Latency;

/// The ports of puts. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Putter {
    pub(super) storage: Arc<dyn ObjectStorage>,
    pub(super) rng: SeededRng,
    pub(super) repeats: Repeats,
    latency: Arc<Mutex<Latency>>,
}

/// An object that is put under a key, with the same bytes in every request (W1).
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) key: ObjectKey,
    pub(super) parts: Vec<Bytes>,
    pub(super) bytes: u64,
}

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Durable,
    /// Another process has the key.
    Fenced,
}

impl Body {
    /// Whether an object is this one (W1): nonce, length and checksums are equal because every byte is.
    fn is(&self, object: &Bytes) -> bool {
        let mut rest = &object[..];
        let mut matches = self
            .parts
            .iter()
            .map(|part| match rest.strip_prefix(&part[..]) {
                Some(after) => {
                    rest = after;
                    true
                }
                None => false,
            });
        matches.all(|is_equal| is_equal) && rest.is_empty()
    }
}

/// The type of the requests and waits of one put, each of which ends with an event.
type Pending<'a> = FuturesUnordered<BoxFuture<'a, Event>>;

impl Putter {
    pub(super) fn new(storage: Arc<dyn ObjectStorage>, rng: SeededRng, repeats: Repeats) -> Self {
        let latency = Arc::new(Mutex::new(Latency::new(repeats.hedge)));
        Self {
            storage,
            rng,
            repeats,
            latency,
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        let (first, max) = self.repeats.backoff;
        Backoff::new(first, max, self.rng.clone())
    }

    /// Puts an object and resolves when its outcome is known. It never gives up. If it is dropped, requests that were
    /// sent may still be applied.
    pub(super) async fn put(&self, body: &Body) -> Outcome {
        let mut attempt = Attempt::new(self.repeats.at_once_max);
        let mut backoff = self.backoff();
        let mut pending: Pending<'_> = FuturesUnordered::new();
        crash_point("group-before-put");
        pending.push(Box::pin(self.send(body)));
        pending.push(Box::pin(self.lateness()));
        while let Some(event) = pending.next().await {
            match attempt.on(event) {
                Action::Put => pending.push(Box::pin(self.send(body))),
                Action::Read => pending.push(Box::pin(self.read(body))),
                Action::Rest => {
                    let wait = backoff.next_wait();
                    pending.push(Box::pin(async move {
                        sleep(wait).await;
                        Event::Rested
                    }));
                }
                Action::Nothing => {}
                Action::Done => {
                    crash_point("group-after-put");
                    return Outcome::Durable;
                }
                Action::Fenced => return Outcome::Fenced,
            }
            if event == Event::IsLate {
                pending.push(Box::pin(self.lateness()));
            }
        }
        unreachable!("a wait for lateness is always pending")
    }

    async fn lateness(&self) -> Event {
        let after = {
            let latency = self.latency.lock();
            latency.unwrap_or_else(PoisonError::into_inner).late_after()
        };
        sleep(after.max(Duration::from_millis(1))).await;
        Event::IsLate
    }

    async fn send(&self, body: &Body) -> Event {
        let since = Instant::now();
        let put = self.storage.put(
            &body.key,
            body.parts.clone(),
            PutMode::IfAbsent,
            IoClass::Wal,
        );
        let answer = match timeout(self.repeats.deadline, put).await {
            Ok(Ok(_version)) => {
                let latency = self.latency.lock();
                let mut latency = latency.unwrap_or_else(PoisonError::into_inner);
                latency.took(since.elapsed());
                Answer::Created
            }
            Ok(Err(error)) => answer(&error),
            Err(_elapsed) => Answer::Unknown,
        };
        Event::Answered(answer)
    }

    async fn read(&self, body: &Body) -> Event {
        // one byte more, so that a longer object is not taken for ours
        let read = self
            .storage
            .get_suffix(&body.key, body.bytes + 1, IoClass::Wal);
        let found = match timeout(self.repeats.deadline, read).await {
            Ok(Ok((object, bytes))) if object.len() as u64 == bytes && body.is(&object) => {
                Found::Ours
            }
            Ok(Ok((object, bytes))) if (object.len() as u64) < bytes.min(body.bytes + 1) => {
                Found::Unreadable
            }
            Ok(Ok(_)) => Found::Others,
            Ok(Err(StorageError::NotFound { .. })) => Found::Absent,
            Ok(Err(error)) => {
                tracing::debug!(object_key = %body.key, %error, "a put is read back again");
                Found::Unreadable
            }
            Err(_elapsed) => Found::Unreadable,
        };
        Event::Found(found)
    }
}

/// The answer to a put that an error stands for.
pub(super) fn answer(error: &StorageError) -> Answer {
    match error {
        StorageError::Precondition { .. } => Answer::Exists,
        StorageError::Unknown { .. } => Answer::Unknown,
        StorageError::Failed { .. } | StorageError::Full { .. } | StorageError::NotFound { .. } => {
            Answer::NotDone
        }
    }
}
