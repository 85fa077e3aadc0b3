//! A local directory as an object store, for one node (rule L1).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use highwater_io::{Device, DirLock, OpenMode, is_full};
use highwater_runtime::crash_point;
use tokio::sync::RwLock;

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// Objects as files, which are created and deleted but never replaced.
///
/// A put writes and syncs a temporary file and links it to its name, because a rename would overwrite. It then syncs
/// every directory that gained an entry, also those that another put made: that put may not have synced them yet.
#[derive(Debug)]
pub struct LocalStorage {
    device: Arc<dyn Device>,
    root: PathBuf,
    temporary: PathBuf,
    next: AtomicU64,
    /// The directories whose entries this process has synced, up to the root; at most as many as exist.
    durable: Mutex<BTreeSet<PathBuf>>,
    /// Held exclusively while directories are removed, so that none disappears, or comes back without being durable,
    /// while an object is put into it.
    removing: RwLock<()>,
    /// The temporary files of puts that were dropped, and those that could not be removed. The next put removes them.
    left: Mutex<Vec<PathBuf>>,
    _lock: DirLock,
}

/// The temporary file of a put that may be dropped at any time.
struct Temporary<'a> {
    store: &'a LocalStorage,
    path: PathBuf,
    is_removed: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_removed {
            let mut left = self.store.left();
            left.push(std::mem::take(&mut self.path));
        }
    }
}

/// The outcome of a put.
enum Put {
    Created,
    Exists,
    /// No object has the name.
    Failed(io::Error),
    /// An object may have the name, and may be gone after a crash.
    Unknown(io::Error),
}

impl LocalStorage {
    /// Opens a directory, creating it if it does not exist, and removes the files of interrupted puts.
    ///
    /// # Errors
    /// The operating system's error; `WouldBlock` when another process has the directory open.
    pub async fn open(device: Arc<dyn Device>, root: &Path) -> io::Result<Self> {
        let temporary = root.join(".tmp");
        device.create_dir_all(&temporary).await?;
        let lock = device.lock_dir(root).await?;
        for entry in device.list_dir(&temporary).await? {
            device.remove_file(&entry.path).await?;
        }
        Ok(Self {
            device,
            root: root.to_owned(),
            temporary,
            next: AtomicU64::new(0),
            durable: Mutex::default(),
            removing: RwLock::default(),
            left: Mutex::default(),
            _lock: lock,
        })
    }

    /// The store of a directory inside this one, with the same lock and temporary files.
    #[must_use]
    pub(crate) fn below(self, name: &str) -> Self {
        Self {
            root: self.root.join(name),
            ..self
        }
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// The key of a file; `None` for a file that is no object.
    fn key(&self, path: &Path) -> Option<ObjectKey> {
        ObjectKey::parse(path.strip_prefix(&self.root).ok()?.to_str()?)
    }

    /// Creates a directory that survives a crash. No directory is created before its parent is durable, and a directory
    /// that another put or process has just created is synced too.
    async fn durable_dir(&self, path: &Path) -> io::Result<()> {
        if self.durable().contains(path) {
            return Ok(());
        }
        self.device.create_dir_all(path).await?;
        self.durable().insert(path.to_owned());
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files of dropped puts; the next start removes those that remain.
    async fn clear_left(&self) {
        loop {
            let Some(path) = self.left().pop() else {
                return;
            };
            if let Err(error) = self.device.remove_file(&path).await {
                tracing::debug!(%error, "cannot remove a temporary file");
            }
        }
    }

    /// Makes removals from a directory durable, and removes it and its ancestors if they are empty. If the directory
    /// does not exist, an earlier call has removed it, perhaps without reaching the sync.
    async fn sync_removals(&self, parent: &Path) -> io::Result<()> {
        unless_gone(self.device.sync_dir(parent).await)?;
        let _alone = self.removing.write().await;
        let mut dir = parent;
        while dir != self.root && self.is_gone(dir).await? {
            dir = dir.parent().unwrap_or(&self.root);
        }
        match dir == parent {
            true => Ok(()),
            false => unless_gone(self.device.sync_dir(dir).await),
        }
    }

    /// Removes a directory if it is empty; returns whether it is gone.
    async fn is_gone(&self, dir: &Path) -> io::Result<bool> {
        self.durable().remove(dir);
        match self.device.remove_dir(dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            removed => removed,
        }
    }

    async fn write_temporary(&self, path: &Path, body: &[Bytes]) -> io::Result<()> {
        let file = self.device.open_direct(path, OpenMode::CreateNew).await?;
        file.write_at(0, body).await?;
        file.sync_data().await
    }

    async fn create(&self, temporary: &Path, path: &Path, body: &[Bytes]) -> Put {
        let parent = path.parent().unwrap_or(&self.root);
        if let Err(error) = self.write_temporary(temporary, body).await {
            return Put::Failed(error);
        }
        let _shared = self.removing.read().await;
        if let Err(error) = self.durable_dir(parent).await {
            return Put::Failed(error);
        }
        crash_point("object-before-link");
        let outcome = match self.device.link(temporary, path).await {
            Ok(()) => Put::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Put::Exists,
            Err(error) => return Put::Failed(error),
        };
        crash_point("object-after-link");
        // an existing entry counts only once it is durable
        match self.device.sync_dir(parent).await {
            Ok(()) => outcome,
            Err(error) => Put::Unknown(error),
        }
    }
}

/// Treats a missing file or directory as removed and synced.
fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(key: &ObjectKey, error: io::Error) -> StorageError {
    let key = key.to_string();
    match is_full(&error) {
        true => StorageError::Full { key },
        false => StorageError::Failed {
            key,
            source: Box::new(error),
        },
    }
}

fn unread(key: &ObjectKey, error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotFound => StorageError::NotFound {
            key: key.to_string(),
        },
        _ => failed(key, error),
    }
}

fn unsupported(key: &ObjectKey) -> StorageError {
    failed(
        key,
        io::Error::new(io::ErrorKind::Unsupported, "objects are not replaced here"),
    )
}

#[async_trait]
impl ObjectStorage for LocalStorage {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        _class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        if mode != PutMode::IfAbsent {
            return Err(unsupported(key));
        }
        self.clear_left().await;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut temporary = Temporary {
            store: self,
            path: self.temporary.join(number.to_string()),
            is_removed: false,
        };
        let put = self.create(&temporary.path, &self.path(key), &body).await;
        temporary.is_removed = self.device.remove_file(&temporary.path).await.is_ok();
        drop(temporary);
        match put {
            Put::Created => Ok(ObjectVersion("1".to_owned())),
            Put::Exists => Err(StorageError::Precondition {
                key: key.to_string(),
            }),
            Put::Failed(error) => Err(failed(key, error)),
            Put::Unknown(error) => Err(StorageError::Unknown {
                key: key.to_string(),
                source: Box::new(error),
            }),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        _class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let error = |error| unread(key, error);
        let file = self
            .device
            .open(&self.path(key), OpenMode::Existing)
            .await
            .map_err(error)?;
        let end = range.end.min(file.len().await.map_err(error)?);
        let bytes = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        file.read_at(range.start, bytes).await.map_err(error)
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        _class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let error = |error| unread(key, error);
        let file = self
            .device
            .open(&self.path(key), OpenMode::Existing)
            .await
            .map_err(error)?;
        let length = file.len().await.map_err(error)?;
        let from = length.saturating_sub(bytes);
        let count = usize::try_from(length - from).unwrap_or(usize::MAX);
        Ok((file.read_at(from, count).await.map_err(error)?, length))
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        let (prefix, after) = (prefix.clone(), after.cloned());
        stream::once(async move {
            let mut found = Vec::new();
            let mut left = vec![self.path(&prefix)];
            while let Some(dir) = left.pop() {
                let entries = match self.device.list_dir(&dir).await {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other.map_err(|error| failed(&prefix, error))?,
                };
                for entry in entries {
                    if entry.is_dir {
                        left.push(entry.path);
                    } else if let Some(key) = self.key(&entry.path) {
                        found.push(ObjectEntry {
                            key,
                            bytes: entry.bytes,
                        });
                    }
                }
            }
            found.sort_by(|a, b| a.key.cmp(&b.key));
            found.retain(|entry| after.as_ref().is_none_or(|after| entry.key > *after));
            Ok(found)
        })
        .flat_map(
            |found: Result<Vec<ObjectEntry>, StorageError>| match found {
                Ok(entries) => stream::iter(entries).map(Ok).left_stream(),
                Err(error) => stream::iter([Err(error)]).right_stream(),
            },
        )
        .boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let mut parents = BTreeMap::new();
        for key in keys {
            let path = self.path(key);
            let removed = self.device.remove_file(&path).await;
            unless_gone(removed).map_err(|error| failed(key, error))?;
            if let Some(parent) = path.parent() {
                parents.insert(parent.to_owned(), key);
            }
        }
        // a removal has to be durable before it is recorded, also if an earlier call made it without reaching the sync
        for (parent, key) in parents {
            let synced = self.sync_removals(&parent).await;
            synced.map_err(|error| failed(key, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use highwater_io::RealDevice;
    use tempfile::TempDir;

    use super::*;

    async fn open(dir: &TempDir) -> LocalStorage {
        let opened = LocalStorage::open(Arc::new(RealDevice), &dir.path().join("objects")).await;
        opened.expect("opens").below("cluster")
    }

    async fn put(store: &LocalStorage, key: &str, bytes: usize) -> Result<(), StorageError> {
        let body = vec![Bytes::from(vec![7; bytes])];
        let key = ObjectKey::new(key);
        let put = store.put(&key, body, PutMode::IfAbsent, IoClass::Upload);
        put.await.map(drop)
    }

    async fn delete(store: &LocalStorage, key: &str) -> Result<(), StorageError> {
        store.delete(&[ObjectKey::new(key)]).await
    }

    // each start creates directories of its own, and those of earlier starts must not remain
    #[tokio::test]
    async fn a_directory_goes_with_its_last_object_and_comes_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        delete(&store, "data/7c/1/7/u/1")
            .await
            .expect("nothing yet");
        for _ in 0..2 {
            for key in ["data/7c/1/7/u/1", "data/7c/1/7/u/2", "data/7c/1/9/u/1"] {
                put(&store, key, 10).await.expect("puts");
            }
            let is_there = |path: &str| store.root.join(path).exists();
            delete(&store, "data/7c/1/7/u/1").await.expect("deletes");
            assert!(is_there("data/7c/1/7/u"));
            // the second call finds nothing, as after a process that crashed between the removal and the sync
            for _ in 0..2 {
                delete(&store, "data/7c/1/7/u/2").await.expect("deletes");
                assert!(!is_there("data/7c/1/7") && is_there("data/7c/1/9/u"));
            }
            delete(&store, "data/7c/1/9/u/1").await.expect("deletes");
            assert!(!is_there("data") && is_there(""));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn objects_are_put_where_a_directory_is_removed_just_then() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let turns = (0..8).map(|task| {
            let store = &store;
            async move {
                for at in 0..50 {
                    let key = format!("data/7c/1/{}/u/{task}", at % 2);
                    put(store, &key, 10).await.expect("puts");
                    delete(store, &key).await.expect("deletes");
                }
            }
        });
        futures::future::join_all(turns).await;
        assert!(!store.root.join("data").exists());
    }

    #[tokio::test]
    async fn a_put_that_is_given_up_leaves_nothing_beyond_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let temporary = store.temporary.join("0");
        let mut given_up = Box::pin(put(&store, "data/given-up", 32 << 20));
        while !temporary.exists() {
            let polled = poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await;
            assert!(polled, "it is not done yet");
            tokio::task::yield_now().await;
        }
        drop(given_up);
        put(&store, "data/next", 10).await.expect("puts");
        let left = || {
            std::fs::read_dir(&store.temporary)
                .expect("is there")
                .count()
        };
        assert_eq!(left(), 0);
        // the next process removes the files of a killed one
        std::fs::write(&temporary, "half").expect("writes");
        let is_left = dir.path().join("objects/.tmp/0");
        assert!(is_left.exists());
        drop(store);
        open(&dir).await;
        assert!(!is_left.exists());
    }
}
