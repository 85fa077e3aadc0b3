//! Files, directories and threads of the real machine.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::vectored::write_all_at;
use crate::{Device, DirEntry, DirId, DirLock, File, OpenMode, Threads, direct};

/// The file systems of the real machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDevice;

/// Runs blocking work: in `spawn_blocking` where there is a runtime, in place on a writer's own thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime
            .spawn_blocking(work)
            .await
            .map_err(io::Error::other)?,
        Err(_) => work(),
    }
}

#[async_trait]
impl Device for RealDevice {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = path.to_owned();
        blocking(move || {
            let file = Arc::new(open(&path, mode, 0)?);
            let direct = None;
            Ok(Arc::new(RealFile { file, direct, path }) as Arc<dyn File>)
        })
        .await
    }

    async fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = path.to_owned();
        blocking(move || {
            let file = Arc::new(open(&path, mode, 0)?);
            let flag = rustix::fs::OFlags::DIRECT.bits();
            let flag = i32::try_from(flag).expect("open's flags are an int");
            // a file system without direct I/O refuses this open
            let direct = open(&path, OpenMode::Existing, flag).ok().map(Arc::new);
            Ok(Arc::new(RealFile { file, direct, path }) as Arc<dyn File>)
        })
        .await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let path = path.to_owned();
        blocking(move || match std::fs::create_dir(&path) {
            Ok(()) => Ok(true),
            Err(_) if path.is_dir() => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    async fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || std::fs::hard_link(from, to)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_file(path)).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<bool> {
        let path = path.to_owned();
        blocking(move || match std::fs::remove_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    async fn dir_id(&self, path: &Path) -> io::Result<DirId> {
        let path = path.to_owned();
        blocking(move || {
            let dir = std::fs::File::open(path).map_err(refused)?;
            let metadata = dir.metadata()?;
            Ok(DirId {
                number: (metadata.dev(), metadata.ino()),
                // the file system gives no number out again that is open
                kept: Some(Box::new(dir)),
            })
        })
        .await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || std::fs::rename(from, to)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || sync_dir(&path)).await
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = path.to_owned();
        blocking(move || {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(path).map_err(refused)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    metadata => metadata?,
                };
                let is_dir = metadata.is_dir();
                let bytes = if is_dir { 0 } else { metadata.len() };
                entries.push(DirEntry {
                    path: entry.path(),
                    is_dir,
                    bytes,
                });
            }
            entries.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(entries)
        })
        .await
    }

    async fn lock_dir(&self, path: &Path) -> io::Result<DirLock> {
        let path = path.join(".lock");
        blocking(move || {
            let options = std::fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?;
            rustix::fs::flock(&options, FlockOperation::NonBlockingLockExclusive)?;
            Ok(DirLock(Box::new(options)))
        })
        .await
    }

    async fn bytes_free(&self, path: &Path) -> io::Result<u64> {
        let path = path.to_owned();
        blocking(move || {
            let stat = rustix::fs::statvfs(&path)?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        })
        .await
    }

    async fn machine_id(&self) -> io::Result<String> {
        blocking(|| machine_id(&[MACHINE_ID, BOOT_ID].map(Path::new))).await
    }

    async fn boot_id(&self) -> io::Result<String> {
        blocking(|| machine_id(&[Path::new(BOOT_ID)])).await
    }
}

/// The file with the identity of an installation. Container images have none, unless it is mounted into them.
const MACHINE_ID: &str = "/etc/machine-id";
/// The file with the identity of the running kernel, which all containers of a machine see.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The content of the first file that has an identity.
fn machine_id(files: &[&Path]) -> io::Result<String> {
    for file in files {
        match std::fs::read_to_string(file) {
            // systemd writes the word before the first boot is complete
            Ok(text) if !["", "uninitialized"].contains(&text.trim()) => {
                return Ok(text.trim().to_owned());
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "the machine has no identity, neither /etc/machine-id nor a boot id",
    ))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let dir = std::fs::File::open(path).map_err(refused);
    dir?.sync_all()
}

/// The error of a failed open. If all descriptors are taken it is an error for want of room, since some will be
/// closed.
fn refused(error: io::Error) -> io::Error {
    let taken = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    match taken.contains(&error.raw_os_error()) {
        true => io::Error::new(io::ErrorKind::QuotaExceeded, error),
        false => error,
    }
}

fn open(path: &Path, mode: OpenMode, flags: i32) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(mode == OpenMode::CreateNew)
        .custom_flags(flags)
        .open(path)
        .map_err(refused)
}

#[derive(Debug)]
struct RealFile {
    file: Arc<std::fs::File>,
    /// The same file, opened for direct I/O.
    direct: Option<Arc<std::fs::File>>,
    path: PathBuf,
}

impl RealFile {
    fn named(&self, error: io::Error) -> io::Error {
        if error.raw_os_error().is_some() {
            return error;
        }
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

#[async_trait]
impl File for RealFile {
    async fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        // allocated by the caller: the allocator keeps freed memory for the thread that allocated it, and many of the
        // blocking threads are idle
        let mut buffer = vec![0; len];
        let read = blocking(move || {
            file.read_exact_at(&mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        });
        read.await.map_err(|error| self.named(error))
    }

    async fn write_at(&self, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let direct = self.direct.clone();
        let parts = parts.to_vec();
        blocking(move || match &direct {
            Some(direct) => direct::write_all_at(direct, &file, offset, &parts),
            None => write_all_at(&file, offset, &parts),
        })
        .await
    }

    async fn sync_data(&self) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        blocking(move || file.sync_data()).await
    }

    async fn set_len(&self, bytes: u64) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        blocking(move || file.set_len(bytes)).await
    }
}

/// Starts threads of the operating system, one for each writer.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealThreads;

impl Threads for RealThreads {
    fn spawn(&self, name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = thread.spawn(move || futures::executor::block_on(body));
        started.expect("the operating system can start a thread");
    }

    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    // Some descriptors will be closed, so that a failed open is tried again.
    #[test]
    fn descriptors_that_are_all_taken_are_want_of_room() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(crate::is_full(&refused(errno.into())), "{errno}");
        }
        assert!(!crate::is_full(&refused(Errno::ACCESS.into())));
    }

    #[test]
    fn a_machine_is_told_by_the_first_file_that_has_an_identity() {
        let dir = std::env::temp_dir().join(format!("highwater-machine-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("creates");
        let (installed, booted) = (dir.join("installed"), dir.join("booted"));
        let id = || machine_id(&[&installed, &booted]);
        assert_eq!(id().expect_err("has none").kind(), io::ErrorKind::NotFound);
        std::fs::write(&booted, "b\n").expect("writes");
        for not_yet in ["", "\n", "uninitialized\n"] {
            std::fs::write(&installed, not_yet).expect("writes");
            assert_eq!(id().expect("has one"), "b");
        }
        std::fs::write(&installed, "i\n").expect("writes");
        assert_eq!(id().expect("has one"), "i");
        std::fs::remove_dir_all(&dir).expect("removes");
    }

    #[test]
    fn a_listing_leaves_out_a_file_that_vanishes_and_no_other() {
        let dir = std::env::temp_dir().join(format!("highwater-list-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("creates");
        let stays = dir.join("stays");
        std::fs::write(&stays, "x").expect("writes");
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let (path, is_done) = (dir.join(name), &is_done);
                scope.spawn(move || {
                    while !is_done.load(Ordering::SeqCst) {
                        std::fs::write(&path, "x").expect("writes");
                        std::fs::remove_file(&path).expect("removes");
                    }
                });
            }
            for _ in 0..3000 {
                let listed = futures::executor::block_on(RealDevice.list_dir(&dir));
                let is_kept = |listed: &[DirEntry]| listed.iter().any(|entry| entry.path == stays);
                if !listed.as_ref().is_ok_and(|listed| is_kept(listed)) {
                    is_done.store(true, Ordering::SeqCst);
                    unreachable!("{listed:?}");
                }
            }
            is_done.store(true, Ordering::SeqCst);
        });
        std::fs::remove_dir_all(&dir).expect("removes");
    }

    #[tokio::test]
    async fn a_directory_that_is_made_again_is_another_one() {
        let dir = std::env::temp_dir().join(format!("highwater-dir-id-{}", std::process::id()));
        let device = RealDevice;
        let make = async || {
            assert!(device.create_dir(&dir).await.expect("creates"));
            device.dir_id(&dir).await.expect("is there")
        };
        let mut former = vec![make().await];
        assert_eq!(device.dir_id(&dir).await.expect("is there"), former[0]);
        for _ in 0..10 {
            device.remove_dir(&dir).await.expect("removes");
            let again = make().await;
            assert!(!former.contains(&again), "{again:?}");
            former.push(again);
        }
        device.remove_dir(&dir).await.expect("removes");
        let gone = device.dir_id(&dir).await.expect_err("is gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn files_are_written_in_parts_and_directories_are_locked() {
        let dir = std::env::temp_dir().join(format!("highwater-io-{}", std::process::id()));
        let device = RealDevice;
        device
            .create_dir_all(&dir.join("a/b"))
            .await
            .expect("creates");
        let path = dir.join("a/file");
        let file = device
            .open(&path, OpenMode::CreateNew)
            .await
            .expect("creates");
        let parts: Vec<Bytes> = (0..200u8).map(|i| Bytes::from(vec![i; 3])).collect();
        file.write_at(2, &parts).await.expect("writes");
        assert_eq!(
            file.read_at(2 + 3 * 199, 3).await.expect("reads"),
            vec![199; 3]
        );
        assert!(file.read_at(2 + 3 * 199, 4).await.is_err(), "past the end");
        assert!(device.open(&path, OpenMode::CreateNew).await.is_err());
        let lock = device.lock_dir(&dir).await.expect("locks");
        let second = device.lock_dir(&dir).await.expect_err("is locked");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        device.lock_dir(&dir).await.expect("is free again");
        let names = device.list_dir(&dir.join("a")).await.expect("lists");
        assert_eq!(names.len(), 2);
        std::fs::remove_dir_all(&dir).expect("removes");
    }
}
