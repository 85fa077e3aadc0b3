//! Puts on a store that delays, hangs and loses answers (W1 to W4, W6).

use std::time::Duration;

use futures::FutureExt;
use highwater_object_storage::{Failure, Gate, IoClass, Operation, Plan, Request, RequestKind};
use tokio::time::{Instant, timeout};

use crate::fixture::{Fixture, numbers};

const HOUR: Duration = Duration::from_secs(3600);

fn is_put(request: &Request<'_>, number: u64) -> bool {
    let is_put = matches!(request.operation, Operation::Put { .. });
    is_put && request.key.as_str().ends_with(&format!("/{number}"))
}

// W2
#[tokio::test(start_paused = true)]
async fn a_put_that_finishes_early_acknowledges_and_shows_nothing() {
    let gate = Gate::default();
    let held = gate.clone();
    let fixture = Fixture::new(move |request| match is_put(request, 0) {
        true => Plan::pass().held(&held),
        false => Plan::pass(),
    });
    let open = fixture.open(5).await;
    let mut receipts = Vec::new();
    for base in 0..5 {
        receipts.push(open.append(base).await);
    }
    for number in 1..5 {
        assert!(fixture.body(5, number).await.is_some(), "{number} is put");
    }
    assert!(receipts.iter().all(|receipt| !receipt.is_durable()));
    assert!(open.offsets().is_empty());
    gate.open();
    receipts[4].wait().await.expect("is durable");
    assert_eq!(open.offsets(), [0, 1, 2, 3, 4]);
}

// W1, W3: a hedge has the same bytes, and does not wait for its twin
#[tokio::test(start_paused = true)]
async fn a_put_that_hangs_for_ever_is_hedged_with_the_same_bytes() {
    let bodies = std::sync::Arc::<std::sync::Mutex<Vec<Vec<u8>>>>::default();
    let sent = std::sync::Arc::clone(&bodies);
    let fixture = Fixture::new(move |request| {
        if let Operation::Put { body, .. } = &request.operation {
            sent.lock().expect("a lock").push(body.concat());
        }
        match is_put(request, 1) && request.nth == 0 {
            true => Plan::hang(),
            false => Plan::pass(),
        }
    });
    let open = fixture.open(5).await;
    open.append_durably(0).await;
    let since = Instant::now();
    open.append_durably(1).await;
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "the hedge is soon"
    );
    let bodies = bodies.lock().expect("a lock");
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[1], bodies[2]);
}

// W3: whatever the answers are, each batch becomes durable once and in order
#[tokio::test(start_paused = true)]
async fn lost_and_wrong_answers_are_resolved_by_reading() {
    let plans: [fn(usize) -> Plan; 6] = [
        |nth| match nth {
            0 => Plan::pass().answered(Failure::Unknown),
            _ => Plan::pass(),
        },
        |nth| match nth {
            0 => Plan::fail(Failure::Unknown),
            _ => Plan::pass(),
        },
        // the store says that our own put exists already
        |nth| match nth {
            0 => Plan::pass().answered(Failure::Precondition),
            _ => Plan::pass(),
        },
        |nth| match nth {
            0..5 => Plan::fail(Failure::Failed("slow down")),
            _ => Plan::pass(),
        },
        |nth| match nth {
            0 => Plan::pass().answer_hangs(),
            _ => Plan::pass(),
        },
        // a conflict although nothing is there
        |nth| match nth {
            0 => Plan::fail(Failure::Precondition),
            _ => Plan::pass(),
        },
    ];
    for (at, plan) in plans.into_iter().enumerate() {
        let fixture = Fixture::new(move |request| match request.operation {
            Operation::Put { .. } => plan(request.nth),
            _ => Plan::pass(),
        });
        let open = fixture.open(5).await;
        for base in 0..4 {
            let receipt = open.append(base).await;
            let durable = timeout(HOUR, receipt.wait()).await;
            durable
                .expect("is answered")
                .unwrap_or_else(|error| panic!("{at}: {error}"));
        }
        open.wal.shutdown(None).await.expect("closes");
        assert_eq!(open.offsets(), [0, 1, 2, 3], "{at}");
        let sealed = fixture.seal(5, 0, 2).await.expect("seals");
        assert_eq!(numbers(&sealed), [0, 1, 2, 3], "{at}");
    }
}

// W3: a store that is away for a minute loses nothing, and memory alone holds appends back
#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_while_the_store_is_away() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    fixture.store.set_hook(|request| match request.operation {
        Operation::Put { .. } => Plan::fail(Failure::Failed("503")),
        _ => Plan::pass(),
    });
    let mut receipts = Vec::new();
    for base in 0..60 {
        receipts.push(open.append(base).await);
    }
    tokio::time::sleep(HOUR).await;
    open.wal.check().expect("the epoch lives");
    assert!(open.offsets().is_empty());
    let all = open
        .wal
        .reserve(fixture.memory.limit(), highwater_wal::Share::Common);
    assert!(timeout(HOUR, all).await.is_err(), "memory holds it back");
    fixture.store.set_hook(|_| Plan::pass());
    for receipt in receipts {
        receipt.wait().await.expect("is durable");
    }
    assert!(open.offsets().into_iter().eq(0..60));
}

// W4: a trickle gathers in group commits after a burst
#[tokio::test(start_paused = true)]
async fn a_trickle_costs_few_puts() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open_with_budget(5).await;
    let mut receipts = Vec::new();
    for base in 0..200 {
        receipts.push(open.append(base).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for receipt in receipts {
        receipt.wait().await.expect("is durable");
    }
    let puts = fixture.store.calls(RequestKind::Put);
    assert!((64 + 18..=64 + 21).contains(&puts), "{puts} in two seconds");
    assert!(open.offsets().into_iter().eq(0..200));
}

// W7: the directory of a large group commit is longer than what the sealer reads at first
#[tokio::test(start_paused = true)]
async fn a_large_group_commit_is_read_back() {
    let (fixture, gate) = Fixture::that_holds_puts();
    let open = fixture.open(5).await;
    // as many puts as may be in flight, and a group that gathers behind them
    let mut last = None;
    for base in 0..4000 {
        last = Some(open.append(base).await);
    }
    gate.open();
    last.expect("some").wait().await.expect("is durable");
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    let large = sealed.objects.last().expect("some");
    assert_eq!(large.id.number, 16);
    assert_eq!(large.directories[0].range, 16..4000);
    assert_eq!(large.directories[0].deltas.len(), 4000 - 16);
}

// P10, P14
#[tokio::test(start_paused = true)]
async fn the_end_of_an_epoch_gives_all_memory_back() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    open.append_durably(0).await;
    let gate = Gate::default();
    let held = gate.clone();
    fixture
        .store
        .set_hook(move |request| match request.operation {
            // the sealer's own put passes
            Operation::Put {
                class: IoClass::Wal,
                ..
            } => Plan::pass().held(&held),
            _ => Plan::pass(),
        });
    for base in 1..60 {
        drop(open.append(base).await);
    }
    assert!(fixture.memory.used() > 0);
    fixture.seal(5, 0, 2).await.expect("seals");
    gate.open();
    timeout(HOUR, open.wal.ended()).await.expect("is fenced");
    tokio::time::sleep(HOUR).await;
    assert_eq!(fixture.memory.used(), 0);
}

// W4: memory alone bounds what waits
#[tokio::test(start_paused = true)]
async fn no_more_puts_are_in_flight_than_the_limit() {
    let (fixture, gate) = Fixture::that_holds_puts();
    let open = fixture.open(5).await;
    let mut last = None;
    for base in 0..60 {
        last = Some(open.append(base).await);
    }
    assert_eq!(fixture.store.most_at_once(RequestKind::Put), 16);
    gate.open();
    last.expect("some").wait().await.expect("is durable");
    assert!(open.offsets().into_iter().eq(0..60));
    assert_eq!(
        fixture.store.calls(RequestKind::Put),
        17,
        "the rest is one group"
    );
}

// W6
#[tokio::test(start_paused = true)]
async fn a_trim_deletes_in_the_background_until_it_succeeds() {
    let fixture = Fixture::new(|request| match (&request.operation, request.nth) {
        (Operation::Delete(_), 0..3) => Plan::fail(Failure::Failed("slow down")),
        _ => Plan::pass(),
    });
    let open = fixture.open(5).await;
    for base in 0..5 {
        open.append_durably(base).await;
    }
    open.wal.trim(highwater_types::WalPosition {
        epoch: highwater_types::NodeEpoch(5),
        at: 3,
    });
    assert!(fixture.body(5, 0).await.is_some(), "it does not wait");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for number in 0..5 {
        assert_eq!(fixture.body(5, number).await.is_some(), number >= 3);
    }
    assert!(open.wal.ended().now_or_never().is_none(), "the log goes on");
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_how_long_its_oldest_batch_has_waited() {
    let (fixture, gate) = Fixture::that_holds_puts();
    let open = fixture.open(5).await;
    assert_eq!(open.wal.oldest_append(), None);
    let first = open.append(0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let second = open.append(1).await;
    let oldest = open.wal.oldest_append().expect("two wait");
    assert!(oldest >= Duration::from_secs(30), "{oldest:?}");
    gate.open();
    for receipt in [first, second] {
        receipt.wait().await.expect("is durable");
    }
    assert_eq!(open.wal.oldest_append(), None);
}
