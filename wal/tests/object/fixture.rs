//! A log over a store that a test controls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use highwater_object_format::Seal;
use highwater_object_storage::{
    Gate, Hooked, IoClass, MemoryStorage, ObjectKey, ObjectStorage, Operation, Plan, PutMode,
    Request, RequestKind, layout,
};
use highwater_runtime::{ByteBudget, SeededRng, Tasks};
use highwater_types::{
    ClusterId, LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, Uuid,
    WalPosition,
};
use highwater_wal::object::{Batching, Config, ObjectWalFactory, Ports, Repeats};
use highwater_wal::{
    AppendReceipt, ConfirmedBatch, ConfirmedSink, Known, Leadership, SealedRange, SealedWal, Share,
    StreamBatch, WalError, WalFactory, WriteAheadLog, record_bytes,
};

pub(crate) const CLUSTER: ClusterId = Uuid([7; 16]);
pub(crate) const NODE: NodeId = NodeId(1);
const BATCH_BYTES: usize = 100;

pub(crate) fn wal_id(epoch: NodeEpoch, number: u64) -> ObjectId {
    ObjectId {
        node: NODE,
        epoch,
        kind: ObjectKind::Wal,
        number,
    }
}

/// The log of a process whose nonce consists of this byte.
pub(crate) fn factory(
    storage: Arc<dyn ObjectStorage>,
    memory: ByteBudget,
    tasks: &Tasks,
    nonce: u8,
) -> ObjectWalFactory {
    let batching = Batching {
        token_interval: Duration::ZERO,
        ..Batching::default()
    };
    batching_factory(storage, memory, tasks, nonce, batching)
}

fn batching_factory(
    storage: Arc<dyn ObjectStorage>,
    memory: ByteBudget,
    tasks: &Tasks,
    nonce: u8,
    batching: Batching,
) -> ObjectWalFactory {
    let config = Config {
        cluster: CLUSTER,
        node: NODE,
        nonce: Uuid([nonce; 16]),
        batching,
        repeats: Repeats::default(),
    };
    let ports = Ports {
        storage,
        tasks: tasks.clone(),
        rng: SeededRng::from_seed(nonce.into()),
        memory,
    };
    ObjectWalFactory::new(config, ports)
}

/// A store, and logs over it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<Hooked>,
    pub(crate) memory: ByteBudget,
    /// The tasks end with it.
    tasks: Tasks,
}

/// Keeps the offsets of the batches that became durable, and lets go of their memory.
#[derive(Debug, Default)]
pub(crate) struct Offsets(Mutex<Vec<StreamOffset>>);

impl ConfirmedSink for Offsets {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        let mut offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.extend(batches.iter().map(|batch| batch.base));
    }
}

/// An open log. Each batch has one offset, and the next batch the next one.
pub(crate) struct Open {
    pub(crate) wal: Arc<dyn WriteAheadLog>,
    offsets: Arc<Offsets>,
}

impl Fixture {
    pub(crate) fn new(hook: impl Fn(&Request<'_>) -> Plan + Send + Sync + 'static) -> Self {
        Self {
            store: Arc::new(Hooked::new(Arc::<MemoryStorage>::default(), hook)),
            memory: ByteBudget::new(8 << 20),
            tasks: Tasks::default(),
        }
    }

    /// A store whose puts wait for a gate.
    pub(crate) fn that_holds_puts() -> (Self, Gate) {
        let gate = Gate::default();
        let held = gate.clone();
        let fixture = Self::new(move |request| match request.operation {
            Operation::Put { .. } => Plan::pass().held(&held),
            _ => Plan::pass(),
        });
        (fixture, gate)
    }

    pub(crate) fn factory(&self, nonce: u8) -> ObjectWalFactory {
        let store = Arc::<Hooked>::clone(&self.store);
        factory(store, self.memory.clone(), &self.tasks, nonce)
    }

    pub(crate) async fn open(&self, epoch: u64) -> Open {
        Self::open_with(self.factory(1), epoch).await
    }

    /// Opens a log with the budget of the default (W4).
    pub(crate) async fn open_with_budget(&self, epoch: u64) -> Open {
        let (store, memory) = (Arc::<Hooked>::clone(&self.store), self.memory.clone());
        let factory = batching_factory(store, memory, &self.tasks, 1, Batching::default());
        Self::open_with(factory, epoch).await
    }

    async fn open_with(factory: ObjectWalFactory, epoch: u64) -> Open {
        let offsets = Arc::<Offsets>::default();
        let read = factory.read(Known::default()).await.expect("reads");
        let sink: Arc<dyn ConfirmedSink> = Arc::<Offsets>::clone(&offsets);
        let wal = read.open(NodeEpoch(epoch), sink).await.expect("opens");
        Open { wal, offsets }
    }

    /// Seals an epoch from a floor upward, by a sealer with a nonce of its own.
    pub(crate) async fn seal(
        &self,
        epoch: u64,
        floor: u64,
        nonce: u8,
    ) -> Result<SealedRange, WalError> {
        let known = Known {
            registered: NodeEpoch(epoch),
            ..Known::default()
        };
        let read = self.factory(nonce).read(known).await.expect("reads");
        let epoch = NodeEpoch(epoch);
        let sealed = read.seal(epoch, WalPosition { epoch, at: floor }).await?;
        let SealedWal::Range(range) = sealed else {
            unreachable!("an object WAL leaves a range: {sealed:?}");
        };
        Ok(range)
    }

    pub(crate) fn calls(&self) -> usize {
        let kinds = [
            RequestKind::Put,
            RequestKind::Get,
            RequestKind::List,
            RequestKind::Delete,
        ];
        kinds.map(|kind| self.store.calls(kind)).iter().sum()
    }

    pub(crate) async fn body(&self, epoch: u64, number: u64) -> Option<Bytes> {
        let key = layout::object(wal_id(NodeEpoch(epoch), number));
        let read = self.store.inner().get(&key, 0..1 << 30, IoClass::ColdRead);
        read.await.ok()
    }

    /// Puts other bytes under the key of a number, and returns the key.
    pub(crate) async fn overwrite(&self, epoch: u64, number: u64, body: Bytes) -> ObjectKey {
        let key = layout::object(wal_id(NodeEpoch(epoch), number));
        let store = self.store.inner();
        let put = store.put(&key, vec![body], PutMode::Overwrite, IoClass::Wal);
        put.await.expect("is put");
        key
    }

    pub(crate) async fn is_seal(&self, epoch: u64, number: u64) -> bool {
        let body = self.body(epoch, number).await;
        body.is_some_and(|body| Seal::parse(&body).is_ok())
    }
}

/// The numbers of the group commits in a sealed range.
pub(crate) fn numbers(range: &SealedRange) -> Vec<u64> {
    range
        .objects
        .iter()
        .map(|object| object.id.number)
        .collect()
}

impl Open {
    /// Appends the batch of an offset, and waits until it is a group of its own: the writer has put all before it.
    pub(crate) async fn append(&self, base: StreamOffset) -> AppendReceipt {
        self.append_bytes(base, BATCH_BYTES).await
    }

    /// Does the same with a batch of this size.
    pub(crate) async fn append_bytes(&self, base: StreamOffset, bytes: usize) -> AppendReceipt {
        let permit = self.wal.reserve(record_bytes(bytes), Share::Common);
        let permit = permit.await.expect("has room");
        let tail = Bytes::from(vec![base.to_be_bytes()[7]; bytes - 16]);
        let batch = StreamBatch {
            count: 1,
            max_timestamp: base,
            head: [0; 16],
            tail_crc: crc32fast::hash(&tail),
            tail,
            delta: Bytes::from_static(b"delta"),
            roll: false,
            append_time: base,
        };
        let of = Leadership {
            stream: StreamId(1),
            epoch: LeaderEpoch(1),
            label: Bytes::from_static(b"label"),
        };
        let receipt = self.wal.append(permit, &of, base, &batch);
        // the runtime of a test has one thread, and runs the writer now
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        receipt
    }

    pub(crate) async fn append_durably(&self, base: StreamOffset) {
        let receipt = self.append(base).await;
        receipt.wait().await.expect("is durable");
    }

    pub(crate) fn offsets(&self) -> Vec<StreamOffset> {
        let offsets = self.offsets.0.lock();
        offsets.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
