//! A cluster's claim on a store: one object beside the clusters' prefixes, created only if absent, with the cluster's
//! id and an id of the store, each in a line. The claim of an earlier release has the first line only.
//!
//! Two clusters that start on one empty store at the same moment race for the claim, and one of them wins before either
//! accepts a record. Making a claim costs one PUT and at most one GET; finding it costs one GET.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use highwater_io::{Device, OpenMode};
use highwater_types::{ClusterId, StoreId, Uuid};

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
    /// The claim was made before: a store without it is another store, or was emptied, and so is one with another id. The
    /// id is zero if it is not known.
    Expect(StoreId),
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
    /// The claim is not one that a cluster makes.
    #[error(
        "its claim, the object {key}, is damaged: it must have the id of the cluster in its first line and the id of the \
         store in its second, and has {0:?}",
        key = layout::claim()
    )]
    Damaged(String),
    /// This cluster has claimed another store before this one.
    #[error("the object store has another id")]
    OtherStore,
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

/// Makes the claim of `cluster` on a store, with a `new` id for the store, or finds it there; returns the store's id. The
/// store's root has to be the one below which the clusters' prefixes lie. The procedure begins again if a request fails.
///
/// # Errors
/// [`ClaimError`].
pub(crate) async fn hold(
    root: &dyn ObjectStorage,
    cluster: ClusterId,
    claim: Claim,
    new: StoreId,
) -> Result<StoreId, ClaimError> {
    for attempt in 1..ATTEMPTS_MAX {
        match once(root, cluster, claim, new).await {
            Err(ClaimError::Storage(error)) => {
                tracing::debug!(attempt, %error, "the cluster's claim is tried again");
                tokio::time::sleep(REST).await;
            }
            other => return other,
        }
    }
    once(root, cluster, claim, new).await
}

async fn once(
    root: &dyn ObjectStorage,
    cluster: ClusterId,
    claim: Claim,
    new: StoreId,
) -> Result<StoreId, ClaimError> {
    let key = layout::claim();
    if claim == Claim::Make {
        let body = vec![Bytes::from(format!("{cluster}\n{new}\n"))];
        match root.put(&key, body, PutMode::IfAbsent, CLASS).await {
            // the read below tells whose claim is there, also after an unknown outcome
            Ok(_) | Err(StorageError::Precondition { .. } | StorageError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let found = match root.get(&key, 0..BYTES_MAX, CLASS).await {
        Ok(found) => String::from_utf8_lossy(&found).into_owned(),
        Err(StorageError::NotFound { .. }) if claim != Claim::Make => {
            return Err(ClaimError::Missing);
        }
        Err(error) => return Err(error.into()),
    };
    let damaged = || ClaimError::Damaged(found.clone());
    let mut lines = found.lines().map(|line| line.parse::<Uuid>());
    let whose: ClusterId = lines.next().and_then(Result::ok).ok_or_else(damaged)?;
    if whose != cluster {
        return Err(ClaimError::Other(whose.to_string()));
    }
    // a claim of an earlier release has one line
    let store: Option<StoreId> = lines.next().transpose().map_err(|_not_an_id| damaged())?;
    let store = store.unwrap_or(StoreId::ZERO);
    match claim {
        Claim::Expect(known) if !known.is_zero() && store.is_zero() => Err(damaged()),
        Claim::Expect(known) if !known.is_zero() && known != store => Err(ClaimError::OtherStore),
        _ => Ok(store),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStorage;

    const FIRST: ClusterId = Uuid([1; 16]);
    const SECOND: ClusterId = Uuid([2; 16]);
    const NEW: StoreId = Uuid([3; 16]);
    const LATER: StoreId = Uuid([4; 16]);

    #[tokio::test]
    async fn of_two_clusters_that_start_on_one_empty_store_one_has_it() {
        let store = MemoryStorage::default();
        let (first, second) = futures::join!(
            hold(&store, FIRST, Claim::Make, NEW),
            hold(&store, SECOND, Claim::Make, NEW)
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let (winner, loser) = match first {
            Ok(_) => (FIRST, SECOND),
            Err(_) => (SECOND, FIRST),
        };
        for claim in [
            Claim::Make,
            Claim::Expect(StoreId::ZERO),
            Claim::Expect(NEW),
        ] {
            let found = hold(&store, winner, claim, LATER).await;
            assert_eq!(found.expect("it has the store"), NEW);
            let refused = hold(&store, loser, claim, LATER).await;
            assert!(
                matches!(&refused, Err(ClaimError::Other(named)) if *named == winner.to_string()),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_store_without_the_claim_that_was_made_is_another_one() {
        let store = MemoryStorage::default();
        let refused = hold(&store, FIRST, Claim::Expect(NEW), LATER).await;
        assert!(matches!(refused, Err(ClaimError::Missing)), "{refused:?}");
        let listed = futures::StreamExt::collect::<Vec<_>>(store.list(&layout::claim(), None));
        assert!(listed.await.is_empty(), "nothing is written there");
        hold(&store, FIRST, Claim::Make, LATER)
            .await
            .expect("is claimed");
        let refused = hold(&store, FIRST, Claim::Expect(NEW), LATER).await;
        assert!(
            matches!(refused, Err(ClaimError::OtherStore)),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_claim_of_an_earlier_release_names_no_store() {
        let store = MemoryStorage::default();
        let body = vec![Bytes::from(format!("{FIRST}\n"))];
        let key = layout::claim();
        let put = store.put(&key, body, PutMode::IfAbsent, CLASS);
        put.await.expect("puts");
        for claim in [Claim::Make, Claim::Expect(StoreId::ZERO)] {
            let found = hold(&store, FIRST, claim, NEW).await;
            assert_eq!(found.expect("it has the store"), StoreId::ZERO);
        }
        let refused = hold(&store, FIRST, Claim::Expect(NEW), LATER).await;
        assert!(
            matches!(refused, Err(ClaimError::Damaged(_))),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_damaged_claim_is_not_taken_for_another_one() {
        for damaged in [
            "",
            "\n",
            "AQEB",
            &format!("{FIRST}\n{}", &NEW.to_string()[1..]),
        ] {
            let store = MemoryStorage::default();
            let (key, body) = (layout::claim(), vec![Bytes::from(damaged.to_owned())]);
            let put = store.put(&key, body, PutMode::IfAbsent, CLASS);
            put.await.expect("puts");
            let refused = hold(&store, FIRST, Claim::Expect(NEW), LATER).await;
            assert!(
                matches!(refused, Err(ClaimError::Damaged(_))),
                "{refused:?}"
            );
        }
    }
}
