//! Checks that a store keeps the guarantees that every record relies on, before the first record is written to it.
//!
//! The probe costs [`ROUNDS`] times [`WRITERS`] + 1 PUTs and 3 GETs, one LIST and one POST, all of a few bytes.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use highwater_runtime::SeededRng;
use highwater_types::NodeId;

use crate::{IoClass, ObjectKey, ObjectStorage, PutMode, StorageError, layout};

const ROUNDS: usize = 3;
const WRITERS: usize = 8;
const ATTEMPTS_MAX: u32 = 5;
const REST: Duration = Duration::from_millis(200);
const CLASS: IoClass = IoClass::Start;

/// The reason why a store is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The store breaks a guarantee. Use another store.
    #[error("{0}")]
    Untrusted(String),
    /// The store failed to answer as it should. Mend the cause and start again.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn untrusted(what: impl Into<String>) -> ProbeError {
    ProbeError::Untrusted(what.into())
}

/// Races creations of one key, reads, lists, deletes, and reads again. The whole probe begins again if a request fails,
/// since a store may close a connection at any time. Several nodes may probe one store at once, since each uses only
/// its own keys.
///
/// # Errors
/// [`ProbeError`].
pub(crate) async fn run(
    store: &dyn ObjectStorage,
    node: NodeId,
    rng: &SeededRng,
) -> Result<(), ProbeError> {
    for attempt in 1..ATTEMPTS_MAX {
        match once(store, node, rng).await {
            Err(ProbeError::Storage(error)) => {
                tracing::debug!(attempt, %error, "the store is probed again");
                tokio::time::sleep(REST).await;
            }
            other => return other,
        }
    }
    once(store, node, rng).await
}

async fn once(store: &dyn ObjectStorage, node: NodeId, rng: &SeededRng) -> Result<(), ProbeError> {
    let keys: Vec<ObjectKey> = (0..ROUNDS)
        .map(|_| layout::probe(node, u128::from_be_bytes(rng.next_id())))
        .collect();
    for key in &keys {
        race(store, key).await?;
    }
    let listed: Vec<ObjectKey> = store
        .list(&layout::probes(node), None)
        .map_ok(|entry| entry.key)
        .try_collect()
        .await?;
    if !keys.iter().all(|key| listed.contains(key)) {
        return Err(untrusted("a listing leaves out objects written before it"));
    }
    // this also deletes the probes of this node's earlier starts that were killed
    store.delete(&listed).await?;
    for key in &keys {
        match store.get(key, 0..1, CLASS).await {
            Err(StorageError::NotFound { .. }) => {}
            Ok(_) => return Err(untrusted("it reads an object that was deleted")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn race(store: &dyn ObjectStorage, key: &ObjectKey) -> Result<(), ProbeError> {
    let body = |writer: usize| Bytes::from(format!("writer {writer}"));
    let puts =
        (0..WRITERS).map(|writer| store.put(key, vec![body(writer)], PutMode::IfAbsent, CLASS));
    let mut winners = Vec::new();
    let mut failed = None;
    for (writer, put) in join_all(puts).await.into_iter().enumerate() {
        match put {
            Ok(_) => winners.push(writer),
            // a put that was refused because another one was under way has lost too
            Err(StorageError::Precondition { .. }) => {}
            Err(error) => failed = Some(error),
        }
    }
    let winner = match (winners[..].as_ref(), failed) {
        ([winner], _) => *winner,
        ([], Some(error)) => return Err(error.into()),
        ([], None) => return Err(untrusted("it says of a new key that an object is there")),
        (many, _) => {
            return Err(untrusted(format!(
                "{} of {WRITERS} requests created the same object: create-if-absent (If-None-Match: *) is not atomic \
                 there, or not known",
                many.len()
            )));
        }
    };
    match overwrite(store, key, body(WRITERS)).await {
        Err(StorageError::Precondition { .. }) => {}
        Ok(()) => {
            return Err(untrusted(
                "it overwrites an object that was to be created only if absent (If-None-Match: *)",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    // this read comes after the refusals, since a server may close the connection after one: reads are retried, but
    // listings are not
    match store.get(key, 0..64, CLASS).await {
        Ok(read) if read == body(winner) => {}
        Ok(_) => {
            return Err(untrusted(
                "it reads back another body than the one it accepted",
            ));
        }
        Err(StorageError::NotFound { .. }) => {
            return Err(untrusted("an object written a moment ago is not found"));
        }
        Err(error) => return Err(error.into()),
    }
    let part = store.get(key, 2..5, CLASS).await?;
    if part != body(winner).slice(2..5) {
        return Err(untrusted("it reads another range than was asked for"));
    }
    Ok(())
}

/// Tries to create an object that exists. An unknown outcome is retried, which is safe because the store has to refuse
/// the put: a server may close a connection after a refusal, and the next request on it is lost.
async fn overwrite(
    store: &dyn ObjectStorage,
    key: &ObjectKey,
    body: Bytes,
) -> Result<(), StorageError> {
    let put = || store.put(key, vec![body.clone()], PutMode::IfAbsent, CLASS);
    for _ in 1..ATTEMPTS_MAX {
        match put().await {
            Err(StorageError::Unknown { .. } | StorageError::Failed { .. }) => {
                tokio::time::sleep(REST).await;
            }
            other => return other.map(drop),
        }
    }
    put().await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures::stream::BoxStream;

    use super::*;
    use crate::{MemoryStorage, ObjectEntry, ObjectVersion};

    const NODE: NodeId = NodeId(1);

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        Overwrites,
        ChecksThenWrites,
        ReadsStale,
        ListsStale,
        IgnoresRange,
        KeepsDeleted,
    }

    /// A store that breaks one guarantee.
    #[derive(Debug)]
    struct Faulty {
        fault: Fault,
        inner: MemoryStorage,
    }

    #[async_trait]
    impl ObjectStorage for Faulty {
        async fn put(
            &self,
            key: &ObjectKey,
            body: Vec<Bytes>,
            mode: PutMode,
            class: IoClass,
        ) -> Result<ObjectVersion, StorageError> {
            let mode = match self.fault {
                Fault::Overwrites => PutMode::Overwrite,
                Fault::ChecksThenWrites if self.inner.get(key, 0..1, class).await.is_err() => {
                    tokio::task::yield_now().await;
                    PutMode::Overwrite
                }
                _ => mode,
            };
            self.inner.put(key, body, mode, class).await
        }

        async fn get(
            &self,
            key: &ObjectKey,
            range: Range<u64>,
            class: IoClass,
        ) -> Result<Bytes, StorageError> {
            let range = match self.fault {
                Fault::IgnoresRange => 0..64,
                _ => range,
            };
            if self.fault == Fault::ReadsStale {
                return Err(StorageError::NotFound {
                    key: key.to_string(),
                });
            }
            self.inner.get(key, range, class).await
        }

        async fn get_suffix(
            &self,
            key: &ObjectKey,
            bytes: u64,
            class: IoClass,
        ) -> Result<(Bytes, u64), StorageError> {
            self.inner.get_suffix(key, bytes, class).await
        }

        fn list(
            &self,
            prefix: &ObjectKey,
            after: Option<&ObjectKey>,
        ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
            use futures::StreamExt;
            let skipped = usize::from(self.fault == Fault::ListsStale);
            self.inner.list(prefix, after).skip(skipped).boxed()
        }

        async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
            match self.fault {
                Fault::KeepsDeleted => Ok(()),
                _ => self.inner.delete(keys).await,
            }
        }
    }

    async fn probe(fault: Fault) -> Result<(), String> {
        let inner = MemoryStorage::default();
        let probed = run(&Faulty { fault, inner }, NODE, &SeededRng::from_seed(1)).await;
        probed.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_store_that_breaks_a_promise_is_refused_with_the_reason() {
        assert_eq!(probe(Fault::None).await, Ok(()));
        for (fault, reason) in [
            (Fault::Overwrites, "8 of 8 requests created the same object"),
            (Fault::ChecksThenWrites, "is not atomic"),
            (Fault::ReadsStale, "is not found"),
            (Fault::ListsStale, "leaves out"),
            (Fault::IgnoresRange, "another range"),
            (Fault::KeepsDeleted, "was deleted"),
        ] {
            let refused = probe(fault).await.expect_err("is refused");
            assert!(refused.contains(reason), "{fault:?}: {refused}");
        }
    }

    /// Runs another node's whole probe before one of its requests.
    #[derive(Debug)]
    struct Interrupted {
        inner: MemoryStorage,
        /// The number of requests before the other node starts.
        after: AtomicUsize,
    }

    impl Interrupted {
        async fn step(&self) {
            let before = self.after.load(Ordering::Relaxed);
            self.after.store(before.wrapping_sub(1), Ordering::Relaxed);
            if before == 0 {
                let other = run(&self.inner, NodeId(2), &SeededRng::from_seed(2)).await;
                other.expect("the other node trusts the store");
            }
        }
    }

    #[async_trait]
    impl ObjectStorage for Interrupted {
        async fn put(
            &self,
            key: &ObjectKey,
            body: Vec<Bytes>,
            mode: PutMode,
            class: IoClass,
        ) -> Result<ObjectVersion, StorageError> {
            self.step().await;
            self.inner.put(key, body, mode, class).await
        }

        async fn get(
            &self,
            key: &ObjectKey,
            range: Range<u64>,
            class: IoClass,
        ) -> Result<Bytes, StorageError> {
            self.step().await;
            self.inner.get(key, range, class).await
        }

        async fn get_suffix(
            &self,
            key: &ObjectKey,
            bytes: u64,
            class: IoClass,
        ) -> Result<(Bytes, u64), StorageError> {
            self.inner.get_suffix(key, bytes, class).await
        }

        fn list(
            &self,
            prefix: &ObjectKey,
            after: Option<&ObjectKey>,
        ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
            let (prefix, after) = (prefix.clone(), after.cloned());
            let listed = async move {
                self.step().await;
                self.inner.list(&prefix, after.as_ref())
            };
            futures::StreamExt::boxed(futures::FutureExt::flatten_stream(listed))
        }

        async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
            self.step().await;
            self.inner.delete(keys).await
        }
    }

    #[tokio::test]
    async fn two_nodes_that_start_at_once_trust_one_store() {
        // each request of the probe is interrupted once; a number after the last request interrupts nothing
        let mut interrupted = 0;
        for after in 0..100 {
            let inner = MemoryStorage::default();
            let left_by_other = layout::probe(NodeId(2), 7);
            let left = layout::probe(NODE, 7);
            for key in [&left_by_other, &left] {
                let put = inner.put(key, vec![Bytes::new()], PutMode::IfAbsent, CLASS);
                put.await.expect("is put");
            }
            let after = AtomicUsize::new(after);
            let store = Interrupted { inner, after };
            let probed = run(&store, NODE, &SeededRng::from_seed(1)).await;
            assert!(probed.is_ok(), "{probed:?}");
            let still = |key| store.inner.get(key, 0..0, CLASS);
            assert!(still(&left).await.is_err(), "a killed start's probe stays");
            let was_interrupted = still(&left_by_other).await.is_err();
            interrupted += usize::from(was_interrupted);
        }
        assert_eq!(interrupted, ROUNDS * (WRITERS + 1 + 2 + 1) + 2);
    }
}
