//! Retries requests that are safe to retry.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use highwater_runtime::{Backoff, SeededRng};

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

const ATTEMPTS_MAX: u32 = 4;
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A store whose reads, deletions and overwriting puts are tried a few times.
///
/// A conditional put is sent once: after an unknown outcome a second attempt could fail because the first succeeded, so
/// that the caller has to read first (W3, U2). A listing is not retried either.
#[derive(Debug)]
pub struct Retrying {
    inner: Arc<dyn ObjectStorage>,
    rng: SeededRng,
}

impl Retrying {
    /// Retries requests to `inner`; `rng` gives the jitter of the waits.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>, rng: SeededRng) -> Self {
        Self { inner, rng }
    }

    async fn retry<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        let mut backoff = Backoff::new(WAIT_FIRST, WAIT_MAX, self.rng.clone());
        for number in 1..ATTEMPTS_MAX {
            match attempt().await {
                Err(error @ (StorageError::Failed { .. } | StorageError::Unknown { .. })) => {
                    tracing::debug!(attempt = number, %error, "storage request is tried again");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                other => return other,
            }
        }
        attempt().await
    }
}

#[async_trait]
impl ObjectStorage for Retrying {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        if mode != PutMode::Overwrite {
            return self.inner.put(key, body, mode, class).await;
        }
        self.retry(|| self.inner.put(key, body.clone(), PutMode::Overwrite, class))
            .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        self.retry(|| self.inner.get(key, range.clone(), class))
            .await
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        self.retry(|| self.inner.get_suffix(key, bytes, class))
            .await
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        self.inner.list(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.retry(|| self.inner.delete(keys)).await
    }
}
