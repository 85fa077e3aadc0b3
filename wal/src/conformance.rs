//! What every write-ahead log must do; run for each backend.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId, StreamOffset, WalPosition};

use crate::{
    AppendReceipt, ConfirmedBatch, ConfirmedSink, HEAD_BYTES, SealedWal, Share, StreamBatch,
    WalError, WalFactory, WriteAheadLog, record_bytes,
};

const NODE: NodeId = NodeId(1);
const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// Keeps what it is handed: stream, base offset, bytes, end.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<ConfirmedBatch>>);

impl ConfirmedSink for Kept {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        self.lock().extend(batches);
    }
}

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ConfirmedBatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn batch(base: StreamOffset, bytes: usize) -> StreamBatch {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&base.to_be_bytes());
    let fill = base.to_be_bytes()[7];
    let tail = Bytes::from(vec![fill; bytes]);
    StreamBatch {
        count: 2,
        max_timestamp: base * 10,
        head,
        tail_crc: crc32fast::hash(&tail),
        tail,
        delta: Bytes::from(vec![fill; 28]),
        roll: base == 4,
        append_time: base * 11,
    }
}

/// What of a batch must come back as it was.
fn seen(batch: &ConfirmedBatch) -> (StreamId, StreamOffset, u32, i64, Bytes, bool, Bytes) {
    assert_eq!(batch.tail_crc, crc32fast::hash(&batch.bytes[HEAD_BYTES..]));
    assert_eq!(batch.append_time, batch.base * 11);
    (
        batch.stream,
        batch.base,
        batch.count,
        batch.max_timestamp,
        batch.delta.clone(),
        batch.roll,
        batch.bytes.clone(),
    )
}

async fn append(
    wal: &dyn WriteAheadLog,
    stream: u64,
    base: StreamOffset,
    bytes: usize,
) -> AppendReceipt {
    let batch = batch(base, bytes);
    let size = record_bytes(16 + bytes);
    let permit = wal
        .reserve(size, Share::Common)
        .await
        .expect("there is room");
    wal.append(permit, StreamId(stream), EPOCH, base, &batch)
}

async fn replay(
    factory: &dyn WalFactory,
    epoch: u64,
    floor: WalPosition,
) -> Result<Vec<ConfirmedBatch>, WalError> {
    let read = factory.read(NODE, NodeEpoch(epoch - 1), floor).await?;
    let SealedWal::Replay { batches, .. } = read.seal(NodeEpoch(epoch)).await?;
    let batches: Vec<Result<ConfirmedBatch, WalError>> = batches.collect().await;
    batches.into_iter().collect()
}

/// Opens it for an epoch that was registered after `registered`.
async fn open(
    factory: &dyn WalFactory,
    (registered, epoch): (u64, u64),
    sink: Arc<dyn ConfirmedSink>,
    floor: WalPosition,
) -> Result<Arc<dyn WriteAheadLog>, WalError> {
    let read = factory.read(NODE, NodeEpoch(registered), floor).await?;
    read.open(NodeEpoch(epoch), sink).await
}

/// Runs the suite against a log that nobody has opened yet, of at least 16 MiB.
///
/// # Panics
/// Where the log does not do it.
pub async fn run(factory: &dyn WalFactory) {
    let start = WalPosition::default();
    let none = replay(factory, 1, start).await.expect("an empty log");
    assert!(none.is_empty(), "a new log holds nothing");

    let kept = Arc::new(Kept::default());
    let sink: Arc<dyn ConfirmedSink> = Arc::<Kept>::clone(&kept);
    let opened = open(factory, (0, 5), sink, start).await;
    let wal = opened.expect("a log that is closed opens");
    durable_before_told(&*wal, &kept).await;
    order_is_kept(&*wal, &kept).await;
    permits_split(&*wal).await;
    let floor = kept.lock()[1].end;
    let above: Vec<_> = kept
        .lock()
        .iter()
        .filter(|batch| batch.end > floor)
        .map(seen)
        .collect();
    wal.trim(floor).await.expect("trims");
    wal.trim(start)
        .await
        .expect("a floor that is lower changes nothing");
    wal.shutdown().await.expect("closes");
    ended(&*wal).await;

    let back = replay(factory, 6, floor).await.expect("reads back");
    let back: Vec<_> = back.iter().map(seen).collect();
    assert!(above.len() > 100, "most lies above the floor");
    assert_eq!(
        back, above,
        "what was confirmed comes back as it was, in order"
    );
    let again = replay(factory, 6, floor).await.expect("reads back again");
    assert_eq!(again.len(), back.len(), "reading changes nothing");

    let sink: Arc<dyn ConfirmedSink> = Arc::new(Kept::default());
    let again = open(factory, (5, 5), Arc::clone(&sink), floor).await;
    assert!(again.is_err(), "an epoch is opened once (D2)");
    let reasons = [0, 4, 4].map(|registered| factory.read(NODE, NodeEpoch(registered), floor));
    for older in futures::future::join_all(reasons).await {
        let refused = matches!(older, Err(WalError::Damaged { .. }));
        assert!(refused, "nothing is given back to older metadata (D2)");
    }
    let next = open(factory, (6, 7), sink, floor).await;
    let next = next.expect("a later one goes on");
    let mut receipt = append(&*next, 9, 0, 100).await;
    receipt.wait().await.expect("is durable");
    assert!(next.confirmed() > floor, "positions only grow");
    next.shutdown().await.expect("closes");
}

/// I1, I2: who is told can read it.
async fn durable_before_told(wal: &dyn WriteAheadLog, kept: &Kept) {
    let before = wal.confirmed();
    let mut receipt = append(wal, 1, 0, 1000).await;
    receipt.wait().await.expect("is durable");
    assert!(receipt.is_durable());
    let found = kept.lock().iter().any(|found| found.base == 0);
    assert!(found, "it was handed over before its receipt resolved");
    // what a receipt that is dropped was for becomes durable all the same
    drop(append(wal, 1, 2, 10).await);
    let mut last = append(wal, 2, 0, 10).await;
    last.wait().await.expect("is durable");
    assert!(wal.confirmed() > before);
}

async fn order_is_kept(wal: &dyn WriteAheadLog, kept: &Kept) {
    let mut last = None;
    for base in 2..200 {
        let bytes = usize::try_from(base * 37 % 5000).expect("small");
        last = Some(append(wal, 1, base * 2, bytes).await);
    }
    let mut last = last.expect("some were appended");
    last.wait().await.expect("is durable");
    let kept = kept.lock();
    let ends = kept.windows(2).all(|pair| pair[0].end <= pair[1].end);
    assert!(ends, "positions ascend");
    for stream in [1, 2] {
        let of: Vec<_> = kept.iter().filter(|one| one.stream.0 == stream).collect();
        let contiguous = of.windows(2).all(|pair| pair[0].base + 2 == pair[1].base);
        assert!(
            contiguous,
            "a stream's batches come in the order of its offsets"
        );
    }
    let intact = kept.iter().all(|one| {
        let fill = one.base.to_be_bytes()[7];
        one.leader_epoch == EPOCH
            && one.bytes[..8] == one.base.to_be_bytes()
            && one.bytes[16..].iter().all(|byte| *byte == fill)
    });
    assert!(intact, "head and tail are one batch");
}

/// A1, M1: every refusal is given where room is reserved.
async fn permits_split(wal: &dyn WriteAheadLog) {
    let never = wal.reserve(1 << 50, Share::Common).await;
    assert!(matches!(never, Err(WalError::TooLarge(_))), "{never:?}");
    let one = record_bytes(16 + 10);
    let mut both = wal
        .reserve(one * 2, Share::Common)
        .await
        .expect("there is room");
    let first = both.split(one);
    assert_eq!((first.bytes(), both.bytes()), (one, one));
    let mut last = wal.append(first, StreamId(3), EPOCH, 0, &batch(0, 10));
    drop(last.wait().await);
    last = wal.append(both, StreamId(3), EPOCH, 2, &batch(2, 10));
    last.wait().await.expect("is durable");
}

async fn ended(wal: &dyn WriteAheadLog) {
    wal.ended().await;
    let refused = wal.reserve(100, Share::Common).await;
    assert!(matches!(refused, Err(WalError::Ended)), "{refused:?}");
}
