//! Random delays, lost answers and pauses: every acknowledged batch is in the sealed range, once and in order.

use std::time::Duration;

use futures::future::join;
use highwater_object_format::StreamDirectory;
use highwater_object_storage::{Failure, Operation, Plan, Request};
use highwater_runtime::SeededRng;
use highwater_types::{NodeEpoch, WalPosition};
use highwater_wal::SealedRange;
use tokio::time::{sleep, timeout};

use crate::fixture::{Fixture, numbers};

const HOUR: Duration = Duration::from_secs(3600);
const BATCHES: i64 = 100;

/// How a request goes: mostly well, after a random time.
fn plan(rng: &SeededRng, request: &Request<'_>) -> Plan {
    let plan = match (rng.below(20), &request.operation) {
        (0, _) => Plan::hang(),
        (1, _) => Plan::fail(Failure::Failed("503")),
        (2, Operation::Put { .. }) => Plan::fail(Failure::Unknown),
        (3, Operation::Put { .. }) => Plan::pass().answered(Failure::Unknown),
        (4, Operation::Put { .. }) => Plan::pass().answered(Failure::Precondition),
        (5, Operation::Put { .. }) => Plan::fail(Failure::Precondition),
        (6, Operation::Put { .. }) => Plan::pass().answer_hangs(),
        (7, Operation::Put { .. }) => Plan::pass().delayed(Duration::from_secs(rng.below(60))),
        _ => Plan::pass(),
    };
    let delay = |rng: &SeededRng| Duration::from_micros(rng.below(60_000));
    let plan = plan.delayed(delay(rng)).answer_delayed(delay(rng));
    match request.operation {
        Operation::Put { .. } | Operation::Delete(_) => plan.detached(),
        _ => plan,
    }
}

fn offsets(range: &SealedRange) -> Vec<i64> {
    let directories = range.objects.iter().flat_map(|object| &object.directories);
    let range = |directory: &StreamDirectory| directory.range.clone();
    directories.flat_map(range).collect()
}

/// Writes, trims, and seals in the middle; returns how many batches were acknowledged.
async fn one(seed: u64) -> usize {
    let rng = SeededRng::from_seed(seed);
    let plans = rng.clone();
    let fixture = Fixture::new(move |request| plan(&plans, request));
    let open = fixture.open(5).await;
    let epoch = NodeEpoch(5);
    let floor = rng.below(3);
    let mut receipts = Vec::new();
    let write = async {
        for base in 0..BATCHES {
            if open.wal.check().is_err() {
                break;
            }
            receipts.push(open.append(base).await);
            sleep(Duration::from_micros(rng.below(5000))).await;
            if open.offsets().len() > 20 {
                open.wal.trim(WalPosition { epoch, at: floor });
            }
        }
    };
    let seal = async {
        sleep(Duration::from_millis(rng.below(2000))).await;
        // the floor is committed only after that part is durable
        let committed = if open.offsets().len() > 20 { floor } else { 0 };
        let (first, second) =
            join(fixture.seal(5, committed, 2), fixture.seal(5, committed, 3)).await;
        let (first, second) = (first.expect("seals"), second.expect("seals"));
        assert_eq!(
            first.end, second.end,
            "one of two sealers wins, seed {seed}"
        );
        assert_eq!(numbers(&first), numbers(&second), "seed {seed}");
        assert!(numbers(&first).into_iter().eq(committed..first.end.at));
        first
    };
    let ((), sealed) = timeout(HOUR, join(write, seal)).await.expect("ends");
    // W11: the zombie goes on, and learns of its end by its next append
    if open.wal.check().is_ok() {
        let last = open.append(BATCHES).await;
        let told = timeout(HOUR, last.wait()).await.expect("is told");
        told.expect_err("W11: it is after the seal");
    }
    timeout(HOUR, open.wal.ended()).await.expect("is fenced");
    let acknowledged = receipts.iter().filter(|receipt| receipt.is_durable());
    let acknowledged = acknowledged.count();
    let acknowledged_end = i64::try_from(acknowledged).expect("few");
    let shown = open.offsets();
    assert_eq!(shown.len(), acknowledged, "W2, seed {seed}");
    assert!(
        shown.iter().copied().eq(0..acknowledged_end),
        "W2, seed {seed}"
    );
    let sealed = offsets(&sealed);
    let (first, end) = match (sealed.first(), sealed.last()) {
        (Some(first), Some(last)) => (*first, last + 1),
        _ => (0, 0),
    };
    assert!(sealed.into_iter().eq(first..end), "W7, seed {seed}");
    assert!(
        acknowledged_end <= end.max(first),
        "W11: {acknowledged_end} acknowledged, and {end} sealed, seed {seed}"
    );
    acknowledged
}

#[tokio::test(start_paused = true)]
async fn every_acknowledged_batch_is_in_the_sealed_range() {
    let mut acknowledged = 0;
    for seed in 0..60 {
        acknowledged += one(seed).await;
    }
    assert!(acknowledged > 500, "{acknowledged} is too few to mean much");
}
