//! What only an object WAL does: another process ends it (W7 to W11).

use std::time::Duration;

use bytes::Bytes;
use highwater_object_format::{FOOTER_BYTES, HEADER_BYTES};
use highwater_object_storage::{Failure, Gate, Operation, Plan, Request};
use highwater_types::{NodeEpoch, WalPosition};
use highwater_wal::WalError;
use tokio::time::timeout;

use crate::fixture::{Fixture, Open, numbers};

const HOUR: Duration = Duration::from_secs(3600);

fn is_put(request: &Request<'_>, number: u64) -> bool {
    let is_put = matches!(request.operation, Operation::Put { .. });
    is_put && request.key.as_str().ends_with(&format!("/{number}"))
}

async fn is_fenced(open: &Open) {
    let ended = timeout(HOUR, open.wal.ended()).await.expect("ends");
    assert!(matches!(ended, Some(WalError::Fenced { .. })), "{ended:?}");
    let refused = open.wal.reserve(10, highwater_wal::Share::Unbounded).await;
    assert!(matches!(refused, Err(WalError::Ended)), "W11: {refused:?}");
}

// W7
#[tokio::test(start_paused = true)]
async fn an_epoch_that_never_wrote_is_sealed_at_its_floor() {
    let fixture = Fixture::new(|_| Plan::pass());
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!((sealed.end.at, sealed.objects.len()), (0, 0));
    assert!(fixture.is_seal(5, 0).await);
    // W11: its late opening is refused, and says that the epoch was fenced
    let read = fixture.factory(1);
    let known = highwater_wal::Known {
        registered: NodeEpoch(5),
        ..highwater_wal::Known::default()
    };
    let read = highwater_wal::WalFactory::read(&read, known)
        .await
        .expect("reads");
    #[derive(Debug)]
    struct Nothing;
    impl highwater_wal::ConfirmedSink for Nothing {
        fn confirmed(&self, _batches: Vec<highwater_wal::ConfirmedBatch>) {}
    }
    let opened = read.open(NodeEpoch(5), std::sync::Arc::new(Nothing)).await;
    assert!(matches!(opened, Err(WalError::Fenced { .. })), "{opened:?}");
}

// W11, W2: five puts are in flight, of which two are before the seal
#[tokio::test(start_paused = true)]
async fn a_writer_that_is_sealed_in_its_middle_acknowledges_nothing_at_or_after_the_seal() {
    let gate = Gate::default();
    let held = gate.clone();
    let fixture = Fixture::new(
        move |request| match is_put(request, 2) && request.nth == 0 {
            true => Plan::pass().held(&held),
            false => Plan::pass(),
        },
    );
    let open = fixture.open(5).await;
    let mut receipts = Vec::new();
    for base in 0..5 {
        receipts.push(open.append(base).await);
    }
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (2, vec![0, 1]));
    gate.open();
    is_fenced(&open).await;
    for (number, receipt) in receipts.iter().enumerate() {
        let told = receipt.wait().await;
        assert_eq!(told.is_ok(), number < 2, "{number}: {told:?}");
    }
    assert_eq!(open.offsets(), [0, 1]);
    assert!(fixture.is_seal(5, 2).await, "W10");
}

// W7: the put was applied, but its answer is late. The sealer has the batch, and the acknowledgement is true.
#[tokio::test(start_paused = true)]
async fn a_put_before_the_seal_with_a_late_answer_is_acknowledged_truly() {
    let gate = Gate::default();
    let held = gate.clone();
    let fixture = Fixture::new(
        move |request| match is_put(request, 0) && request.nth == 0 {
            true => Plan::pass().answer_held(&held),
            false => Plan::pass(),
        },
    );
    let open = fixture.open(5).await;
    let receipt = open.append(0).await;
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (1, vec![0]));
    gate.open();
    receipt.wait().await.expect("it is before the seal");
    let late = open.append(1).await.wait().await;
    assert!(matches!(late, Err(WalError::Ended)), "{late:?}");
    is_fenced(&open).await;
    assert_eq!(open.offsets(), [0]);
}

// W7: exactly one of two sealers creates the seal, and both find the same end
#[tokio::test(start_paused = true)]
async fn two_sealers_agree_wherever_one_of_them_pauses() {
    for paused_at in 0..12 {
        let gate = Gate::default();
        let fixture = Fixture::new(|_| Plan::pass());
        let open = fixture.open(5).await;
        for base in 0..3 {
            open.append_durably(base).await;
        }
        let held = gate.clone();
        let calls = std::sync::atomic::AtomicUsize::new(0);
        fixture.store.set_hook(move |request| {
            if matches!(request.operation, Operation::List) {
                return Plan::pass();
            }
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            match call == paused_at {
                true => Plan::pass().answer_held(&held),
                false => Plan::pass(),
            }
        });
        let both = async {
            let first = fixture.seal(5, 0, 2);
            let second = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let sealed = fixture.seal(5, 0, 3).await;
                gate.open();
                sealed
            };
            tokio::join!(first, second)
        };
        let (first, second) = timeout(HOUR, both).await.expect("both end");
        let (first, second) = (first.expect("seals"), second.expect("seals"));
        assert_eq!(first.end.at, 3, "{paused_at}");
        assert_eq!(first.end, second.end, "{paused_at}");
        assert_eq!(numbers(&first), numbers(&second), "{paused_at}");
        assert!(fixture.is_seal(5, 3).await && fixture.body(5, 4).await.is_none());
    }
}

// W7: the seal's own answer is lost, before or after it was applied
#[tokio::test(start_paused = true)]
async fn a_seal_with_an_unknown_outcome_is_resolved_by_reading() {
    let plans: [fn() -> Plan; 5] = [
        || Plan::pass().answered(Failure::Unknown),
        || Plan::fail(Failure::Unknown),
        || Plan::fail(Failure::Failed("503")),
        Plan::hang,
        || Plan::pass().answered(Failure::Precondition),
    ];
    for plan in plans {
        let fixture = Fixture::new(move |request| match request.operation {
            Operation::Put { .. } if request.nth == 0 => plan(),
            _ => Plan::pass(),
        });
        let sealed = fixture.seal(5, 0, 2).await.expect("seals");
        assert_eq!((sealed.end.at, sealed.objects.len()), (0, 0));
        assert!(fixture.is_seal(5, 0).await && fixture.body(5, 1).await.is_none());
    }
}

// W1, W7: a hedge that was given up lands long after the epoch was sealed
#[tokio::test(start_paused = true)]
async fn a_hedge_that_lands_late_changes_nothing() {
    let fixture = Fixture::new(|request| match is_put(request, 1) && request.nth == 0 {
        true => Plan::pass().delayed(Duration::from_secs(600)).detached(),
        false => Plan::pass(),
    });
    let open = fixture.open(5).await;
    open.append_durably(0).await;
    open.append_durably(1).await;
    let before = fixture.body(5, 1).await;
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (2, vec![0, 1]));
    tokio::time::sleep(HOUR).await;
    assert_eq!(fixture.body(5, 1).await, before);
    assert!(fixture.is_seal(5, 2).await);
}

// W6, W10: a zombie trims what lies below its floor, and its numbers are free again; the seal stays and fences it
#[tokio::test(start_paused = true)]
async fn a_zombie_whose_numbers_were_freed_is_fenced_by_the_seal() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    for base in 0..4 {
        open.append_durably(base).await;
    }
    let epoch = NodeEpoch(5);
    // a trim races the sealer
    open.wal.trim(WalPosition { epoch, at: 2 });
    let sealed = fixture.seal(5, 2, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (4, vec![2, 3]));
    tokio::time::sleep(HOUR).await;
    // the sweep has deleted all but the seal (W12)
    let below = (0..4).map(|number| crate::fixture::wal_id(epoch, number));
    let keys: Vec<_> = below
        .map(highwater_object_storage::layout::object)
        .collect();
    let deleted = highwater_object_storage::ObjectStorage::delete(&*fixture.store, &keys);
    deleted.await.expect("deletes");
    let late = open.append(4).await.wait().await;
    assert!(matches!(late, Err(WalError::Ended)), "{late:?}");
    is_fenced(&open).await;
    assert_eq!(open.offsets(), [0, 1, 2, 3]);
    assert!(fixture.is_seal(5, 4).await);
}

// W8: a sealer that is late creates a lower seal at a number that was freed. The highest seal stays the end.
#[tokio::test(start_paused = true)]
async fn a_late_sealer_leaves_the_highest_seal_alone() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    for base in 0..3 {
        open.append_durably(base).await;
    }
    let first = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!(first.end.at, 3);
    let key = highwater_object_storage::layout::object(crate::fixture::wal_id(NodeEpoch(5), 0));
    let keys = [key];
    let deleted = highwater_object_storage::ObjectStorage::delete(&*fixture.store, &keys);
    deleted.await.expect("deletes");
    let late = fixture.seal(5, 0, 3).await.expect("seals");
    assert_eq!(late.end.at, 0, "its command is refused");
    assert!(fixture.is_seal(5, 3).await);
}

// I10: the sealer refuses what it can't trust, by its key
#[tokio::test(start_paused = true)]
async fn damaged_and_foreign_objects_are_refused_with_their_key() {
    for how in 0..3 {
        let fixture = Fixture::new(|_| Plan::pass());
        let open = fixture.open(5).await;
        open.append_durably(0).await;
        let body = fixture.body(5, 0).await.expect("is there");
        let body = match how {
            0 => body.slice(..body.len() - 1),
            1 => {
                let mut damaged = body.to_vec();
                damaged[body.len() - FOOTER_BYTES - HEADER_BYTES + 20] ^= 1;
                damaged.into()
            }
            _ => body,
        };
        // the third lies under a key that is not its own
        let number = if how == 2 { 1 } else { 0 };
        let key = fixture.overwrite(5, number, body).await;
        let refused = fixture.seal(5, 0, 2).await.expect_err("is refused");
        assert!(
            matches!(refused, WalError::Damaged { .. }),
            "{how}: {refused}"
        );
        assert!(
            refused.to_string().contains(key.as_str()),
            "{how}: {refused}"
        );
    }
}

// W5: the end of an object says all that a sealer needs, however large the object is
#[tokio::test(start_paused = true)]
async fn a_sealer_reads_nothing_but_the_ends_of_objects() {
    let fixture = Fixture::new(|request| match request.operation {
        Operation::Get(_) => Plan::fail(Failure::Failed("503")),
        _ => Plan::pass(),
    });
    let open = fixture.open(5).await;
    for base in 0..3 {
        let appended = open.append_bytes(base, 1 << 20).await;
        appended.wait().await.expect("is durable");
    }
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (3, vec![0, 1, 2]));
}

/// The object as version 1 has it: without the header before its footer.
fn former(object: &Bytes) -> Bytes {
    let (index_end, footer) = (object.len() - FOOTER_BYTES - HEADER_BYTES, FOOTER_BYTES);
    let mut footer = object[object.len() - footer..].to_vec();
    footer[16..18].copy_from_slice(&1_u16.to_be_bytes());
    let crc = crc32fast::hash(&footer[..22]);
    footer[22..].copy_from_slice(&crc.to_be_bytes());
    [&object[..index_end], &footer].concat().into()
}

// W5: a broker of the former version may have died before the update
#[tokio::test(start_paused = true)]
async fn objects_of_version_1_are_sealed() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    for (base, bytes) in [(0, 100), (1, 1 << 20)] {
        let appended = open.append_bytes(base, bytes).await;
        appended.wait().await.expect("is durable");
        let number = u64::try_from(base).expect("is small");
        let body = fixture.body(5, number).await.expect("is there");
        fixture.overwrite(5, number, former(&body)).await;
    }
    let sealed = fixture.seal(5, 0, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (2, vec![0, 1]));
}

// R3, W5: a header that knows of a later floor shows that the metadata is older than the log
#[tokio::test(start_paused = true)]
async fn a_floor_above_that_of_the_metadata_is_refused() {
    let fixture = Fixture::new(|request| match request.operation {
        // the object below the floor is not deleted yet
        Operation::Delete(_) => Plan::hang(),
        _ => Plan::pass(),
    });
    let open = fixture.open(5).await;
    open.append_durably(0).await;
    let epoch = NodeEpoch(5);
    open.wal.trim(WalPosition { epoch, at: 1 });
    open.append_durably(1).await;
    let refused = fixture.seal(5, 0, 2).await.expect_err("is older");
    assert!(refused.to_string().contains("(R3)"), "{refused}");
    let sealed = fixture.seal(5, 1, 2).await.expect("seals");
    assert_eq!((sealed.end.at, numbers(&sealed)), (2, vec![1]));
}

// P10, P14: the log gives back the memory of the batches that it did not put, while it is held still
#[tokio::test(start_paused = true)]
async fn a_fenced_log_holds_no_memory() {
    let fixture = Fixture::new(|request| match request.operation {
        Operation::Put { .. } => Plan::hang(),
        _ => Plan::pass(),
    });
    let open = fixture.open(5).await;
    // more than may be in flight
    for base in 0..20 {
        drop(open.append(base).await);
    }
    assert!(fixture.memory.used() > 0);
    open.wal.fence("by a test".to_owned());
    is_fenced(&open).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(fixture.memory.used(), 0);
}

// W11: a writer that has nothing to put learns of the seal by looking
#[tokio::test(start_paused = true)]
async fn a_look_at_the_next_sequence_finds_the_seal_and_nothing_else() {
    let fixture = Fixture::new(|_| Plan::pass());
    let open = fixture.open(5).await;
    open.append_durably(0).await;
    open.wal.look_for_seal().await;
    open.append_durably(1).await;
    fixture
        .store
        .set_hook(|_| Plan::fail(Failure::Failed("503")));
    open.wal.look_for_seal().await;
    open.wal
        .check()
        .expect("a request that fails proves nothing");
    fixture.store.set_hook(|_| Plan::pass());
    fixture.seal(5, 0, 2).await.expect("seals");
    let gets = fixture
        .store
        .calls(highwater_object_storage::RequestKind::Get);
    open.wal.look_for_seal().await;
    let looks = fixture
        .store
        .calls(highwater_object_storage::RequestKind::Get)
        - gets;
    assert_eq!(looks, 1, "one request");
    is_fenced(&open).await;
    assert_eq!(open.offsets(), [0, 1]);
}
