//! A cluster's claim on a store: one object beside the clusters' prefixes, created only if absent, with the cluster's
//! id.
//!
//! Two clusters that start on one empty store at the same moment race for the claim, and one of them wins before either
//! accepts a record. Making a claim costs one PUT and at most one GET; finding it costs one GET.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use highwater_io::{Device, OpenMode};
use highwater_types::ClusterId;

use crate::{IoClass, ObjectStorage, PutMode, StorageError, layout};

const ATTEMPTS_MAX: u32 = 3;
const REST: Duration = Duration::from_millis(200);
const BYTES_MAX: u64 = 256;
const CLASS: IoClass = IoClass::Start;

/// Whether a start has to make the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The claim was never made: this start makes it, unless another cluster's claim is there.
    Make,
    /// The claim was made before: a store without it is another store, or was emptied.
    Expect,
}

/// The reason why a store does not belong to this cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Another cluster has claimed the store.
    #[error("the object store belongs to the cluster {0}")]
    Other(String),
    /// The claim that this cluster made is missing.
    #[error("the object store has no claim")]
    Missing,
    /// The store failed to answer as it should.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Whether a local directory has a claim, whichever cluster's it is. Changes nothing.
///
/// # Errors
/// The operating system's error.
pub(crate) async fn is_there(device: &dyn Device, root: &Path) -> io::Result<bool> {
    let file = root.join(layout::claim().as_str());
    match device.open(&file, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        file => file.map(|_| true),
    }
}

/// Makes the claim of `cluster` on a store, or finds it there. The store's root has to be the one below which the
/// clusters' prefixes lie. The procedure begins again if a request fails.
///
/// # Errors
/// [`ClaimError`].
pub(crate) async fn hold(
    root: &dyn ObjectStorage,
    cluster: ClusterId,
    claim: Claim,
) -> Result<(), ClaimError> {
    for attempt in 1..ATTEMPTS_MAX {
        match once(root, cluster, claim).await {
            Err(ClaimError::Storage(error)) => {
                tracing::debug!(attempt, %error, "the cluster's claim is tried again");
                tokio::time::sleep(REST).await;
            }
            other => return other,
        }
    }
    once(root, cluster, claim).await
}

async fn once(
    root: &dyn ObjectStorage,
    cluster: ClusterId,
    claim: Claim,
) -> Result<(), ClaimError> {
    let (key, ours) = (layout::claim(), format!("{cluster}\n"));
    if claim == Claim::Make {
        let body = vec![Bytes::from(ours.clone())];
        match root.put(&key, body, PutMode::IfAbsent, CLASS).await {
            // the read below tells whose claim is there, also after an unknown outcome
            Ok(_) | Err(StorageError::Precondition { .. } | StorageError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match root.get(&key, 0..BYTES_MAX, CLASS).await {
        Ok(found) if found == ours.as_bytes() => Ok(()),
        Ok(found) => {
            let other = String::from_utf8_lossy(&found).trim().to_owned();
            Err(ClaimError::Other(other))
        }
        Err(StorageError::NotFound { .. }) if claim == Claim::Expect => Err(ClaimError::Missing),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::Uuid;

    use super::*;
    use crate::MemoryStorage;

    const FIRST: ClusterId = Uuid([1; 16]);
    const SECOND: ClusterId = Uuid([2; 16]);

    #[tokio::test]
    async fn of_two_clusters_that_start_on_one_empty_store_one_has_it() {
        let store = MemoryStorage::default();
        let (first, second) = futures::join!(
            hold(&store, FIRST, Claim::Make),
            hold(&store, SECOND, Claim::Make)
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let (winner, loser) = match first {
            Ok(()) => (FIRST, SECOND),
            Err(_) => (SECOND, FIRST),
        };
        for claim in [Claim::Make, Claim::Expect] {
            assert!(hold(&store, winner, claim).await.is_ok());
            let refused = hold(&store, loser, claim).await;
            assert!(
                matches!(&refused, Err(ClaimError::Other(named)) if *named == winner.to_string()),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_store_without_the_claim_that_was_made_is_another_one() {
        let store = MemoryStorage::default();
        let refused = hold(&store, FIRST, Claim::Expect).await;
        assert!(matches!(refused, Err(ClaimError::Missing)), "{refused:?}");
        let listed = futures::StreamExt::collect::<Vec<_>>(store.list(&layout::claim(), None));
        assert!(listed.await.is_empty(), "nothing is written there");
    }
}
