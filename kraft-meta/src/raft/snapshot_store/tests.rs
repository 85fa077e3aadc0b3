//! Snapshots on files.

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
