//! The newest snapshot, as a file. It is written in pieces under another name, synced and renamed, and its directory is
//! synced. The log that it replaces is purged only after that, so that a crash at any point leaves either the old
//! snapshot and its log or the new snapshot.
//!
//! The file begins with a mark. Pieces follow, each of a length (four bytes, big endian) and as many bytes: first the
//! [`Head`], then the parts of the image. A length of 0 ends them, and the CRC-32 of everything before it (four bytes,
//! big endian) ends the file. Writing and reading take memory for one piece and one chunk.

mod receiving;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use highwater_io::{Device, File, OpenMode, Threads, is_full};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

pub(super) use self::receiving::Part;
use self::receiving::Receiving;
use super::record::{LogIdRecord, MembershipRecord};
use super::types::{LogId, Snapshot, SnapshotMeta, StoredMembership};
use crate::image::{MetadataImage, Restored};
use crate::{OpenError, SnapshotError};

/// The last log entry and the membership that a snapshot covers.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(message, optional, tag = "1")]
    last: Option<LogIdRecord>,
    #[prost(message, optional, tag = "2")]
    membership: Option<MembershipRecord>,
}

/// The mark ends with the version of the file's layout.
const MARK: &[u8; 8] = b"HWSNAP\0\x02";
const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
/// The size of a write or read: the sync of another file waits for no more than this.
const CHUNK_BYTES: usize = 256 << 10;

/// The snapshots of a directory. Clones share the thread that writes them, which ends with
/// [`SnapshotStore::shutdown`], or with the last clone.
#[derive(Debug, Clone)]
pub(super) struct SnapshotStore {
    device: Arc<dyn Device>,
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    stop: watch::Sender<bool>,
    /// Its sender lives as long as the thread.
    ended: watch::Receiver<()>,
}

/// The file of a snapshot; its content stays the same when a newer snapshot takes its name.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFile {
    pub(super) file: Arc<dyn File>,
    path: PathBuf,
    /// The image, if it was read already.
    image: Option<Arc<MetadataImage>>,
}

/// What the thread is to do.
enum Job {
    Save(Box<Save>),
    Receive(Part, oneshot::Sender<io::Result<Option<Snapshot>>>),
}

/// A snapshot that is to be written.
struct Save {
    meta: SnapshotMeta,
    image: MetadataImage,
    done: oneshot::Sender<io::Result<SnapshotFile>>,
}

impl SnapshotStore {
    /// Starts the thread that encodes and writes snapshots, so that the threads that serve requests do neither.
    pub(super) fn start(device: Arc<dyn Device>, dir: &Path, threads: &dyn Threads) -> Self {
        let (jobs, mut next) = mpsc::channel::<Job>(1);
        let path = dir.join("snapshot");
        let mut writer = Writer {
            device: Arc::clone(&device),
            path: path.clone(),
            newest: None,
            receiving: Receiving::new(Arc::clone(&device), path.with_extension("received")),
        };
        let (stop, mut stopping) = watch::channel(false);
        let (alive, ended) = watch::channel(());
        let run = async move {
            loop {
                // both arms are cancellation safe; a job is not cancelled once it has begun
                let job = tokio::select! {
                    biased;
                    job = next.recv() => job,
                    Ok(()) = stopping.changed() => None,
                };
                // the caller may have stopped waiting
                match job {
                    Some(Job::Save(save)) => {
                        let written = writer.save(&save).await;
                        drop(save.done.send(written));
                    }
                    Some(Job::Receive(part, done)) => {
                        drop(done.send(writer.receiving.take(part).await));
                    }
                    None => break,
                }
            }
            drop(alive);
        };
        threads.spawn("metadata-snapshots", Box::pin(run));
        Self {
            device,
            path,
            jobs,
            stop,
            ended,
        }
    }

    /// Ends the thread, and waits until it has written what it was given. Otherwise a start that follows in the process
    /// could find a snapshot that is newer than what it has read, and write into the same file. Later snapshots fail.
    pub(super) async fn shutdown(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Opens the newest snapshot and reads its head.
    pub(super) async fn newest(&self) -> Result<Option<(SnapshotMeta, SnapshotFile)>, OpenError> {
        let opened = self.device.open(&self.path, OpenMode::Existing).await;
        let file = match opened {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| OpenError::Io {
                path: self.path.display().to_string(),
                source,
            })?,
        };
        let file = SnapshotFile {
            file,
            path: self.path.clone(),
            image: None,
        };
        let meta = file.meta().await?;
        Ok(Some((meta, file)))
    }

    /// Takes a part of a snapshot that a leader sends. Returns the snapshot once all of it is there and is sound. The own
    /// newest snapshot stays as it is.
    ///
    /// # Errors
    /// A part before it is missing, the snapshot is damaged, or it can't be written.
    pub(super) async fn receive(&self, part: Part) -> io::Result<Option<Snapshot>> {
        let (done, taken) = oneshot::channel();
        drop(self.jobs.send(Job::Receive(part, done)).await);
        let taken = taken.await;
        taken.unwrap_or_else(|_gone| Err(io::Error::other("its thread has ended")))
    }

    /// Writes the newest snapshot; its error names the file. A snapshot that is older than the newest one is not written,
    /// because a leader's may have taken its place while it was made.
    pub(super) async fn save(
        &self,
        meta: SnapshotMeta,
        image: MetadataImage,
    ) -> io::Result<SnapshotFile> {
        let named = |error: io::Error| {
            let path = self.path.display();
            io::Error::new(error.kind(), format!("cannot write {path}: {error}"))
        };
        let (done, written) = oneshot::channel();
        // if the thread has ended, nothing is sent and no result comes
        let save = Box::new(Save { meta, image, done });
        drop(self.jobs.send(Job::Save(save)).await);
        let written = written.await;
        written
            .unwrap_or_else(|_gone| Err(io::Error::other("its thread has ended")))
            .map_err(named)
    }
}

/// What the thread works with.
struct Writer {
    device: Arc<dyn Device>,
    path: PathBuf,
    /// The last entry of the newest snapshot that this process has written.
    newest: Option<LogId>,
    receiving: Receiving,
}

impl Writer {
    async fn save(&mut self, save: &Save) -> io::Result<SnapshotFile> {
        if save.meta.last_log_id < self.newest {
            return Ok(SnapshotFile {
                file: self.device.open(&self.path, OpenMode::Existing).await?,
                path: self.path.clone(),
                image: None,
            });
        }
        let written = write(&*self.device, &self.path, save).await?;
        self.newest = save.meta.last_log_id;
        Ok(written)
    }
}

async fn write(device: &dyn Device, path: &Path, job: &Save) -> io::Result<SnapshotFile> {
    let new = path.with_extension("new");
    remove(device, &new).await?;
    let file = match write_new(device, &new, job).await {
        // the rest of a full disk is left to other files until the snapshot is tried again
        Err(error) if is_full(&error) => {
            remove(device, &new).await?;
            return Err(error);
        }
        written => written?,
    };
    device.rename(&new, path).await?;
    if let Some(dir) = path.parent() {
        device.sync_dir(dir).await?;
    }
    Ok(SnapshotFile {
        file,
        path: path.to_owned(),
        image: None,
    })
}

async fn remove(device: &dyn Device, path: &Path) -> io::Result<()> {
    match device.remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

async fn write_new(device: &dyn Device, new: &Path, job: &Save) -> io::Result<Arc<dyn File>> {
    let file = device.open_direct(new, OpenMode::CreateNew).await?;
    let mut writing = Writing {
        file: &*file,
        offset: 0,
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        crc: Hasher::new(),
    };
    let head = Head {
        last: job.meta.last_log_id.as_ref().map(LogIdRecord::from),
        membership: Some((&job.meta.last_membership).into()),
    };
    writing.put(MARK).await?;
    writing.piece(&head.encode_to_vec()).await?;
    for part in job.image.parts() {
        writing.piece(&part).await?;
    }
    writing.end().await?;
    file.sync_data().await?;
    Ok(file)
}

/// A file that is being written.
struct Writing<'a> {
    file: &'a dyn File,
    offset: u64,
    /// Bytes that are not written yet: less than [`CHUNK_BYTES`] between two calls.
    buffer: BytesMut,
    crc: Hasher,
}

impl Writing<'_> {
    async fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_be_bytes()).await?;
        self.put(bytes).await
    }

    async fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        while !bytes.is_empty() {
            let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len());
            self.buffer.put_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.buffer.len() == CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        let bytes = chunk.len() as u64;
        self.file.write_at(self.offset, &[chunk]).await?;
        self.offset += bytes;
        self.buffer.reserve(CHUNK_BYTES);
        Ok(())
    }

    async fn end(&mut self) -> io::Result<()> {
        self.piece(&[]).await?;
        let crc = self.crc.clone().finalize();
        self.put(&crc.to_be_bytes()).await?;
        self.flush().await
    }
}

/// The bytes of a snapshot, wherever they are.
#[async_trait]
pub(super) trait Source: Sync {
    /// Their number.
    async fn len(&self) -> io::Result<u64>;
    /// Reads bytes that exist.
    async fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Bytes>;
    /// The name of the place, for errors.
    fn path(&self) -> String;
}

#[async_trait]
impl Source for SnapshotFile {
    async fn len(&self) -> io::Result<u64> {
        self.file.len().await
    }

    async fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        self.file.read_at(offset, bytes).await
    }

    fn path(&self) -> String {
        self.path.display().to_string()
    }
}

impl SnapshotFile {
    /// Reads the head.
    async fn meta(&self) -> Result<SnapshotMeta, OpenError> {
        begin(self).await.map(|(meta, _)| meta)
    }

    /// The image, if it was read already.
    pub(super) fn image(&self) -> Option<&MetadataImage> {
        self.image.as_deref()
    }

    /// Reads the whole snapshot.
    pub(super) async fn read(&self) -> Result<(SnapshotMeta, MetadataImage), OpenError> {
        read(self).await
    }
}

/// Reads a whole snapshot.
pub(super) async fn read(source: &dyn Source) -> Result<(SnapshotMeta, MetadataImage), OpenError> {
    let (meta, mut reading) = begin(source).await?;
    let mut restored = Restored::default();
    while let Some(length) = reading.length().await? {
        let part = reading.take(length).await?;
        let pushed = restored.push(&part);
        pushed.map_err(|cause| damaged(source, cause))?;
    }
    reading.check_end().await?;
    let image = restored.image();
    Ok((meta, image.map_err(|cause| damaged(source, cause))?))
}

async fn begin(source: &dyn Source) -> Result<(SnapshotMeta, Reading<'_>), OpenError> {
    let left = source.len().await;
    let mut reading = Reading {
        of: source,
        offset: 0,
        left: left.map_err(|cause| failed(source, cause))?,
        buffer: BytesMut::new(),
        crc: Hasher::new(),
    };
    if reading.left < MARK.len() as u64 || reading.take(MARK.len()).await? != MARK[..] {
        let why = "its beginning is missing, or of another release";
        return Err(unreadable(source, why));
    }
    let length = reading.length().await?;
    let head = reading.take(length.unwrap_or(0)).await?;
    let head = Head::decode(head).map_err(|error| unreadable(source, &error.to_string()))?;
    let meta = SnapshotMeta {
        last_log_id: head.last.map(LogId::from),
        last_membership: head
            .membership
            .map(StoredMembership::from)
            .unwrap_or_default(),
    };
    Ok((meta, reading))
}

fn failed(source: &dyn Source, cause: io::Error) -> OpenError {
    OpenError::Io {
        path: source.path(),
        source: cause,
    }
}

fn damaged(source: &dyn Source, cause: SnapshotError) -> OpenError {
    OpenError::Snapshot {
        path: source.path(),
        source: cause,
    }
}

fn unreadable(source: &dyn Source, why: &str) -> OpenError {
    damaged(source, SnapshotError::Unreadable(why.to_owned()))
}

/// A snapshot that is being read.
struct Reading<'a> {
    of: &'a dyn Source,
    offset: u64,
    /// Bytes that have not been read into the buffer.
    left: u64,
    buffer: BytesMut,
    /// The checksum of all bytes that were taken.
    crc: Hasher,
}

impl Reading<'_> {
    async fn take(&mut self, bytes: usize) -> Result<BytesMut, OpenError> {
        if (bytes as u64) > self.buffer.len() as u64 + self.left {
            return Err(unreadable(self.of, "its end is missing"));
        }
        while self.buffer.len() < bytes {
            let some = usize::try_from(self.left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let read = self.of.read_at(self.offset, some).await;
            self.buffer
                .extend_from_slice(&read.map_err(|cause| failed(self.of, cause))?);
            self.offset += some as u64;
            self.left -= some as u64;
        }
        let taken = self.buffer.split_to(bytes);
        self.crc.update(&taken);
        Ok(taken)
    }

    /// The length of the next piece, or `None` after the last one.
    async fn length(&mut self) -> Result<Option<usize>, OpenError> {
        let length = self.take(LENGTH_BYTES).await?.get_u32();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok((length > 0).then_some(length))
    }

    async fn check_end(&mut self) -> Result<(), OpenError> {
        let crc = self.crc.clone().finalize();
        let stored = self.take(CRC_BYTES).await?.get_u32();
        match (stored == crc, self.buffer.len() as u64 + self.left) {
            (true, 0) => Ok(()),
            (true, _) => Err(unreadable(self.of, "something follows its end")),
            (false, _) => Err(unreadable(self.of, "its checksum is wrong")),
        }
    }
}
