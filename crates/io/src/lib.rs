//! Ports to the machine: files, directories, writer threads.
//!
//! Each has a real implementation and, under simulation, a simulated one: only the composition root chooses which.
//! The futures of the real files block their thread: they are for writer threads ([`Threads`]) and for the real
//! device's own reads, which go through `spawn_blocking`; nothing else may await them on a shared runtime.

mod direct;
#[cfg(feature = "faults")]
mod faulty;
pub mod net;
mod real;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
pub use direct::align;
#[cfg(feature = "faults")]
pub use faulty::{Faults, FaultyDevice};
pub use real::{RealDevice, RealThreads};

/// A tree of directories and files.
#[async_trait]
pub trait Device: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` without [`OpenMode::CreateNew`]; `AlreadyExists` with it.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// As [`Device::open`], for a file that is written in whole blocks of [`DIRECT_BLOCK_BYTES`] and seldom read: these
    /// writes go past the page cache where the file system can, from the caller's memory where that is aligned. Any
    /// other write works too. By default an ordinary file.
    ///
    /// # Errors
    /// As [`Device::open`].
    async fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.open(path, mode).await
    }
    /// Creates a directory in one that is there; false where it is there already. Not durable before
    /// [`Device::sync_dir`] of its parent.
    async fn create_dir(&self, path: &Path) -> io::Result<bool>;
    /// Creates a directory and its missing parents, each durable before the next is made. The deepest that was there is
    /// made durable too: a process may have died between making it and the sync.
    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut there = None;
        let above: Vec<&Path> = path.ancestors().collect();
        for dir in above.iter().rev().filter(|dir| dir.parent().is_some()) {
            if !self.create_dir(dir).await? {
                there = Some(*dir);
                continue;
            }
            if let Some(there) = there.take() {
                sync_entry(self, there).await?;
            }
            self.sync_dir(dir.parent().unwrap_or(dir)).await?;
        }
        match there {
            Some(there) => sync_entry(self, there).await,
            None => Ok(()),
        }
    }
    /// Gives a file a second name; never overwrites (`AlreadyExists`). Not durable before [`Device::sync_dir`].
    async fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Not durable before [`Device::sync_dir`].
    async fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory; false where it is not empty. Not durable before [`Device::sync_dir`] of its parent.
    async fn remove_dir(&self, path: &Path) -> io::Result<bool>;
    /// Renames a file over whatever has the name. Not durable before [`Device::sync_dir`].
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, sorted by name.
    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Takes the directory for this process until the lock is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it.
    async fn lock_dir(&self, path: &Path) -> io::Result<DirLock>;
    /// Bytes that can still be written to the file system of `path`.
    async fn bytes_free(&self, path: &Path) -> io::Result<u64>;
}

/// What offset, length and memory of a write must be multiples of to go past the page cache.
pub const DIRECT_BLOCK_BYTES: usize = 4096;

/// Whether the machine refused for want of room, on the disk, of a quota or of file descriptors: what is tried again later.
/// Any other refusal stands.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes the name of a directory that was there durable, where its parent may be opened: it is somebody else's where not.
async fn sync_entry<D: Device + ?Sized>(device: &D, dir: &Path) -> io::Result<()> {
    match device.sync_dir(dir.parent().unwrap_or(dir)).await {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its whole path.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes of a file, 0 of a directory.
    pub bytes: u64,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It must not exist.
    CreateNew,
}

/// A lock on a directory; dropping it gives the directory back.
pub struct DirLock(pub Box<dyn Send + Sync>);

impl Debug for DirLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirLock")
    }
}

/// An open file. Offsets and lengths are bytes.
#[async_trait]
#[expect(
    clippy::len_without_is_empty,
    reason = "a length costs a call to the machine"
)]
pub trait File: Debug + Send + Sync + 'static {
    /// Its length.
    async fn len(&self) -> io::Result<u64>;
    /// Reads exactly `len` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// Writes all of `parts`, one after the other, from `offset` on (vectored).
    async fn write_at(&self, offset: u64, parts: &[Bytes]) -> io::Result<()>;
    /// Makes contents (and a length that grew) durable: `fdatasync`.
    async fn sync_data(&self) -> io::Result<()>;
    /// Sets the length.
    async fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// Runs one long-lived writer: an OS thread of its own, or a task under simulation.
pub trait Threads: Debug + Send + Sync + 'static {
    /// Starts `body`; it ends when its future does.
    fn spawn(&self, name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>);
    /// How many may compute at the same time; one under simulation.
    fn cores(&self) -> usize {
        1
    }
}
