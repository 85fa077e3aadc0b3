//! The conformance suite of object stores, which runs for each backend.

use bytes::Bytes;
use futures::TryStreamExt;

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
    assert!(matches!(gone, Err(StorageError::Precondition { .. })));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use highwater_io::RealDevice;

    use crate::{LocalStorage, MemoryStorage};

    #[tokio::test]
    async fn memory_conforms() {
        super::run(&MemoryStorage::default()).await;
        super::replaces(&MemoryStorage::default()).await;
    }

    #[tokio::test]
    async fn a_local_directory_conforms_and_is_taken_once() {
        let dir = std::env::temp_dir().join(format!("highwater-objects-{}", std::process::id()));
        let store = LocalStorage::open(Arc::new(RealDevice), &dir)
            .await
            .expect("opens");
        super::run(&store).await;
        let second = LocalStorage::open(Arc::new(RealDevice), &dir)
            .await
            .expect_err("is taken");
        assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
        std::fs::remove_dir_all(&dir).expect("removes");
    }
}
