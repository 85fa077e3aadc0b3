//! The conformance suite, over memory and over a directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use highwater_io::RealDevice;
use highwater_object_format::{DataBlock, Seal, StreamDirectory};
use highwater_object_storage::{
    Gate, Hooked, IoClass, LocalStorage, MemoryStorage, ObjectStorage, Operation, Plan, PutMode,
    layout,
};
use highwater_runtime::{ByteBudget, BytePermit, SeededRng, Tasks};
use highwater_types::{NodeEpoch, ObjectId, WalPosition};
use highwater_wal::conformance::{self, Bench};
use highwater_wal::object::ObjectWalFactory;
use highwater_wal::{ConfirmedBatch, HEAD_BYTES, Known, SealedRange, WalFactory};
use std::sync::Mutex;

use crate::fixture::{self, CLUSTER, NODE, wal_id};

struct ObjectBench {
    factory: ObjectWalFactory,
    memory: ByteBudget,
    store: Arc<Hooked>,
    held: Arc<Mutex<Option<Gate>>>,
    attempts: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
    _dir: Option<tempfile::TempDir>,
}

impl ObjectBench {
    fn new(inner: Arc<dyn ObjectStorage>, dir: Option<tempfile::TempDir>) -> Self {
        let held = Arc::<Mutex<Option<Gate>>>::default();
        let attempts = Arc::<AtomicU64>::default();
        let (gates, counter) = (Arc::clone(&held), Arc::clone(&attempts));
        let store = Hooked::new(inner, move |request| {
            if !matches!(request.operation, Operation::Put { .. }) {
                return Plan::pass();
            }
            counter.fetch_add(1, Ordering::SeqCst);
            match &*gates.lock().expect("a lock") {
                Some(gate) => Plan::pass().held(gate),
                None => Plan::pass(),
            }
        });
        let store = Arc::new(store);
        let memory = ByteBudget::with_reserve(9 << 20, 1 << 20);
        Self {
            factory: fixture::factory(
                Arc::<Hooked>::clone(&store),
                memory.clone(),
                &Tasks::default(),
                1,
            ),
            memory,
            store,
            held,
            attempts,
            fails: Arc::default(),
            _dir: dir,
        }
    }

    /// Another process seals the epoch in the middle of the held puts.
    fn seal_at_first_absent(&self) {
        let inner = Arc::clone(self.store.inner());
        let sealed = async move {
            for number in 0.. {
                let id = wal_id(NodeEpoch(5), number);
                let seal = Seal {
                    cluster: CLUSTER,
                    node: NODE,
                    epoch: id.epoch,
                    number,
                    sealer: NODE,
                    nonce: highwater_types::Uuid([8; 16]),
                };
                let (key, body) = (layout::object(id), vec![seal.encode()]);
                let put = inner.put(&key, body, PutMode::IfAbsent, IoClass::Wal);
                if put.await.is_ok() {
                    return;
                }
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(sealed));
    }
}

impl Bench for ObjectBench {
    fn factory(&self) -> &dyn WalFactory {
        &self.factory
    }

    fn memory(&self) -> &ByteBudget {
        &self.memory
    }

    fn hold(&self, holds: bool) {
        let mut held = self.held.lock().expect("a lock");
        match holds {
            true => *held = Some(Gate::default()),
            false => {
                if let Some(gate) = held.take() {
                    gate.open();
                }
            }
        }
    }

    fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::SeqCst)
    }

    fn fail(&self, fails: bool) {
        if fails && !self.fails.swap(true, Ordering::SeqCst) {
            self.seal_at_first_absent();
        }
    }

    // P2, E1
    fn foreign(&self, epoch: NodeEpoch, end: WalPosition) -> Vec<Known> {
        let older = NodeEpoch(epoch.0 - 1);
        let known = |floor| Known {
            registered: older,
            floor,
            ..Known::default()
        };
        vec![known(None), known(Some(end))]
    }

    fn read_back(&self, range: SealedRange) -> BoxFuture<'_, Vec<ConfirmedBatch>> {
        let store = Arc::clone(self.store.inner());
        async move {
            let mut batches = Vec::new();
            for object in range.objects {
                let key = layout::object(object.id);
                let body = store.get(&key, 0..object.bytes, IoClass::ColdRead).await;
                let body = body.expect("is there");
                for directory in &object.directories {
                    read_part(object.id, &body, directory, &mut batches);
                }
            }
            batches
        }
        .boxed()
    }
}

fn read_part(
    id: ObjectId,
    body: &Bytes,
    directory: &StreamDirectory,
    batches: &mut Vec<ConfirmedBatch>,
) {
    let place = |at: u64| usize::try_from(at).expect("small");
    assert_eq!(&directory.label[..], b"label", "I10");
    for entry in &directory.blocks {
        let from = place(entry.position);
        let block = body.slice(from..from + place(entry.bytes.into()));
        let block = DataBlock::parse(&block, directory.stream, entry).expect("is a block");
        let mut rest = block.body;
        for batch in block.batches {
            let bytes = rest.split_to(place(batch.bytes.into()));
            let roll = directory.rolls.iter().rfind(|roll| roll.base <= batch.base);
            let roll = roll.expect("each batch is in a roll");
            let delta = directory
                .deltas
                .iter()
                .find(|(range, _)| range.start == batch.base);
            batches.push(ConfirmedBatch {
                stream: directory.stream,
                leader_epoch: directory.leader_epoch,
                base: batch.base,
                count: batch.count,
                max_timestamp: batch.max_timestamp,
                delta: delta.map(|(_, delta)| delta.clone()).unwrap_or_default(),
                roll: roll.begins && roll.base == batch.base,
                // a directory has the times of the first and the last batch; the suite's grow with the offsets
                append_time: (batch.base * 11).clamp(roll.first_append, roll.last_append),
                tail_crc: crc32fast::hash(&bytes[HEAD_BYTES..]),
                bytes,
                end: WalPosition {
                    epoch: id.epoch,
                    at: id.number + 1,
                },
                memory: BytePermit::empty(),
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_wal_conforms_over_memory() {
    conformance::run(|| ObjectBench::new(Arc::<MemoryStorage>::default(), None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_wal_conforms_over_a_directory() {
    conformance::run(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let rng = SeededRng::from_seed(1);
        let open = LocalStorage::open(Arc::new(RealDevice), dir.path(), &rng);
        let store =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(open));
        ObjectBench::new(Arc::new(store.expect("opens")), Some(dir))
    })
    .await;
}

// W10: an idle log sends no request
#[tokio::test(start_paused = true)]
async fn an_idle_log_sends_no_request() {
    let fixture = fixture::Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    open.append_durably(0).await;
    let calls = fixture.calls();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(fixture.calls(), calls);
    let listed: Vec<_> = fixture
        .store
        .list(&layout::wal(NODE, NodeEpoch(5)), None)
        .collect()
        .await;
    assert_eq!(listed.len(), 1);
}
