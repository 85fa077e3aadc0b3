//! The conformance suite of object stores, which runs for each backend.

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;

use crate::{IoClass, ObjectKey, ObjectStorage, PutMode, StorageError};

/// Runs the whole suite against an empty store.
///
/// # Panics
/// When the store fails a check.
pub async fn run(store: &dyn ObjectStorage) {
    let key = ObjectKey::new("data/00/1/2/u/3");
    let put = |body: &'static [u8]| {
        let body = vec![
            Bytes::from_static(&body[..1]),
            Bytes::from_static(&body[1..]),
        ];
        store.put(&key, body, PutMode::IfAbsent, IoClass::Upload)
    };
    let (first, second) = tokio::join!(put(b"hello"), put(b"HELLO"));
    assert!(
        first.is_ok() != second.is_ok(),
        "one of two racing creations wins"
    );
    let lost = if first.is_ok() { second } else { first };
    assert!(
        matches!(lost, Err(StorageError::Precondition { .. })),
        "the other is told so"
    );
    let whole = store
        .get(&key, 0..100, IoClass::ColdRead)
        .await
        .expect("is there");
    assert_eq!(whole.to_ascii_lowercase(), b"hello");
    let part = store
        .get(&key, 1..3, IoClass::ColdRead)
        .await
        .expect("is there");
    assert_eq!(part, whole.slice(1..3));
    let suffix = store
        .get_suffix(&key, 2, IoClass::ColdRead)
        .await
        .expect("is there");
    assert_eq!(suffix, (whole.slice(3..), 5));
    let past = store.get(&key, 7..9, IoClass::ColdRead).await;
    assert_eq!(past.expect("is clipped"), "");
    let all = store
        .get_suffix(&key, 100, IoClass::ColdRead)
        .await
        .expect("is there");
    assert_eq!(all, (whole, 5));

    let absent = ObjectKey::new("data/00/1/2/u/4");
    let absent = store.get_suffix(&absent, 1, IoClass::ColdRead).await;
    assert!(matches!(absent, Err(StorageError::NotFound { .. })));

    lists_and_deletes(store, &key).await;
}

/// `key` has 5 bytes.
async fn lists_and_deletes(store: &dyn ObjectStorage, key: &ObjectKey) {
    let other = ObjectKey::new("data/01/x");
    let body = vec![Bytes::from_static(b"x")];
    store
        .put(&other, body, PutMode::IfAbsent, IoClass::Upload)
        .await
        .expect("puts");
    let list = |after| async move {
        let entries: Vec<_> = store
            .list(&ObjectKey::new("data"), after)
            .try_collect()
            .await
            .expect("lists");
        entries
            .into_iter()
            .map(|entry| (entry.key, entry.bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(None).await, [(key.clone(), 5), (other.clone(), 1)]);
    assert_eq!(list(Some(key)).await, [(other.clone(), 1)]);
    store
        .delete(&[key.clone(), key.clone()])
        .await
        .expect("deletes, and once more");
    let gone = store.get(key, 0..1, IoClass::ColdRead).await;
    assert!(matches!(gone, Err(StorageError::NotFound { .. })));
    assert_eq!(list(None).await, [(other, 1)]);
}

/// Runs the checks of stores that can replace objects.
///
/// # Panics
/// When the store fails a check.
pub async fn replaces(store: &dyn ObjectStorage) {
    let key = ObjectKey::new("data/02/x");
    let put = |body: &'static str, mode| {
        let body = vec![Bytes::from_static(body.as_bytes())];
        store.put(&key, body, mode, IoClass::Upload)
    };
    let first = put("1", PutMode::Overwrite).await.expect("puts");
    let stale = first.clone();
    let second = put("2", PutMode::IfVersion(first)).await.expect("puts");
    let lost = put("3", PutMode::IfVersion(stale)).await;
    assert!(matches!(lost, Err(StorageError::Precondition { .. })));
    let read = store.get(&key, 0..9, IoClass::ColdRead).await;
    assert_eq!(read.expect("is there"), "2");
    put("4", PutMode::Overwrite).await.expect("puts");
    store
        .delete(std::slice::from_ref(&key))
        .await
        .expect("deletes");
    let gone = put("5", PutMode::IfVersion(second)).await;
    assert!(
        matches!(gone, Err(StorageError::Precondition { .. })),
        "{gone:?}"
    );
}

/// Runs the checks of a store that several handles have open, each as a process of its own would.
///
/// # Panics
/// When the stores fail a check.
pub async fn is_shared(stores: &[&dyn ObjectStorage]) {
    let body = |writer: usize| vec![Bytes::from(writer.to_string())];
    for turn in 0..20 {
        // the directories of these keys come and go
        let keys = [ObjectKey::new(format!("data/03/{}/x", turn % 2))];
        let puts = stores.iter().enumerate().map(|(writer, store)| {
            store.put(&keys[0], body(writer), PutMode::IfAbsent, IoClass::Upload)
        });
        let puts = join_all(puts).await;
        let won: Vec<usize> = (0..puts.len()).filter(|at| puts[*at].is_ok()).collect();
        let is_refused =
            |put: &&Result<_, _>| matches!(put, Err(StorageError::Precondition { .. }));
        let lost = puts.iter().filter(is_refused).count();
        assert_eq!((won.len(), lost), (1, stores.len() - 1), "{puts:?}");
        let prefix = ObjectKey::new("data/03");
        for store in stores {
            let read = store.get(&keys[0], 0..99, IoClass::ColdRead).await;
            assert_eq!(read.expect("is there"), body(won[0])[0]);
            let listed = store.list(&prefix, None).try_collect::<Vec<_>>().await;
            assert_eq!(listed.expect("lists").len(), 1);
        }
        let deleted = join_all(stores.iter().map(|store| store.delete(&keys))).await;
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        for store in stores {
            let gone = store.get(&keys[0], 0..1, IoClass::ColdRead).await;
            assert!(matches!(gone, Err(StorageError::NotFound { .. })));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use highwater_io::RealDevice;
    use highwater_runtime::SeededRng;

    use crate::{LocalStorage, MemoryStorage};

    #[tokio::test]
    async fn memory_conforms() {
        super::run(&MemoryStorage::default()).await;
        super::replaces(&MemoryStorage::default()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_local_directory_conforms_and_serves_several_processes() {
        let dir = tempfile::tempdir().expect("a directory");
        let rng = SeededRng::from_seed(1);
        let open = async || {
            let opened = LocalStorage::open(Arc::new(RealDevice), dir.path(), &rng).await;
            opened.expect("opens")
        };
        let (one, other, third) = (open().await, open().await, open().await);
        super::run(&one).await;
        super::is_shared(&[&one, &other, &third]).await;
    }
}
