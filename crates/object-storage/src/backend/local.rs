//! A local directory as an object store, for the nodes of one machine (rule L1).

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use highwater_io::{Device, DirEntry, DirId, DirLock, OpenMode, is_full};
use highwater_runtime::{SeededRng, crash_point};
use highwater_types::Uuid;

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// The directory, within the store, of the processes' own directories for temporary files.
const TEMPORARY: &str = ".tmp";
/// How long a process waits for another one that opens the store at the same time: so many times so long.
const OPENING_TURNS_MAX: u32 = 100;
const OPENING_TURN: Duration = Duration::from_millis(100);
/// How often a step is repeated that other processes undid before it was complete.
const TURNS_MAX: u32 = 1000;
/// The directories that a process remembers as durable, each of which is an open descriptor.
const DURABLE_MAX: usize = 128;

/// Objects as files, which are created and deleted but never replaced. Several processes of one machine may use one
/// directory.
///
/// A put writes and syncs a temporary file and links it to its name, because a rename would overwrite. Then it syncs
/// the directory and those above it, up to the store's. An entry keeps all of these from being removed, so that they
/// are the ones that the object is in. A directory that is empty may be removed by any process at any time, and made
/// again by another one that has not synced it yet. So a directory counts as durable only while its name leads to the
/// same directory as before.
#[derive(Debug)]
pub struct LocalStorage {
    device: Arc<dyn Device>,
    /// The directory of the keys.
    root: PathBuf,
    /// The store's directory, which contains `root`.
    top: PathBuf,
    temporary: PathBuf,
    next: AtomicU64,
    /// Directories whose entries are durable, up to the store's directory.
    durable: Mutex<BTreeMap<PathBuf, DirId>>,
    /// The temporary files of puts that were dropped, and those that could not be removed. The next put removes them.
    left: Mutex<Vec<PathBuf>>,
    /// Tells other processes that the temporary files are those of a living process.
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
    /// Opens a directory, creating it if it does not exist, and removes the temporary files of processes that have
    /// ended.
    ///
    /// # Errors
    /// The operating system's error; `WouldBlock` when another process has been opening the directory for seconds.
    pub async fn open(device: Arc<dyn Device>, root: &Path, rng: &SeededRng) -> io::Result<Self> {
        let all = root.join(TEMPORARY);
        device.create_dir_all(&all).await?;
        // A process that opens the directory has no lock yet on the directory for its temporary files.
        let opening = lock_soon(&*device, root).await?;
        for entry in device.list_dir(&all).await? {
            clear_if_dead(&*device, &entry).await?;
        }
        let temporary = own_dir(&*device, &all, rng).await?;
        let lock = device.lock_dir(&temporary).await?;
        drop(opening);
        Ok(Self {
            device,
            root: root.to_owned(),
            top: root.to_owned(),
            temporary,
            next: AtomicU64::new(0),
            durable: Mutex::default(),
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

    fn durable(&self) -> MutexGuard<'_, BTreeMap<PathBuf, DirId>> {
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

    /// Removes a directory and those above it that are empty, and makes that and earlier removals durable. If the
    /// directory does not exist, an earlier call or another process has removed it, perhaps without reaching the sync.
    async fn sync_removals(&self, parent: &Path) -> io::Result<()> {
        let mut dir = parent;
        for _ in 0..TURNS_MAX {
            while dir != self.root && self.is_gone(dir).await? {
                dir = dir.parent().unwrap_or(&self.root);
            }
            match self.device.sync_dir(dir).await {
                // another process has removed it meanwhile
                Err(error) if is_missing(&error) && dir != self.root => {}
                synced => return unless_gone(synced),
            }
        }
        Err(busy(parent))
    }

    /// Removes a directory if it is empty; returns whether it is gone.
    async fn is_gone(&self, dir: &Path) -> io::Result<bool> {
        match self.device.remove_dir(dir).await {
            Err(error) if is_missing(&error) => Ok(true),
            removed => removed,
        }
        .inspect(|is_gone| {
            if *is_gone {
                self.durable().remove(dir);
            }
        })
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
        crash_point("object-before-link");
        let outcome = match self.link(temporary, path, parent).await {
            Ok(()) => Put::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Put::Exists,
            Err(error) => return Put::Failed(error),
        };
        crash_point("object-after-link");
        // an existing entry counts only once it is durable
        match self.sync_entries(parent).await {
            Ok(()) => outcome,
            Err(error) => Put::Unknown(error),
        }
    }

    /// Links a temporary file to its name, and makes the directories that are missing.
    async fn link(&self, temporary: &Path, path: &Path, parent: &Path) -> io::Result<()> {
        for _ in 0..TURNS_MAX {
            match self.device.link(temporary, path).await {
                Err(error) if is_missing(&error) => self.make_dirs(parent).await?,
                linked => return linked,
            }
        }
        Err(busy(parent))
    }

    /// Makes a directory and those above it, none of them durable yet. Another process may remove them at once.
    async fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let above: Vec<&Path> = path.ancestors().collect();
        for dir in above.iter().rev().filter(|dir| dir.starts_with(&self.top)) {
            match self.device.create_dir(dir).await {
                // it was there and is gone, or the one above it is; no object exists because of that
                Err(error)
                    if [io::ErrorKind::AlreadyExists, io::ErrorKind::NotFound]
                        .contains(&error.kind()) => {}
                made => drop(made?),
            }
        }
        Ok(())
    }

    /// Makes an entry of a directory durable, with the directory's own name and those above it. A directory that is
    /// missing was removed after the entry.
    async fn sync_entries(&self, parent: &Path) -> io::Result<()> {
        let id = match self.device.dir_id(parent).await {
            Err(error) if is_missing(&error) => return Ok(()),
            id => id?,
        };
        unless_gone(self.device.sync_dir(parent).await)?;
        if self.durable().get(parent) == Some(&id) {
            return Ok(());
        }
        let above = parent.ancestors().skip(1);
        for dir in above.take_while(|dir| dir.starts_with(&self.top)) {
            unless_gone(self.device.sync_dir(dir).await)?;
        }
        let mut durable = self.durable();
        if durable.len() >= DURABLE_MAX {
            durable.clear();
        }
        durable.insert(parent.to_owned(), id);
        Ok(())
    }
}

/// Locks a directory, and waits for a while for another process to release it.
async fn lock_soon(device: &dyn Device, dir: &Path) -> io::Result<DirLock> {
    for _ in 1..OPENING_TURNS_MAX {
        match device.lock_dir(dir).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(OPENING_TURN).await;
            }
            locked => return locked,
        }
    }
    device.lock_dir(dir).await
}

/// Removes the directory of a process's temporary files, unless that process lives.
async fn clear_if_dead(device: &dyn Device, entry: &DirEntry) -> io::Result<()> {
    if !entry.is_dir {
        return device.remove_file(&entry.path).await;
    }
    let _lock = match device.lock_dir(&entry.path).await {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        locked => locked?,
    };
    for left in device.list_dir(&entry.path).await? {
        device.remove_file(&left.path).await?;
    }
    device.remove_dir(&entry.path).await.map(drop)
}

/// Makes a directory for the temporary files of this process. No process ever makes one of the same name: where another
/// file system takes the place of this one, or none does, every put of this process fails.
async fn own_dir(device: &dyn Device, all: &Path, rng: &SeededRng) -> io::Result<PathBuf> {
    loop {
        let own = all.join(Uuid(rng.next_id()).to_string());
        if device.create_dir(&own).await? {
            return Ok(own);
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn busy(dir: &Path) -> io::Error {
    let dir = dir.display();
    io::Error::other(format!("the directory is removed again and again: {dir}"))
}

/// Treats a missing file or directory as removed and synced.
fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if is_missing(&error) => Ok(()),
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
        let opened = LocalStorage::open(
            Arc::new(RealDevice),
            &dir.path().join("objects"),
            &SeededRng::from_seed(1),
        )
        .await;
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
        let (store, other) = (open(&dir).await, open(&dir).await);
        let turns = (0..8).map(|task| {
            let store = if task % 2 == 0 { &store } else { &other };
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
        let left = std::fs::read_dir(&store.temporary).expect("is there");
        let left: Vec<_> = left
            .map(|entry| entry.expect("lists").file_name())
            .collect();
        assert_eq!(left, [".lock"]);
        // the next process removes the files of a killed one, and never those of a living one
        std::fs::write(&temporary, "half").expect("writes");
        let other = open(&dir).await;
        assert!(temporary.exists());
        drop(store);
        let next = open(&dir).await;
        assert!(!temporary.exists());
        let processes = std::fs::read_dir(dir.path().join("objects/.tmp"));
        assert_eq!(processes.expect("is there").count(), 2);
        drop((other, next));
    }

    /// A directory was removed and made again by another process, which has not synced it yet.
    #[tokio::test]
    async fn a_directory_that_was_made_again_does_not_count_as_durable() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, other) = (open(&dir).await, open(&dir).await);
        let parent = store.path(&ObjectKey::new("data/a"));
        let is_durable = async || {
            let id = store.device.dir_id(&parent).await.expect("is there");
            store.durable().get(&parent) == Some(&id)
        };
        put(&store, "data/a/1", 10).await.expect("puts");
        assert!(is_durable().await);
        delete(&other, "data/a/1").await.expect("deletes");
        std::fs::create_dir_all(&parent).expect("makes it again");
        assert!(!is_durable().await);
        put(&store, "data/a/2", 10).await.expect("puts");
        assert!(is_durable().await, "it was synced again");
    }
}
