//! Ports to the machine: files, directories, threads and sockets.
//!
//! Each port is implemented by the real machine and by the simulation, and only the composition root chooses one. The
//! futures of real files block their thread. They may be awaited on writer threads ([`Threads`]) and in
//! `spawn_blocking`, which the real device uses for its own reads, but not on a shared runtime.

mod direct;
#[cfg(feature = "faults")]
mod faulty;
pub mod net;
#[cfg(feature = "faults")]
mod pipe;
mod real;
mod segments;
mod vectored;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
pub use direct::aligned;
#[cfg(feature = "faults")]
pub use faulty::{Faults, FaultyDevice};
#[cfg(feature = "faults")]
pub use pipe::Pipe;
pub use real::{RealDevice, RealThreads};
pub use segments::{SEGMENT_BYTES, Segments};

/// A file system: a tree of directories and files.
#[async_trait]
pub trait Device: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` with [`OpenMode::Existing`]; `AlreadyExists` with [`OpenMode::CreateNew`].
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Opens a file that is mostly written, in whole blocks of [`DIRECT_BLOCK_BYTES`], and seldom read. Such writes
    /// bypass the page cache if the file system allows it, directly from the caller's memory if that is aligned.
    /// Other writes work as well. By default this is [`Device::open`].
    ///
    /// # Errors
    /// As [`Device::open`].
    async fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.open(path, mode).await
    }
    /// Creates a directory in an existing one; false if it exists already. Not durable before [`Device::sync_dir`] of
    /// its parent.
    async fn create_dir(&self, path: &Path) -> io::Result<bool>;
    /// Creates a directory and its missing parents, making each durable before the next. The deepest existing parent
    /// is made durable too, because an earlier process may have died between creating and syncing it.
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
    /// Gives a file a second name, which must not exist (`AlreadyExists`). Not durable before [`Device::sync_dir`].
    async fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Not durable before [`Device::sync_dir`].
    async fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory; false if it isn't empty. Not durable before [`Device::sync_dir`] of its parent.
    async fn remove_dir(&self, path: &Path) -> io::Result<bool>;
    /// The identity of the directory that a path leads to now.
    async fn dir_id(&self, path: &Path) -> io::Result<DirId>;
    /// Renames a file, replacing any file of that name. Not durable before [`Device::sync_dir`].
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, sorted by name. An entry that is removed meanwhile may be left out.
    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Locks a directory for this process until the lock is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds the lock.
    async fn lock_dir(&self, path: &Path) -> io::Result<DirLock>;
    /// The bytes that can still be written to the file system of `path`.
    async fn bytes_free(&self, path: &Path) -> io::Result<u64>;
    /// The identity of the machine, which differs between machines: that of its installation, which stays the same, or
    /// of its running kernel if there is none.
    ///
    /// # Errors
    /// `NotFound` if the machine has neither.
    async fn machine_id(&self) -> io::Result<String>;
    /// The identity of the running kernel, which differs between machines and changes with each boot.
    ///
    /// # Errors
    /// The system tells none.
    async fn boot_id(&self) -> io::Result<String>;
}

/// The offset, length and memory address of a write must be multiples of this for the write to bypass the page cache.
pub const DIRECT_BLOCK_BYTES: usize = 4096;

/// Whether an operation failed for want of room: on the disk, in a quota, or of file descriptors. Such an operation
/// is tried again later; any other failure is final.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes the name of an existing directory durable. If its parent may not be opened, the parent isn't ours to sync.
async fn sync_entry<D: Device + ?Sized>(device: &D, dir: &Path) -> io::Result<()> {
    match device.sync_dir(dir.parent().unwrap_or(dir)).await {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its path, including the directory's.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The size of a file in bytes; 0 for a directory.
    pub bytes: u64,
}

/// The identity of a directory. While it is kept, no other directory has the same identity, even after the directory
/// was removed.
pub struct DirId {
    /// The file system, and the number of the directory in it.
    pub number: (u64, u64),
    /// The means by which the number is kept from being used again.
    pub kept: Option<Box<dyn Send + Sync>>,
}

impl PartialEq for DirId {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for DirId {}

impl Debug for DirId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DirId").field(&self.number).finish()
    }
}

/// What is expected of a file that is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist.
    Existing,
    /// The file must not exist.
    CreateNew,
}

/// A lock on a directory, which is released when this is dropped.
pub struct DirLock(pub Box<dyn Send + Sync>);

impl Debug for DirLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirLock")
    }
}

/// An open file. Offsets and lengths are in bytes.
#[async_trait]
#[expect(clippy::len_without_is_empty, reason = "a length costs a system call")]
pub trait File: Debug + Send + Sync + 'static {
    /// The file's length.
    async fn len(&self) -> io::Result<u64>;
    /// Reads exactly `len` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before that.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// Writes all of `parts`, one after the other, beginning at `offset` (a vectored write).
    async fn write_at(&self, offset: u64, parts: &[Bytes]) -> io::Result<()>;
    /// Makes the contents durable, and the length if it grew: `fdatasync`.
    async fn sync_data(&self) -> io::Result<()>;
    /// Sets the file's length.
    async fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// Runs long-lived writers and computations: on threads of the operating system, or as tasks under simulation.
pub trait Threads: Debug + Send + Sync + 'static {
    /// Starts `body`, and ends when its future does.
    fn spawn(&self, name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>);
    /// How many threads can compute at the same time; one under simulation.
    fn cores(&self) -> usize {
        1
    }
}
