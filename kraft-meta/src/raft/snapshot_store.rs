//! The newest snapshot, as a file. It is written in pieces under another name, synced and renamed, and its directory is
//! synced. The log that it replaces is purged only after that, so that a crash at any point leaves either the old
//! snapshot and its log or the new snapshot.
//!
//! The file begins with a mark. Pieces follow, each of a length (four bytes, big endian) and as many bytes: first the
//! [`Head`], then the parts of the image. A length of 0 ends them, and the CRC-32 of everything before it (four bytes,
//! big endian) ends the file. Writing and reading take memory for one piece and one chunk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use highwater_io::{Device, File, OpenMode, Threads, is_full};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

use super::record::{LogIdRecord, MembershipRecord};
use super::types::{LogId, SnapshotMeta, StoredMembership};
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
}

/// A snapshot that is to be written.
struct Job {
    meta: SnapshotMeta,
    image: MetadataImage,
    done: oneshot::Sender<io::Result<SnapshotFile>>,
}

impl SnapshotStore {
    /// Starts the thread that encodes and writes snapshots, so that the threads that serve requests do neither.
    pub(super) fn start(device: Arc<dyn Device>, dir: &Path, threads: &dyn Threads) -> Self {
        let (jobs, mut next) = mpsc::channel::<Job>(1);
        let path = dir.join("snapshot");
        let writer = (Arc::clone(&device), path.clone());
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
                let Some(job) = job else { break };
                let written = write(&*writer.0, &writer.1, &job).await;
                // the caller may have stopped waiting
                drop(job.done.send(written));
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
        };
        let meta = file.meta().await?;
        Ok(Some((meta, file)))
    }

    /// Writes the newest snapshot; its error names the file.
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
        drop(self.jobs.send(Job { meta, image, done }).await);
        let written = written.await;
        written
            .unwrap_or_else(|_gone| Err(io::Error::other("its thread has ended")))
            .map_err(named)
    }
}

async fn write(device: &dyn Device, path: &Path, job: &Job) -> io::Result<SnapshotFile> {
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
    })
}

async fn remove(device: &dyn Device, path: &Path) -> io::Result<()> {
    match device.remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

async fn write_new(device: &dyn Device, new: &Path, job: &Job) -> io::Result<Arc<dyn File>> {
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::Ordering;
    use std::sync::{Mutex, PoisonError};

    use futures::FutureExt;
    use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
    use highwater_runtime::reasons;
    use highwater_types::{LeaderEpoch, ObjectId, StreamId, TopicId};

    use super::*;
    use crate::command::{ClaimRecord, ObjectName};
    use crate::image::{ObjectImage, StreamImage};

    /// An image of some megabytes.
    fn large() -> MetadataImage {
        let mut image = MetadataImage::default();
        let claim = |first: i64| ClaimRecord {
            first,
            next: first + 1,
            part_end: u64::MAX,
            max_timestamp: i64::MAX,
            ..ClaimRecord::default()
        };
        let claims = (0..20_000).map(|first| (first, Arc::new(claim(first))));
        let stream = StreamImage {
            topic: TopicId::ZERO,
            partition: 0,
            start: 0,
            committed_end: 20_000,
            held_by: None,
            leader_epoch: LeaderEpoch(0),
            leader_epochs: Vec::new(),
            claims: claims.collect(),
            rolls: Default::default(),
            checkpoint: None,
            lost: 0..0,
        };
        image.streams.insert(StreamId(7), Arc::new(stream));
        for number in 0..20_000 {
            let name = ObjectName {
                node: 1,
                node_epoch: u64::MAX,
                kind: 0,
                number,
            };
            let id = ObjectId::try_from(name).expect("is a name");
            image.objects.insert(
                id,
                ObjectImage {
                    bytes: u64::MAX,
                    references: 1,
                    covers: None,
                },
            );
        }
        image
    }

    async fn read(store: &SnapshotStore) -> Result<MetadataImage, String> {
        let read = async {
            let (_, newest) = store.newest().await?.expect("is there");
            newest.read().await
        };
        let (_, image) = read.await.map_err(|error| reasons(&error))?;
        Ok(image)
    }

    // I11
    #[tokio::test]
    async fn a_large_snapshot_is_written_and_read_in_pieces() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path();
        let faults = Arc::new(Faults::default());
        let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults));
        let store = SnapshotStore::start(Arc::new(device), dir, &RealThreads);
        let image = large();
        let parts = image.parts().map(|part| part.len()).max();
        assert!(parts.is_some_and(|bytes| bytes < 64 << 10), "{parts:?}");
        let saved = store.save(SnapshotMeta::default(), image.clone()).await;
        saved.expect("is written");
        assert_eq!(read(&store).await.expect("is read"), image);
        let largest = faults.largest.load(Ordering::SeqCst);
        assert_eq!(largest, CHUNK_BYTES as u64);
        let whole = std::fs::read(&store.path).expect("is there");
        assert!(whole.len() > 4 * CHUNK_BYTES, "{}", whole.len());

        // a file with a missing or damaged part is refused as a whole
        for cut in [
            1,
            4,
            8,
            CHUNK_BYTES,
            whole.len() - MARK.len() - 1,
            whole.len(),
        ] {
            std::fs::write(&store.path, &whole[..whole.len() - cut]).expect("writes");
            let why = read(&store).await.expect_err("is cut");
            assert!(why.contains("is missing"), "{cut}: {why}");
        }
        for at in (0..whole.len()).step_by(whole.len() / 20) {
            let mut other = whole.clone();
            other[at] ^= 1;
            std::fs::write(&store.path, &other).expect("writes");
            read(&store).await.expect_err("is damaged");
        }
        let longer = [&whole[..], &[0]].concat();
        std::fs::write(&store.path, longer).expect("writes");
        let why = read(&store).await.expect_err("is longer");
        assert!(why.contains("follows its end"), "{why}");
    }

    /// Keeps the thread's body instead of running it.
    #[derive(Default)]
    struct Later(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

    impl std::fmt::Debug for Later {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Later")
        }
    }

    impl Threads for Later {
        fn spawn(&self, _name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }

    #[tokio::test]
    async fn a_snapshot_is_the_work_of_a_thread_of_its_own_and_its_end_is_an_error() {
        let temporary = tempfile::tempdir().expect("a directory");
        let later = Later::default();
        let store = SnapshotStore::start(Arc::new(RealDevice), temporary.path(), &later);
        let mut save = Box::pin(store.save(SnapshotMeta::default(), MetadataImage::default()));
        assert!(save.as_mut().now_or_never().is_none());
        let listed = std::fs::read_dir(temporary.path()).expect("is there");
        assert_eq!(listed.count(), 0, "the caller writes nothing");
        drop(later);
        let why = save.await.expect_err("no thread writes it").to_string();
        assert!(why.contains("its thread has ended"), "{why}");
        assert!(why.contains(&store.path.display().to_string()), "{why}");
    }

    #[tokio::test]
    async fn an_end_waits_for_the_snapshot_that_is_under_way() {
        let temporary = tempfile::tempdir().expect("a directory");
        let later = Later::default();
        let store = SnapshotStore::start(Arc::new(RealDevice), temporary.path(), &later);
        let save = || store.save(SnapshotMeta::default(), MetadataImage::default());
        let mut begun = Box::pin(save());
        assert!(begun.as_mut().now_or_never().is_none());
        let mut end = Box::pin(store.shutdown());
        assert!(end.as_mut().now_or_never().is_none(), "it is not written");
        let body = later
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        body.expect("there is a thread").await;
        end.await;
        begun.await.expect("is written");
        let why = save().await.expect_err("the thread has ended").to_string();
        assert!(why.contains("its thread has ended"), "{why}");
    }

    #[tokio::test]
    async fn a_snapshot_that_a_full_disk_has_no_room_for_leaves_what_there_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Arc::new(Faults::default());
        faults.grows_fail.store(true, Ordering::SeqCst);
        let device = FaultyDevice::new(Arc::new(RealDevice), faults);
        let store = SnapshotStore::start(Arc::new(device), dir.path(), &RealThreads);
        let saved = store.save(SnapshotMeta::default(), large()).await;
        assert!(saved.is_err_and(|error| is_full(&error)));
        assert!(!dir.path().join("snapshot.new").exists());
    }
}
