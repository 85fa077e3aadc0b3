//! Gives every request a deadline, since a store may fail by never answering.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::timeout;

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// The time that any request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// The slowest transfer that is waited for, in addition.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// A store each of whose requests ends, with its answer or after a deadline of 30 seconds and one second for each MiB.
/// The outcome of a put or a deletion that misses its deadline is unknown.
#[derive(Debug)]
pub struct Bounded(Arc<dyn ObjectStorage>);

#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct NoAnswer(Duration);

impl Bounded {
    /// Gives each request to `inner` a deadline.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>) -> Self {
        Self(inner)
    }
}

fn limit(bytes: u64) -> Duration {
    REQUEST_MAX + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
}

async fn read<T>(
    key: &ObjectKey,
    bytes: u64,
    request: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    let limit = limit(bytes);
    let late = |_| StorageError::Failed {
        key: key.to_string(),
        source: Box::new(NoAnswer(limit)),
    };
    timeout(limit, request).await.map_err(late)?
}

async fn change<T>(
    key: &ObjectKey,
    bytes: u64,
    request: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    let limit = limit(bytes);
    let late = |_| StorageError::Unknown {
        key: key.to_string(),
        source: Box::new(NoAnswer(limit)),
    };
    timeout(limit, request).await.map_err(late)?
}

#[async_trait]
impl ObjectStorage for Bounded {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let bytes = body.iter().map(|part| part.len() as u64).sum();
        change(key, bytes, self.0.put(key, body, mode, class)).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let bytes = range.end.saturating_sub(range.start);
        read(key, bytes, self.0.get(key, range, class)).await
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        read(key, bytes, self.0.get_suffix(key, bytes, class)).await
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        // each page has the deadline of a request, and the listing ends after a page that missed it
        let pages = Some((self.0.list(prefix, after), prefix.clone()));
        stream::unfold(pages, |pages| async {
            let (mut pages, prefix) = pages?;
            let next = async { Ok(pages.next().await) };
            match read(&prefix, 0, next).await {
                Ok(next) => next.map(|next| (next, Some((pages, prefix)))),
                Err(late) => Some((Err(late), None)),
            }
        })
        .boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let Some(first) = keys.first() else {
            return Ok(());
        };
        change(first, 0, self.0.delete(keys)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hooked, MemoryStorage, Plan};

    #[tokio::test(start_paused = true)]
    async fn every_request_to_a_store_that_hangs_ends() {
        let hung = Hooked::new(Arc::<MemoryStorage>::default(), |_| Plan::hang());
        let store = Bounded::new(Arc::new(hung));
        let key = ObjectKey::new("a");
        let put = store.put(&key, Vec::new(), PutMode::IfAbsent, IoClass::Upload);
        assert!(matches!(put.await, Err(StorageError::Unknown { .. })));
        let got = store.get(&key, 0..1, IoClass::ColdRead);
        assert!(matches!(got.await, Err(StorageError::Failed { .. })));
        let got = store.get_suffix(&key, 1, IoClass::ColdRead);
        assert!(matches!(got.await, Err(StorageError::Failed { .. })));
        let deleted = store.delete(std::slice::from_ref(&key)).await;
        assert!(matches!(deleted, Err(StorageError::Unknown { .. })));
        let listed: Vec<_> = store.list(&key, None).collect().await;
        assert!(matches!(listed[..], [Err(StorageError::Failed { .. })]));
    }
}
