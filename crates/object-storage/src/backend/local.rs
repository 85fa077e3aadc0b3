//! A local directory as object store (rule L1). One node only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use highwater_io::{Device, DirLock, OpenMode, is_full};
use highwater_runtime::crash_point;

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// Objects as files, created and deleted, never replaced.
///
/// A put writes and syncs a temporary file, links it to its name (a rename would overwrite), and syncs every directory
/// that gained an entry, whoever made it: another put may have and not have synced it yet.
#[derive(Debug)]
pub struct LocalStorage {
    device: Arc<dyn Device>,
    root: PathBuf,
    temporary: PathBuf,
    next: AtomicU64,
    /// Directories whose own entries, up to the root, this process has synced. At most as many as there are.
    durable: Mutex<BTreeSet<PathBuf>>,
    _lock: DirLock,
}

/// How far a put came.
enum Put {
    Created,
    Exists,
    /// Nothing has the name.
    Failed(io::Error),
    /// The name may be there, or be gone after a crash.
    Unknown(io::Error),
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
        Ok(Self {
            device,
            root: root.to_owned(),
            temporary,
            next: AtomicU64::new(0),
            durable: Mutex::default(),
            _lock: lock,
        })
    }

    /// The store of what lies below a directory in this one, with its lock and its temporary files.
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

    /// The key of a file; `None` for one that is not ours.
    fn key(&self, path: &Path) -> Option<ObjectKey> {
        ObjectKey::parse(path.strip_prefix(&self.root).ok()?.to_str()?)
    }

    /// Makes a directory and sees to it that it is there after a crash: none is made before those above it are durable, and
    /// one that another put or process just made is synced too.
    async fn durable_dir(&self, path: &Path) -> io::Result<()> {
        if self
            .durable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(path)
        {
            return Ok(());
        }
        self.device.create_dir_all(path).await?;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.insert(path.to_owned());
        Ok(())
    }

    async fn write_temporary(&self, path: &Path, body: &[Bytes]) -> io::Result<()> {
        let file = self.device.open_direct(path, OpenMode::CreateNew).await?;
        file.write_at(0, body).await?;
        file.sync_data().await
    }

    async fn create(&self, temporary: &Path, path: &Path, body: &[Bytes]) -> Put {
        let parent = path.parent().unwrap_or(&self.root);
        let ready = async {
            self.write_temporary(temporary, body).await?;
            self.durable_dir(parent).await
        };
        if let Err(error) = ready.await {
            return Put::Failed(error);
        }
        crash_point("object-before-link");
        let outcome = match self.device.link(temporary, path).await {
            Ok(()) => Put::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Put::Exists,
            Err(error) => return Put::Failed(error),
        };
        crash_point("object-after-link");
        // an entry that was there counts only once it is durable too
        match self.device.sync_dir(parent).await {
            Ok(()) => outcome,
            Err(error) => Put::Unknown(error),
        }
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.temporary.join(number.to_string());
        let put = self.create(&temporary, &self.path(key), &body).await;
        if let Err(error) = self.device.remove_file(&temporary).await {
            // the next start clears it
            tracing::debug!(object_key = %key, %error, "cannot remove a temporary file");
        }
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
            match self.device.remove_file(&path).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(key, error)),
            }
            if let Some(parent) = path.parent() {
                parents.insert(parent.to_owned(), key);
            }
        }
        // a removal is durable before it is recorded, also one that an earlier call did not come to sync
        for (parent, key) in parents {
            match self.device.sync_dir(&parent).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(key, error)),
            }
        }
        Ok(())
    }
}
