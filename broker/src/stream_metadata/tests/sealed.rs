//! A sealed range of an object WAL: it is registered by one command, and its streams are opened, read and trimmed
//! without a copy of a batch (rules W8, W9, U4, F4, G3).

use highwater_kraft_meta::EpochState;
use highwater_kraft_meta::command::Closing;
use highwater_object_format::{BatchEntry, ObjectWriter};
use highwater_object_storage::PutMode;
use highwater_runtime::SeededRng;
use highwater_s3stream::{ObjectStreamStore, OpenedStream, Roll};
use highwater_types::{NodeEpoch, WalPosition};
use highwater_wal::{SealedObject, SealedRange, SealedWal};

use super::storage::batch;
use super::*;
use crate::{fixture, registration};

/// The sequence of the seal: each group commit has two batches of one record.
const SEAL: u64 = 3;

fn delta(base: StreamOffset) -> Bytes {
    Bytes::from(format!("delta of {base}"))
}

/// A node on the object WAL that has written three group commits, and has died.
struct Died {
    storage: Storage,
    /// Its epoch.
    epoch: NodeEpoch,
    stream: StreamId,
}

impl Died {
    async fn new() -> Self {
        let storage = Storage::start_on(WalKind::Object).await;
        let (streams, _memory) = storage.reader(Arc::new(storage.port()), NEVER);
        drop(storage.stream(&streams).await);
        let image = storage.metadata.image();
        let stream = image.topic("t").expect("is there").partitions[0].stream;
        Self {
            epoch: storage.epoch,
            storage,
            stream,
        }
    }

    /// Puts the group commits into the store; returns them as a sealer finds them.
    async fn sealed(&self) -> SealedWal {
        let mut objects = Vec::new();
        for sequence in 0..SEAL {
            objects.push(self.group_commit(sequence).await);
        }
        let end = WalPosition {
            epoch: self.epoch,
            at: SEAL,
        };
        SealedWal::Range(SealedRange { end, objects })
    }

    async fn group_commit(&self, sequence: u64) -> SealedObject {
        let id = ObjectId {
            node: NODE,
            epoch: self.epoch,
            kind: ObjectKind::Wal,
            number: sequence,
        };
        let mut writer = ObjectWriter::new(&ObjectHeader {
            cluster: Uuid([7; 16]),
            id,
            nonce: Uuid([1; 16]),
            rewrite_number: 0,
            floor: WalPosition::default(),
        });
        let first = i64::try_from(sequence).expect("few") * 2;
        writer.begin_stream(self.stream, Bytes::new(), LeaderEpoch(0), first);
        for base in first..first + 2 {
            let batch = batch(base);
            let entry = BatchEntry {
                base,
                count: batch.count,
                bytes: u32::try_from(16 + batch.tail.len()).expect("small"),
                max_timestamp: batch.max_timestamp,
            };
            let body = Bytes::from([&batch.head[..], &batch.tail[..]].concat());
            // the second roll begins in the second object and goes on in the third
            writer.push_batch(entry, delta(base), base == 3, base, body.into());
        }
        writer.end_stream(None, Vec::new(), None, Vec::new());
        let written = writer.finish();
        let (key, mode) = (layout::object(id), PutMode::IfAbsent);
        let put = self
            .storage
            .objects
            .put(&key, written.body, mode, IoClass::Upload);
        // another start may have read it before
        drop(put.await);
        let directories = written.parts.into_iter().map(|part| part.directory);
        SealedObject {
            id,
            bytes: written.bytes,
            directories: directories.collect(),
        }
    }

    /// Begins the next start of the node: its epoch fences the former ones.
    async fn register(&mut self, incarnation: u8) {
        let register = RegisterNode {
            directory: Vec::new(),
            place: String::new(),
            node: NODE.0,
            incarnation: vec![incarnation],
            endpoints: Vec::new(),
            wal: WalKind::Object.into(),
            after: self.storage.epoch.0,
            rack: String::new(),
            metadata_version: 0,
        };
        let (at, _) = propose(&self.storage.metadata, Action::RegisterNode(register)).await;
        self.storage.epoch = NodeEpoch(at.0);
    }

    fn streams(&self) -> ObjectStreamStore {
        let port = Arc::new(self.storage.port());
        self.storage.reader(port, NEVER).0
    }

    /// The closing of the epoch that died.
    async fn closing(&self, streams: &ObjectStreamStore) -> Closing {
        let recovered = streams.recover(self.sealed().await).await;
        registration::closing(&recovered.expect("is indexed"))
    }

    async fn close(&self, epoch: NodeEpoch, how: Closing) {
        let (metadata, by) = (&*self.storage.metadata, self.storage.epoch);
        let rng = SeededRng::from_seed(1);
        let closed = registration::close((metadata, &rng), (NODE, epoch), by, how).await;
        closed.expect("closes");
        metadata.image().check().expect("is sound");
    }

    async fn open(&self, streams: &ObjectStreamStore) -> OpenedStream {
        fixture::lead(&*self.storage.metadata, self.storage.epoch).await;
        self.storage.opened(streams).await
    }

    fn gets(&self) -> u64 {
        let counts = self.storage.counts.snapshot().into_iter();
        let gets = counts.filter(|count| count.kind == RequestKind::Get);
        gets.map(|count| count.requests).sum()
    }

    fn index(&self) -> ObjectId {
        ObjectId {
            node: NODE,
            epoch: self.storage.epoch,
            kind: ObjectKind::Index,
            number: 1,
        }
    }
}

// W8, W9, F4, F6
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_range_is_opened_read_and_trimmed_without_a_copy() {
    let mut died = Died::new().await;
    died.register(2).await;
    let streams = died.streams();
    let how = died.closing(&streams).await;
    let image = died.storage.metadata.image();
    assert_eq!(
        Storage::committed_end(&image),
        0,
        "W8: one command for both"
    );
    died.close(died.epoch, how).await;
    let image = died.storage.metadata.image();
    assert_eq!(Storage::committed_end(&image), 6);
    assert_eq!(died.gets(), 0, "the sealer has read the directories");

    let opened = died.open(&streams).await;
    assert_eq!(died.gets(), 1, "F4: the index alone");
    // I6: the producers' state is folded from the deltas of all objects
    let deltas: Vec<_> = (0..6).map(|base| (base..base + 1, delta(base))).collect();
    assert_eq!(opened.deltas, deltas);
    let stream = opened.stream;
    assert_eq!(stream.bounds().confirmed, 6);
    let rolls: Vec<_> = stream.rolls();
    let seen: Vec<_> = rolls
        .iter()
        .map(|roll: &Roll| (roll.base, roll.end, roll.max_timestamp, roll.last_append))
        .collect();
    assert_eq!(seen, [(0, 3, 2, 2), (3, 6, 5, 5)]);
    for base in 0..6 {
        assert_eq!(
            i64::from(read(&*stream, base).await.expect("is there")[0]),
            base
        );
    }
    let found = stream.offset_for_time(0, 4).await.expect("looks");
    assert_eq!(found, Some(4));
    assert_eq!(stream.max_timestamp().await.expect("looks"), Some((5, 5)));

    // a trim into the middle keeps the claim, and the range counts as one object
    stream.trim(3).await.expect("trims");
    assert!(matches!(
        read(&*stream, 2).await,
        Err(StreamError::OutOfRange { .. })
    ));
    assert_eq!(read(&*stream, 3).await.expect("is there"), [3]);
    assert_eq!(stream.rolls().len(), 1);
    let image = died.storage.metadata.image();
    let is_condemned = |image: &highwater_kraft_meta::MetadataImage| {
        let mut condemned = image.condemned();
        condemned.any(|(id, _)| id == died.index())
    };
    assert!(!is_condemned(&image));
    let covers = image.covered_by(died.index()).expect("W9");
    assert_eq!(
        (covers.epoch, covers.first, covers.end),
        (died.epoch, 0, SEAL)
    );
}

// E3, U5, W8: the start that sealed died before the command; the next one seals again and finishes
#[tokio::test(flavor = "multi_thread")]
async fn a_closing_that_a_crash_left_undone_is_done_by_the_next_start() {
    let mut died = Died::new().await;
    died.register(2).await;
    drop(died.closing(&died.streams()).await);
    let (lost, orphan) = (died.storage.epoch, died.index());
    died.register(3).await;
    let streams = died.streams();
    let fenced = registration::fenced(&*died.storage.metadata, NODE);
    let begin = |epoch| WalPosition { epoch, at: 0 };
    let former = |epoch| registration::Former {
        epoch,
        wal: WalKind::Object,
        floor: begin(epoch),
    };
    assert_eq!(fenced, [former(died.epoch), former(lost)]);
    let how = died.closing(&streams).await;
    died.close(died.epoch, how).await;
    // the one that died on the way wrote nothing
    let nothing = SealedRange {
        end: begin(lost),
        objects: Vec::new(),
    };
    let nothing = streams.recover(SealedWal::Range(nothing)).await;
    let how = registration::closing(&nothing.expect("is closed"));
    died.close(lost, how).await;
    let stream = died.open(&streams).await.stream;
    assert_eq!(read(&*stream, 5).await.expect("is there"), [5]);
    let image = died.storage.metadata.image();
    assert!(image.condemned().any(|(id, _)| id == orphan), "U5");
    let own = image.node(NODE).expect("is registered");
    let closed = own
        .epochs
        .values()
        .filter(|epoch| matches!(epoch.state, EpochState::Closed(_)));
    assert_eq!(closed.count(), 2, "W12: until they are swept");
}

// G3: the last claim ends
#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_a_deleted_topic_is_condemned_with_the_objects_that_it_covers() {
    let mut died = Died::new().await;
    died.register(2).await;
    let streams = died.streams();
    let how = died.closing(&streams).await;
    died.close(died.epoch, how).await;
    let image = died.storage.metadata.image();
    let topic = image.topic("t").expect("is there");
    let delete = highwater_kraft_meta::command::DeleteTopic {
        id: topic.id.0.to_vec(),
    };
    propose(&died.storage.metadata, Action::DeleteTopic(delete)).await;
    let image = died.storage.metadata.image();
    assert!(image.condemned().any(|(id, _)| id == died.index()));
    assert!(image.covered_by(died.index()).is_some());
}
