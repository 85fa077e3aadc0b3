//! The contract of a write-ahead log as tests: one for each duty that the traits of the port number (P1 to P15). They
//! run on each backend.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use highwater_runtime::ByteBudget;
use highwater_types::{NodeEpoch, StreamOffset, WalPosition};
use tokio::task::unconstrained;

mod batches;
mod endings;

use self::batches::{Seen, batch, known, leadership, seen};
use crate::{
    AppendReceipt, ConfirmedBatch, ConfirmedSink, HEAD_BYTES, Known, SealedRange, SealedWal, Share,
    WalError, WalFactory, WriteAheadLog, record_bytes,
};

/// The epoch that most tests open the log for; no epoch was registered before.
const EPOCH: NodeEpoch = NodeEpoch(5);
/// An epoch that was never opened.
const BEFORE: NodeEpoch = NodeEpoch(4);
const NEVER: NodeEpoch = NodeEpoch(0);
const START: WalPosition = WalPosition {
    epoch: NEVER,
    at: 0,
};
/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log that was never opened, and the device below it.
pub trait Bench: Send + Sync {
    /// Finds the log, which takes 32 MiB at least.
    fn factory(&self) -> &dyn WalFactory;
    /// The budget that the log reserves memory from: at most 8 MiB, with a reserve of at least 64 KiB.
    fn memory(&self) -> &ByteBudget;
    /// Holds back writes that are about to become durable, or lets them continue.
    fn hold(&self, holds: bool);
    /// How many writes were about to become durable so far.
    fn attempts(&self) -> u64;
    /// Makes writes that are about to become durable fail, or succeed again.
    fn fail(&self, fails: bool);
    /// Metadata that does not belong to a log that was opened for an epoch and ends at a position.
    fn foreign(&self, epoch: NodeEpoch, end: WalPosition) -> Vec<Known>;
    /// Reads back the batches of a range that the log left, as [`SealedWal::Replay`] gives them.
    fn read_back(&self, range: SealedRange) -> BoxFuture<'_, Vec<ConfirmedBatch>>;
}

/// Runs every test, each on a log of its own.
///
/// # Panics
/// If the log violates its contract.
pub async fn run<B: Bench>(fresh: impl Fn() -> B) {
    reading_changes_nothing(&fresh()).await;
    foreign_metadata_is_refused(&fresh()).await;
    a_sealed_epoch_gives_back_what_it_acknowledged(&fresh()).await;
    an_epoch_is_opened_once(&fresh()).await;
    every_refusal_is_given_by_reserve(&fresh()).await;
    a_permit_is_a_promise(&fresh()).await;
    shares_wait_apart(&fresh()).await;
    appends_become_durable_in_order(&fresh()).await;
    nothing_is_acknowledged_early(&fresh()).await;
    endings::nothing_is_acknowledged_after_the_end(&fresh()).await;
    endings::a_fence_ends_the_log_at_once(&fresh()).await;
    what_is_dropped_cancels_nothing(&fresh()).await;
    endings::a_shutdown_leaves_nothing_behind(&fresh()).await;
    endings::a_shutdown_that_is_late_ends_the_log_without_what_is_not_durable(&fresh()).await;
    a_trim_lets_go_of_what_is_below_it(&fresh()).await;
    memory_is_held_with_the_batch(&fresh()).await;
}

/// A sink that keeps the batches that it takes.
#[derive(Debug, Default)]
struct Kept {
    batches: Mutex<Vec<ConfirmedBatch>>,
    /// A receipt that must not be durable before the sink has taken its batch.
    watched: Mutex<Option<AppendReceipt>>,
    was_early: AtomicBool,
}

impl ConfirmedSink for Kept {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        let watched = self.watched.lock();
        let watched = watched.unwrap_or_else(PoisonError::into_inner);
        if watched.as_ref().is_some_and(AppendReceipt::is_durable) {
            self.was_early.store(true, Ordering::SeqCst);
        }
        self.batches().extend(batches);
    }
}

impl Kept {
    fn batches(&self) -> MutexGuard<'_, Vec<ConfirmedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, receipt: Option<AppendReceipt>) {
        let watched = self.watched.lock();
        *watched.unwrap_or_else(PoisonError::into_inner) = receipt;
    }

    fn bases(&self) -> Vec<StreamOffset> {
        self.batches().iter().map(|batch| batch.base).collect()
    }

    fn seen(&self) -> Vec<Seen> {
        self.batches().iter().map(seen).collect()
    }
}

/// An open log, and the batches that it handed over.
struct Open {
    wal: Arc<dyn WriteAheadLog>,
    kept: Arc<Kept>,
}

impl Open {
    async fn new(bench: &dyn Bench) -> Self {
        Self::after(bench, NEVER, EPOCH).await
    }

    /// Opens the log for an epoch that was registered after another epoch.
    async fn after(bench: &dyn Bench, registered: NodeEpoch, epoch: NodeEpoch) -> Self {
        let kept = Arc::new(Kept::default());
        let opened = open(bench, registered, epoch, &kept).await;
        let wal = opened.expect("P4: a later epoch opens the log");
        Self { wal, kept }
    }

    /// Appends a batch to a stream.
    async fn append(&self, stream: u64, base: StreamOffset, bytes: usize) -> AppendReceipt {
        let size = record_bytes(HEAD_BYTES + bytes);
        let permit = self.wal.reserve(size, Share::Common);
        let permit = in_time(permit).await.expect("there is room");
        let batch = batch(base, bytes);
        self.wal.append(permit, &leadership(stream), base, &batch)
    }

    async fn append_durably(&self, base: StreamOffset, bytes: usize) {
        let receipt = self.append(1, base, bytes).await;
        in_time(receipt.wait()).await.expect("is durable");
    }

    /// The position just after the last batch that was handed over.
    fn end(&self) -> WalPosition {
        let kept = self.kept.batches();
        kept.last().map_or(START, |last| last.end)
    }

    async fn close(&self) {
        in_time(self.wal.shutdown(None)).await.expect("closes");
    }
}

async fn open(
    bench: &dyn Bench,
    registered: NodeEpoch,
    epoch: NodeEpoch,
    kept: &Arc<Kept>,
) -> Result<Arc<dyn WriteAheadLog>, WalError> {
    let read = bench.factory().read(known(registered, START)).await?;
    let sink: Arc<dyn ConfirmedSink> = Arc::<Kept>::clone(kept);
    read.open(epoch, sink).await
}

/// The batches that an epoch holds above a floor, for metadata whose last epoch is `registered`.
async fn sealed(
    bench: &dyn Bench,
    registered: NodeEpoch,
    epoch: NodeEpoch,
    floor: WalPosition,
) -> Vec<Seen> {
    let read = bench.factory().read(known(registered, floor)).await;
    let sealed = read.expect("P1: reads").seal(epoch, floor).await;
    let (bytes, groups) = match sealed.expect("P3: seals") {
        SealedWal::Empty => return Vec::new(),
        SealedWal::Replay { bytes, groups } => (bytes, groups),
        SealedWal::Range(range) => {
            let end = range.end;
            let batches = bench.read_back(range).await;
            assert!(batches.iter().all(|batch| batch.end <= end), "P3");
            return batches.iter().map(seen).collect();
        }
    };
    let groups: Vec<_> = groups.collect().await;
    let mut batches = Vec::new();
    let mut bytes_of_groups = 0;
    for group in groups {
        let group = group.expect("P3: is read back");
        bytes_of_groups += group.bytes;
        let ends =
            |batch: &ConfirmedBatch| Some(batch.end) == group.batches.last().map(|last| last.end);
        assert!(group.batches.iter().all(ends), "P8: a group has one end");
        batches.extend(group.batches.iter().map(seen));
    }
    assert!(bytes_of_groups <= bytes, "P3: parts of the whole");
    batches
}

async fn in_time<F: Future>(what: F) -> F::Output {
    let done = tokio::time::timeout(PATIENCE, what).await;
    done.expect("it does not wait for ever")
}

/// Polls a future once.
async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn until(what: impl Fn() -> bool) {
    in_time(async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Appends a batch whose write is held back, and waits until the write is about to become durable.
async fn append_held(bench: &dyn Bench, open: &Open, base: StreamOffset) -> AppendReceipt {
    bench.hold(true);
    let before = bench.attempts();
    let receipt = open.append(1, base, 100).await;
    until(|| bench.attempts() > before).await;
    receipt
}

/// P1
async fn reading_changes_nothing(bench: &dyn Bench) {
    assert!(
        sealed(bench, NEVER, BEFORE, START).await.is_empty(),
        "P1: a new log holds nothing"
    );
    let open = Open::after(bench, BEFORE, EPOCH).await;
    for base in 0..3 {
        open.append_durably(base * 2, 1000).await;
    }
    open.close().await;
    let first = sealed(bench, EPOCH, EPOCH, START).await;
    assert_eq!(first.len(), 3);
    for _ in 0..2 {
        let again = sealed(bench, EPOCH, EPOCH, START).await;
        assert_eq!(again, first, "P1: it is read again as it was");
    }
}

/// P2, P1
async fn foreign_metadata_is_refused(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    open.append_durably(0, 100).await;
    open.append_durably(2, 100).await;
    open.close().await;
    let before = sealed(bench, EPOCH, EPOCH, START).await;
    let foreign = bench.foreign(EPOCH, open.end());
    assert!(!foreign.is_empty());
    for known in foreign {
        let mut reasons = Vec::new();
        for _ in 0..2 {
            let read = bench.factory().read(known).await;
            let refused = read.expect_err("P2: it is not the log's metadata");
            let is_damaged = matches!(refused, WalError::Damaged { .. });
            assert!(is_damaged, "P2: {refused}");
            reasons.push(refused.to_string());
        }
        assert_eq!(reasons[0], reasons[1], "P1: for the same reason");
    }
    let after = sealed(bench, EPOCH, EPOCH, START).await;
    assert_eq!(after, before, "P1: one that is refused changes nothing");
}

/// P3
async fn a_sealed_epoch_gives_back_what_it_acknowledged(bench: &dyn Bench) {
    let first = Open::new(bench).await;
    for base in 0..40 {
        let bytes = usize::try_from(base * 137).expect("few");
        first.append_durably(base * 2, bytes).await;
    }
    first.close().await;
    let later = NodeEpoch(7);
    let second = Open::after(bench, EPOCH, later).await;
    second.append_durably(80, 3000).await;
    second.close().await;
    let (of_first, of_second) = (first.kept.seen(), second.kept.seen());
    let found = sealed(bench, later, EPOCH, START).await;
    assert_eq!(found, of_first, "P3: as it was handed over, in that order");
    let found = sealed(bench, later, later, START).await;
    assert_eq!(found, of_second, "P3: nothing of another epoch");
    let none = sealed(bench, NodeEpoch(9), NodeEpoch(9), START).await;
    assert!(none.is_empty(), "P3: it never wrote");
    let floor = first.kept.batches()[20].end;
    let above: Vec<_> = of_first
        .into_iter()
        .filter(|(.., end)| *end > floor)
        .collect();
    let found = sealed(bench, NodeEpoch(9), EPOCH, floor).await;
    assert_eq!(found, above, "P3: what lies above the floor alone");
    let is_later = second.kept.batches()[0].end > first.end();
    assert!(is_later, "P8: positions go up over epochs");
}

/// P4
async fn an_epoch_is_opened_once(bench: &dyn Bench) {
    let first = Open::new(bench).await;
    first.append_durably(0, 100).await;
    first.close().await;
    let again = open(bench, EPOCH, EPOCH, &first.kept).await;
    assert!(again.is_err(), "P4: it wrote before");
    let next = Open::after(bench, EPOCH, NodeEpoch(6)).await;
    next.append_durably(2, 100).await;
    next.close().await;
}

/// P5
async fn every_refusal_is_given_by_reserve(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    for share in [Share::Common, Share::Reserve] {
        let never = in_time(open.wal.reserve(1 << 50, share)).await;
        let is_told = matches!(never, Err(WalError::TooLarge(_)));
        assert!(is_told, "P5: {never:?}");
    }
    open.wal.check().expect("P5: it takes what fits");
    let size = record_bytes(HEAD_BYTES + 100);
    let permit = in_time(open.wal.reserve(size, Share::Common)).await;
    let permit = permit.expect("there is room");
    open.close().await;
    let late = in_time(open.wal.reserve(size, Share::Common)).await;
    assert!(matches!(late, Err(WalError::Ended)), "P5: {late:?}");
    assert!(open.wal.try_reserve(size).is_none(), "P5");
    let late = in_time(open.wal.reserve(size, Share::Unbounded)).await;
    assert!(matches!(late, Err(WalError::Ended)), "P5: {late:?}");
    let told = open.wal.check();
    assert!(matches!(told, Err(WalError::Ended)), "P5: {told:?}");
    let late = batch(0, 100);
    let late = open.wal.append(permit, &leadership(1), 0, &late);
    let late = in_time(late.wait()).await;
    assert!(matches!(late, Err(WalError::Ended)), "P5: {late:?}");
}

/// P6
async fn a_permit_is_a_promise(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let all = bench.memory().limit();
    let mut promised = in_time(open.wal.reserve(all, Share::Common)).await;
    let promised = promised.as_mut().expect("it is free");
    assert_eq!(promised.bytes(), all, "P6");
    let mut next = Box::pin(unconstrained(open.wal.reserve(1000, Share::Common)));
    let had = poll_once(next.as_mut()).await;
    assert!(had.is_none(), "P6: it is promised already");
    let part = promised.split(all / 2);
    assert_eq!((part.bytes(), promised.bytes()), (all / 2, all - all / 2));
    let had = poll_once(next.as_mut()).await;
    assert!(had.is_none(), "P6: a part is promised too");
    drop(part);
    let overtakes = open.wal.try_reserve(1000);
    assert!(overtakes.is_none(), "P7: another waits for it");
    let next = in_time(next).await.expect("P6: what is given back");
    assert_eq!(bench.memory().used(), all - all / 2 + 1000, "P6");
    let room = open.wal.room();
    assert!(room.used >= all - all / 2 + 1000, "P6: {room:?}");
    assert!(open.wal.try_reserve(all).is_none(), "P6: there is less");
    assert_eq!(bench.memory().used(), all - all / 2 + 1000, "P6");
    let free = open.wal.try_reserve(1000).expect("P6: what is free");
    assert_eq!(free.bytes(), 1000, "P6");
    drop((next, free));
    open.close().await;
}

/// P7
async fn shares_wait_apart(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let all = bench.memory().limit();
    let held = in_time(open.wal.reserve(all, Share::Common)).await;
    let held = held.expect("it is free");
    let mut common = Box::pin(unconstrained(open.wal.reserve(1000, Share::Common)));
    let had = poll_once(common.as_mut()).await;
    assert!(had.is_none(), "P7: produce waits");
    let reserve = in_time(open.wal.reserve(32 << 10, Share::Reserve)).await;
    let reserve = reserve.expect("P7: the reserve is behind no produce");
    let mut more = Box::pin(unconstrained(open.wal.reserve(all, Share::Unbounded)));
    let more = poll_once(more.as_mut()).await;
    let more = more.expect("P7: at once").expect("P7: past every bound");
    let had = poll_once(common.as_mut()).await;
    assert!(had.is_none(), "P7: produce waits still");
    drop((held, reserve, more));
    drop(in_time(common).await.expect("P7: its turn comes"));
    open.close().await;
}

/// P8
async fn appends_become_durable_in_order(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let mut receipts = Vec::new();
    for base in 0..200 {
        let bytes = usize::try_from(base * 37 % 5000).expect("small");
        for stream in [1, 2] {
            receipts.push(open.append(stream, base * 2, bytes).await);
        }
    }
    let last = AppendReceipt::last_of(receipts.iter()).cloned();
    let last = last.expect("some");
    in_time(last.wait()).await.expect("is durable");
    let are_durable = receipts.iter().all(AppendReceipt::is_durable);
    assert!(are_durable, "P8: none is durable before those before it");
    open.close().await;
    let kept = open.kept.batches();
    let found = kept.iter().map(|batch| (batch.stream.0, batch.base));
    let appended = (0..200).flat_map(|base| [(1, base * 2), (2, base * 2)]);
    assert!(found.eq(appended), "P8: each once, in the order of appends");
    let ascend = kept.windows(2).all(|pair| pair[0].end <= pair[1].end);
    assert!(ascend, "P8: positions go up");
}

/// P9
async fn nothing_is_acknowledged_early(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    // repeated, because the write that is held back may not be that of the batch
    for base in 0..4 {
        let taken = open.kept.bases().len();
        let receipt = append_held(bench, &open, base * 2).await;
        open.kept.watch(Some(receipt.clone()));
        assert!(!receipt.is_durable(), "P9: it is not durable");
        assert_eq!(open.kept.bases().len(), taken, "P9: nor handed over");
        bench.hold(false);
        in_time(receipt.wait()).await.expect("is durable");
        open.kept.watch(None);
        assert_eq!(open.kept.bases().len(), taken + 1, "P9: was handed over");
        let was_early = open.kept.was_early.load(Ordering::SeqCst);
        assert!(
            !was_early,
            "P9: the sink has it before the receipt resolves"
        );
    }
    open.close().await;
}

/// P11
async fn what_is_dropped_cancels_nothing(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let all = bench.memory().limit();
    let held = in_time(open.wal.reserve(all, Share::Common)).await;
    let mut dropped = Box::pin(unconstrained(open.wal.reserve(all, Share::Common)));
    let mut next = Box::pin(unconstrained(open.wal.reserve(1000, Share::Common)));
    assert!(poll_once(dropped.as_mut()).await.is_none());
    assert!(poll_once(next.as_mut()).await.is_none());
    drop(dropped);
    drop(held);
    let next = in_time(next).await.expect("P11: its turn comes");
    assert_eq!(bench.memory().used(), 1000, "P11: one given up has nothing");
    drop(next);

    drop(open.append(1, 0, 100).await);
    let receipt = append_held(bench, &open, 2).await;
    let mut wait = Box::pin(receipt.wait());
    assert!(poll_once(wait.as_mut()).await.is_none());
    drop(wait);
    drop(receipt);
    let mut shutdown = open.wal.shutdown(None);
    assert!(poll_once(shutdown.as_mut()).await.is_none());
    drop(shutdown);
    bench.hold(false);
    let ended = in_time(open.wal.ended()).await;
    assert!(ended.is_none(), "P11: the shutdown goes on: {ended:?}");
    assert_eq!(open.kept.bases(), [0, 2], "P11: both became durable");
}

/// P13
async fn a_trim_lets_go_of_what_is_below_it(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    for base in 0..6 {
        open.append_durably(base * 2, 100_000).await;
    }
    let full = open.wal.room().used;
    assert!(full >= 600_000, "P13: {full}");
    let floor = open.kept.batches()[3].end;
    open.wal.trim(floor);
    until(|| open.wal.room().used <= full - 400_000).await;
    let left = open.wal.room().used;
    assert!(left >= 200_000, "P13: what is above keeps its room: {left}");
    open.wal.trim(START);
    assert_eq!(open.wal.room().used, left, "P13: a lower one is nothing");
    open.append_durably(12, 100).await;
    open.close().await;
    let mut above = open.kept.seen();
    above.retain(|(.., end)| *end > floor);
    let found = sealed(bench, EPOCH, EPOCH, floor).await;
    assert_eq!(found, above, "P13: what is above is there");
}

/// P14
async fn memory_is_held_with_the_batch(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let memory = bench.memory();
    for base in 0..8 {
        open.append_durably(base * 2, 50_000).await;
    }
    let (bytes, held) = {
        let kept = open.kept.batches();
        let bytes = kept.iter().map(|batch| batch.bytes.len() as u64);
        let held = kept.iter().map(|batch| batch.memory.bytes());
        (bytes.sum::<u64>(), held.sum::<u64>())
    };
    assert!(held >= bytes, "P14: {held} for {bytes}");
    assert_eq!(memory.used(), held, "P14: by nothing but the batches");
    let before = memory.used();
    open.wal.trim(open.end());
    assert_eq!(memory.used(), before, "P14: whatever is trimmed");
    open.kept.batches().truncate(4);
    assert!(memory.used() < before, "P14: it goes with the batch");
    open.kept.batches().clear();
    open.close().await;
    until(|| memory.used() == 0).await;
}
