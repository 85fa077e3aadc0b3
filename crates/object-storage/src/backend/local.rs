//! A local directory as object store (rule L1). One node only.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use highwater_io::{Device, DirLock, OpenMode};

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// Objects as files. A put writes and syncs a temporary file, links it to its name, never renames (a rename overwrites),
/// and syncs every directory that gained an entry.
#[derive(Debug)]
pub struct LocalStorage {
    device: Arc<dyn Device>,
    root: PathBuf,
    temporary: PathBuf,
    next: AtomicU64,
    _lock: DirLock,
}

impl LocalStorage {
    /// Takes a directory, making it if it is not there, and clears what half-done puts left.
    ///
    /// # Errors
    /// The machine's; `WouldBlock` when another process has the directory.
    pub async fn open(device: Arc<dyn Device>, root: &Path) -> io::Result<Self> {
        let temporary = root.join(".tmp");
        device.create_dir_all(&temporary).await?;
        let lock = device.lock_dir(root).await?;
        for entry in device.list_dir(&temporary).await? {
            device.remove_file(&entry.path).await?;
        }
        Ok(Self { device, root: root.to_owned(), temporary, next: AtomicU64::new(0), _lock: lock })
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    async fn write_temporary(&self, path: &Path, body: &[Bytes]) -> io::Result<()> {
        let file = self.device.open(path, OpenMode::CreateNew).await?;
        file.write_at(0, body).await?;
        file.sync_data().await
    }

    async fn link(&self, from: &Path, to: &Path) -> io::Result<bool> {
        let parent = to.parent().unwrap_or(&self.root);
        self.device.create_dir_all(parent).await?;
        let linked = match self.device.link(from, to).await {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        // an entry that was there counts only once it is durable too
        self.device.sync_dir(parent).await?;
        Ok(linked)
    }
}

fn failed(key: &ObjectKey, error: io::Error) -> StorageError {
    let key = key.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => StorageError::NotFound { key },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { key },
        _ => StorageError::Failed { key, source: Box::new(error) },
    }
}

fn unsupported(key: &ObjectKey) -> StorageError {
    failed(key, io::Error::new(io::ErrorKind::Unsupported, "objects are not replaced here"))
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.temporary.join(number.to_string());
        let written = self.write_temporary(&temporary, &body).await;
        let linked = match written {
            Ok(()) => self.link(&temporary, &self.path(key)).await,
            Err(error) => Err(error),
        };
        let removed = self.device.remove_file(&temporary).await;
        match linked {
            Ok(true) => {
                removed.map_err(|error| failed(key, error))?;
                Ok(ObjectVersion("1".to_owned()))
            }
            Ok(false) => Err(StorageError::Precondition { key: key.to_string() }),
            Err(error) => Err(failed(key, error)),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        _class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let error = |error| failed(key, error);
        let file = self.device.open(&self.path(key), OpenMode::Existing).await.map_err(error)?;
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
        let error = |error| failed(key, error);
        let file = self.device.open(&self.path(key), OpenMode::Existing).await.map_err(error)?;
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
                    } else if let Ok(Some(key)) =
                        entry.path.strip_prefix(&self.root).map(|path| path.to_str())
                    {
                        found.push(ObjectEntry { key: ObjectKey::new(key), bytes: entry.bytes });
                    }
                }
            }
            found.sort_by(|a, b| a.key.cmp(&b.key));
            found.retain(|entry| after.as_ref().is_none_or(|after| entry.key > *after));
            Ok(found)
        })
        .flat_map(|found: Result<Vec<ObjectEntry>, StorageError>| match found {
            Ok(entries) => stream::iter(entries).map(Ok).left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        })
        .boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        for key in keys {
            let path = self.path(key);
            match self.device.remove_file(&path).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(key, error)),
            }
            // a removal is durable before it is recorded
            let parent = path.parent().unwrap_or(&self.root);
            self.device.sync_dir(parent).await.map_err(|error| failed(key, error))?;
        }
        Ok(())
    }
}
