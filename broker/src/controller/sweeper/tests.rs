//! Tests of the sweeper on a metadata in memory, in virtual time.

use bytes::Bytes;
use highwater_kraft_meta::command::{
    AssignLeaders, ClaimOfStream, ClaimRecord, CloseEpoch, Closing, CreateTopic, DeleteTopic,
    FenceEpoch, OpenStreams, Position, RegisterNode, Replicas, Sealed, StreamEpoch, UnregisterNode,
    WalKind,
};
use highwater_object_storage::{IoClass, MemoryStorage, PutMode};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::Term;

use super::super::Reaper;
use super::super::reaper::tests::Led;
use super::*;

const NODE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const GRACE: Duration = Duration::from_secs(60);
/// The sequence of the seal.
const SEAL: u64 = 5;

/// The only stream, under a leader epoch.
fn streams(leader_epoch: i32) -> Vec<StreamEpoch> {
    vec![StreamEpoch {
        stream: 0,
        leader_epoch,
    }]
}

/// A cluster in which one node's epoch is sealed by another's. An index object has a claim on its only stream.
struct Closed {
    metadata: Arc<Led>,
    store: Arc<MemoryStorage>,
    epoch: NodeEpoch,
    index: ObjectId,
    tasks: Tasks,
}

impl Closed {
    fn new() -> Self {
        let metadata = Led::new(Some(Term(1)));
        let apply = |action: Action| metadata.apply(action).expect("is accepted").0.0;
        let register = |node: NodeId, wal: WalKind| RegisterNode {
            node: node.0,
            incarnation: vec![1],
            wal: wal.into(),
            ..RegisterNode::default()
        };
        let sealer = apply(Action::RegisterNode(register(NODE, WalKind::Disk)));
        let epoch = apply(Action::RegisterNode(register(OTHER, WalKind::Object)));
        apply(Action::CreateTopic(CreateTopic {
            name: "t".to_owned(),
            id: vec![1; 16],
            partitions: vec![Replicas {
                nodes: vec![OTHER.0],
            }],
            ..CreateTopic::default()
        }));
        apply(Action::AssignLeaders(AssignLeaders {
            node_epoch: epoch,
            streams: streams(-1),
        }));
        apply(Action::OpenStreams(OpenStreams {
            node_epoch: epoch,
            streams: streams(0),
        }));
        apply(Action::FenceEpoch(FenceEpoch {
            node: OTHER.0,
            epoch,
        }));
        let index = ObjectId {
            node: NODE,
            epoch: NodeEpoch(sealer),
            kind: ObjectKind::Index,
            number: 1,
        };
        let claim = ClaimRecord {
            first: 0,
            next: 10,
            part_end: 10,
            ..ClaimRecord::default()
        };
        let sealed = Sealed {
            at: Some(Position { epoch, at: SEAL }),
            index: Some(index.into()),
            bytes: 1,
            claims: vec![ClaimOfStream {
                stream: 0,
                claim: Some(claim),
                rolls: Vec::new(),
            }],
        };
        apply(Action::CloseEpoch(CloseEpoch {
            node: OTHER.0,
            epoch,
            by: sealer,
            how: Some(Closing::Sealed(sealed)),
        }));
        Self {
            metadata,
            store: Arc::default(),
            epoch: NodeEpoch(epoch),
            index,
            tasks: Tasks::default(),
        }
    }

    fn sweeper(&self) -> Sweeper {
        let metadata = Arc::<Led>::clone(&self.metadata);
        let store = Arc::<MemoryStorage>::clone(&self.store);
        Sweeper::new(metadata, store, GRACE)
    }

    fn start(&self) {
        self.tasks.spawn(TaskKind::Sweeper, self.sweeper().run());
    }

    async fn put(&self, epoch: u64, number: u64) {
        let id = ObjectId {
            node: OTHER,
            epoch: NodeEpoch(epoch),
            kind: ObjectKind::Wal,
            number,
        };
        let body = vec![Bytes::from_static(b"object")];
        let key = layout::object(id);
        let put = self
            .store
            .put(&key, body, PutMode::IfAbsent, IoClass::Upload);
        put.await.expect("puts");
    }

    async fn keys(&self) -> Vec<String> {
        let prefix = ObjectKey::new("wal");
        let listed = self.store.list(&prefix, None);
        let listed: Vec<_> = listed.try_collect().await.expect("lists");
        listed.iter().map(|entry| entry.key.to_string()).collect()
    }

    async fn is_swept(&self) {
        let mut images = self.metadata.watch();
        let swept = images.wait_for(|image| closed(image).is_empty());
        let swept = tokio::time::timeout(GRACE * 100, swept).await;
        drop(swept.expect("is swept").expect("the metadata lives"));
    }
}

// W10, W12: a hedged put arrived after the seal, and a slow sealer put a lower one
#[tokio::test(start_paused = true)]
async fn a_sweep_leaves_the_seal_and_the_objects_that_an_index_covers() {
    let closed = Closed::new();
    let epoch = closed.epoch.0;
    for number in 0..=SEAL + 3 {
        closed.put(epoch, number).await;
    }
    // the prefix of another epoch begins with the same digits
    closed.put(epoch * 10, SEAL + 1).await;
    closed.start();
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    assert_eq!(closed.keys().await.len(), 10, "its grace is not over");
    closed.is_swept().await;
    let mut left: Vec<String> = (0..=SEAL).map(|n| format!("wal/2/{epoch}/{n}")).collect();
    left.push(format!("wal/2/{epoch}0/{}", SEAL + 1));
    left.sort();
    assert_eq!(closed.keys().await, left);
    closed.tasks.stop().await;
}

// W10: the metadata hides the node before its epoch is swept
#[tokio::test(start_paused = true)]
async fn the_seal_of_a_node_that_was_unregistered_is_left() {
    let closed = Closed::new();
    let epoch = closed.epoch.0;
    for number in 0..=SEAL + 3 {
        closed.put(epoch, number).await;
    }
    let unregister = UnregisterNode { node: OTHER.0 };
    let applied = closed.metadata.apply(Action::UnregisterNode(unregister));
    applied.expect("is hidden");
    closed.start();
    closed.is_swept().await;
    let left: Vec<String> = (0..=SEAL).map(|n| format!("wal/2/{epoch}/{n}")).collect();
    assert_eq!(closed.keys().await, left);
    closed.tasks.stop().await;
}

// W10: a controller that was paused between its two looks at the metadata
#[tokio::test(start_paused = true)]
async fn a_sweep_of_an_epoch_that_was_swept_meanwhile_leaves_the_seal() {
    let closed = Closed::new();
    let epoch = closed.epoch.0;
    closed.put(epoch, SEAL).await;
    let swept = EpochSwept {
        node: OTHER.0,
        epoch,
    };
    let applied = closed.metadata.apply(Action::EpochSwept(swept));
    applied.expect("is recorded");
    let again = closed.sweeper().sweep((OTHER, closed.epoch)).await;
    again.expect("has nothing to do");
    assert_eq!(closed.keys().await, [format!("wal/2/{epoch}/{SEAL}")]);
}

// W9, W10, G3: in the end the bucket holds nothing of the epoch but its seal, in whatever order the two tasks work
#[tokio::test(start_paused = true)]
async fn of_a_closed_epoch_whose_topic_is_deleted_only_the_seal_is_left() {
    for swept_first in [true, false] {
        let closed = Closed::new();
        let epoch = closed.epoch.0;
        for number in 0..=SEAL {
            closed.put(epoch, number).await;
        }
        let reap = || {
            let metadata = Arc::<Led>::clone(&closed.metadata);
            let store = Arc::<MemoryStorage>::clone(&closed.store);
            let reaper = Reaper::new(metadata, store, GRACE);
            closed.tasks.spawn(TaskKind::Reaper, reaper.run());
        };
        let delete = || {
            let delete = DeleteTopic { id: vec![1; 16] };
            let deleted = closed.metadata.apply(Action::DeleteTopic(delete));
            deleted.expect("deletes");
        };
        match swept_first {
            true => {
                closed.start();
                closed.is_swept().await;
                assert_eq!(closed.keys().await.len(), 6);
                delete();
                reap();
            }
            false => {
                delete();
                closed.start();
                reap();
                closed.is_swept().await;
            }
        }
        let mut images = closed.metadata.watch();
        let reaped = images.wait_for(|image| image.covered_by(closed.index).is_none());
        let reaped = tokio::time::timeout(GRACE * 100, reaped).await;
        drop(reaped.expect("is deleted").expect("the metadata lives"));
        assert_eq!(closed.keys().await, [format!("wal/2/{epoch}/{SEAL}")]);
        closed.tasks.stop().await;
    }
}
