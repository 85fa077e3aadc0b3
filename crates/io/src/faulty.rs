//! A device for tests, which fails on demand and counts operations.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Device, DirEntry, DirId, DirLock, File, OpenMode};

/// The faults to inject, and the counts of operations.
#[derive(Debug, Default)]
pub struct Faults {
    /// No file can be made or grow; existing bytes can be overwritten.
    pub is_full: AtomicBool,
    /// No file can be made, with this error.
    pub creates_fail: Mutex<Option<io::ErrorKind>>,
    /// Files can be made but can't grow, because there is no room.
    pub grows_fail: AtomicBool,
    /// Syncs of directories fail.
    pub dir_syncs_fail: AtomicBool,
    /// Directories can't be opened and so can't be synced, because no descriptor is free.
    pub descriptors_are_taken: AtomicBool,
    /// The number of times that a directory couldn't be opened for that reason.
    pub refused: AtomicU64,
    /// Syncs of files fail.
    pub syncs_fail: AtomicBool,
    /// The number of syncs of files.
    pub syncs: AtomicU64,
    /// The number of syncs of files that were made to fail.
    pub failed_syncs: AtomicU64,
    /// Syncs of files wait while this is set.
    pub syncs_hang: AtomicBool,
    /// Syncs of files below this directory wait while this is set. The caller needs a runtime with a timer.
    pub syncs_hang_below: Mutex<Option<PathBuf>>,
    /// As `is_full`, but only below this directory.
    pub full_below: Mutex<Option<PathBuf>>,
    /// Reads of files below this directory wait while this is set. The reader needs a runtime with a timer.
    pub reads_hang_below: Mutex<Option<PathBuf>>,
    /// The number of reads of files that were made to wait.
    pub hung_reads: AtomicU64,
    /// The number of reads of files.
    pub reads: AtomicU64,
    /// The number of times that a file to be opened didn't exist.
    pub missing: AtomicU64,
    /// The largest read or write of a file, in bytes.
    pub largest: AtomicU64,
}

impl Faults {
    /// Fills the disk below a directory; `None` makes room again.
    pub fn fill_below(&self, dir: Option<PathBuf>) {
        *self
            .full_below
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = dir;
    }

    /// Lets no file be made, with this error; `None` allows it again.
    pub fn fail_creates(&self, reason: Option<io::ErrorKind>) {
        *self
            .creates_fail
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Lets reads below a directory hang; `None` lets them continue.
    pub fn hang_reads_below(&self, dir: Option<PathBuf>) {
        let mut hang = self
            .reads_hang_below
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *hang = dir;
    }

    /// Lets syncs below a directory hang; `None` lets them continue.
    pub fn hang_syncs_below(&self, dir: Option<PathBuf>) {
        let mut hang = self
            .syncs_hang_below
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *hang = dir;
    }

    fn is_full_at(&self, path: &Path) -> bool {
        self.is_full.load(Ordering::SeqCst) || is_below(&self.full_below, path)
    }
}

fn is_below(dir: &Mutex<Option<PathBuf>>, path: &Path) -> bool {
    let dir = dir.lock().unwrap_or_else(PoisonError::into_inner);
    dir.as_ref().is_some_and(|dir| path.starts_with(dir))
}

/// A device with faults around another device.
#[derive(Debug)]
pub struct FaultyDevice {
    inner: Arc<dyn Device>,
    faults: Arc<Faults>,
}

impl FaultyDevice {
    /// A device that behaves as `inner` while no fault is set.
    #[must_use]
    pub fn new(inner: Arc<dyn Device>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    fn check_room(&self, path: &Path, mode: OpenMode) -> io::Result<()> {
        if mode != OpenMode::CreateNew {
            return Ok(());
        }
        let reason = *self
            .faults
            .creates_fail
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => Err(reason.into()),
            None if self.faults.is_full_at(path) => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn faulty(&self, path: &Path, inner: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if inner.as_ref().is_err_and(is_missing) {
            self.faults.missing.fetch_add(1, Ordering::SeqCst);
        }
        let faults = Arc::clone(&self.faults);
        let path = path.to_owned();
        Ok(Arc::new(FaultyFile {
            inner: inner?,
            faults,
            path,
        }))
    }
}

#[async_trait]
impl Device for FaultyDevice {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.check_room(path, mode)?;
        self.faulty(path, self.inner.open(path, mode).await)
    }

    async fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.check_room(path, mode)?;
        self.faulty(path, self.inner.open_direct(path, mode).await)
    }

    async fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.inner.create_dir(path).await
    }

    async fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<bool> {
        self.inner.remove_dir(path).await
    }

    async fn dir_id(&self, path: &Path) -> io::Result<DirId> {
        self.inner.dir_id(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.faults.descriptors_are_taken.load(Ordering::SeqCst) {
            self.faults.refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        match self.faults.dir_syncs_fail.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the device cannot sync a directory")),
            false => self.inner.sync_dir(path).await,
        }
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list_dir(path).await
    }

    async fn lock_dir(&self, path: &Path) -> io::Result<DirLock> {
        self.inner.lock_dir(path).await
    }

    async fn bytes_free(&self, path: &Path) -> io::Result<u64> {
        match self.faults.is_full_at(path) {
            true => Ok(0),
            false => self.inner.bytes_free(path).await,
        }
    }

    async fn machine_id(&self) -> io::Result<String> {
        self.inner.machine_id().await
    }

    async fn boot_id(&self) -> io::Result<String> {
        self.inner.boot_id().await
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn File>,
    faults: Arc<Faults>,
    path: PathBuf,
}

#[async_trait]
impl File for FaultyFile {
    async fn len(&self) -> io::Result<u64> {
        self.inner.len().await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.faults.largest.fetch_max(len as u64, Ordering::SeqCst);
        if is_below(&self.faults.reads_hang_below, &self.path) {
            self.faults.hung_reads.fetch_add(1, Ordering::SeqCst);
        }
        while is_below(&self.faults.reads_hang_below, &self.path) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.faults.largest.fetch_max(bytes, Ordering::SeqCst);
        let cannot_grow =
            self.faults.grows_fail.load(Ordering::SeqCst) || self.faults.is_full_at(&self.path);
        if cannot_grow && offset + bytes > self.inner.len().await? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_at(offset, parts).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        while self.faults.syncs_hang.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        while is_below(&self.faults.syncs_hang_below, &self.path) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match self.faults.syncs_fail.load(Ordering::SeqCst) {
            true => {
                self.faults.failed_syncs.fetch_add(1, Ordering::SeqCst);
                Err(io::Error::other("the device cannot sync"))
            }
            false => self.inner.sync_data().await,
        }
    }

    async fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes).await
    }
}
