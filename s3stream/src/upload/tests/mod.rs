//! Uploads while the metadata or the store is away, and while there is little room; in virtual time.

mod fixture;
mod handing_over;
mod recovery;
mod reopening;
mod sealed;
mod stops;

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use highwater_object_format::ObjectWriter;
use highwater_object_storage::{IoClass, PutMode, layout};
use highwater_types::Uuid;
use highwater_wal::{Share, WalError};
use tokio::time::timeout;

use self::fixture::{EPOCH, LIMITS, Limits, NEVER, NODE, Node, STREAM, away, objects};
use super::*;
use crate::{ObjectCommit, StreamError, StreamStore};

/// Longer than any wait that ends.
const BOUND: Duration = Duration::from_secs(60);

// U2, U3: once too many numbers were passed over the metadata would refuse for ever, and each number left an object
// behind
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_metadata_leaves_one_object_under_one_number() {
    let node = Node::start(LIMITS).await;
    let answers = (0..100).map(|_| away()).collect();
    *node.metadata.answers.lock().expect("is whole") = answers;
    node.append(0, 100).await;
    node.metadata.is_committed_to(1).await;
    let asked = node.metadata.asked();
    assert_eq!(asked.len(), 101);
    assert!(asked.iter().all(|commit| commit.object.number == 1));
    assert_eq!(objects(&node.store).await.len(), 1);
    node.append(1, 100).await;
    node.metadata.is_committed_to(2).await;
    assert_eq!(objects(&node.store).await.len(), 2);
    node.streams.shutdown(None).await.expect("stops");
}

// D2: an older copy of the log is recognised by what was confirmed since, although that was not uploaded
#[tokio::test(start_paused = true)]
async fn a_commit_reports_what_is_confirmed_beyond_what_it_uploads() {
    let node = Node::start(LIMITS).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    node.append(0, 100).await;
    // the first object is begun, and its put fails
    tokio::time::sleep(LIMITS.interval * 3).await;
    node.append(1, 100).await;
    node.trouble.is_away.store(false, Ordering::SeqCst);
    node.metadata.is_committed_to(2).await;
    let asked = node.metadata.asked();
    let reported = |commit: &ObjectCommit| (commit.floor, commit.confirmed);
    let reported: Vec<_> = asked.iter().map(reported).collect();
    assert!(reported[0].0 < reported[1].0, "{reported:?}");
    assert_eq!(reported[0].1, reported[1].1, "{reported:?}");
    node.streams.shutdown(None).await.expect("stops");
}

// a checkpoint is due in each round, and this fold can't read any
#[tokio::test(start_paused = true)]
async fn a_round_that_writes_nothing_takes_no_number() {
    let node = Node::start(LIMITS).await;
    node.append(0, 100).await;
    node.metadata.is_committed_to(1).await;
    tokio::time::sleep(LIMITS.interval * 100).await;
    node.append(1, 100).await;
    node.metadata.is_committed_to(2).await;
    let asked = node.metadata.asked().into_iter();
    let numbers: Vec<u64> = asked.map(|commit| commit.object.number).collect();
    assert_eq!(numbers, [1, 2]);
    node.streams.shutdown(None).await.expect("stops");
}

// A1, U3
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_refused_for_good_ends_the_node_epoch() {
    let refusals: [fn() -> StreamError; 4] = [
        || StreamError::Gap {
            stream: STREAM,
            committed: 0,
            first: 3,
        },
        || StreamError::Fenced { epoch: EPOCH },
        || StreamError::NotUnderstood {
            reason: "far".to_owned(),
        },
        || StreamError::NotHeld {
            stream: STREAM,
            reason: "held".to_owned(),
        },
    ];
    for refusal in refusals {
        let node = Node::start(LIMITS).await;
        let answers = [away(), refusal()].into();
        *node.metadata.answers.lock().expect("is whole") = answers;
        // the epoch may end before the batch is acknowledged
        drop(node.begin_append(0, 100).await);
        let failed = timeout(NEVER, node.streams.failed()).await;
        assert_eq!(failed.expect("it ends"), refusal().to_string());
        let refused = node.streams.reserve(100, Share::Common).await;
        assert!(matches!(refused, Err(StreamError::Wal(WalError::Ended))));
        let is_fence = matches!(refusal(), StreamError::Fenced { .. });
        let ended = node.streams.ended().now_or_never().flatten();
        let is_told = matches!(ended, Some(WalError::Fenced { .. }));
        assert_eq!(is_told, is_fence, "W11: the log's end tells of a fence");
        node.streams.shutdown(None).await.expect("stops");
        assert_eq!(node.metadata.asked().len(), 2, "it is not asked again");
        assert_eq!(objects(&node.store).await.len(), 1);
    }
}

// U2: a key that exists does not prove that the body under it is this process's
#[tokio::test(start_paused = true)]
async fn an_object_of_another_process_in_its_place_ends_the_node_epoch() {
    let node = Node::start(LIMITS).await;
    let id = ObjectId {
        node: NODE,
        epoch: EPOCH,
        kind: ObjectKind::Upload,
        number: 1,
    };
    let header = ObjectHeader {
        cluster: Uuid([7; 16]),
        id,
        nonce: Uuid([8; 16]),
        rewrite_number: 0,
        floor: WalPosition::default(),
    };
    let body = ObjectWriter::new(&header).finish().body;
    let key = layout::object(id);
    let put = node
        .store
        .put(&key, body, PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    node.append(0, 100).await;
    let failed = timeout(NEVER, node.streams.failed()).await;
    assert!(failed.expect("it ends").contains("another process"));
    assert_eq!(node.metadata.asked().len(), 0);
}

// Small batches hold mostly the padding of their groups. The test runs in real time, because virtual time does not wait
// for the log's thread.
#[tokio::test]
async fn small_writes_one_at_a_time_never_wait_for_the_interval() {
    let limits = Limits {
        memory: 2 << 20,
        interval: NEVER,
        ..LIMITS
    };
    let node = Node::start(limits).await;
    for base in 0..1000 {
        let appended = timeout(BOUND, node.append(base, 50)).await;
        appended.unwrap_or_else(|_| panic!("batch {base} waits"));
    }
    node.streams.shutdown(None).await.expect("stops");
}

#[tokio::test]
async fn a_ring_that_fills_is_uploaded_before_it_is_full() {
    let limits = Limits {
        wal: 8 << 20,
        interval: NEVER,
        ..LIMITS
    };
    let node = Node::start(limits).await;
    for base in 0..64 {
        let appended = timeout(BOUND, node.append(base, 512 << 10)).await;
        appended.unwrap_or_else(|_| panic!("batch {base} waits"));
    }
    node.streams.shutdown(None).await.expect("stops");
}

// a PUT takes 5 GiB at most: the batches of an outage go into objects of the usual size, each of which moves the floor
#[tokio::test(start_paused = true)]
async fn what_gathered_in_an_outage_goes_in_objects_of_bounded_size() {
    let limits = Limits {
        upload: 1 << 20,
        ..LIMITS
    };
    let node = Node::start(limits).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    for base in 0..50 {
        node.append(base, 200_000).await;
    }
    let status = node.streams.uploads();
    assert!(status.backlog_bytes >= 10_000_000, "{status:?}");
    assert!(
        status.failing.is_some() && status.oldest.is_some(),
        "{status:?}"
    );
    assert_eq!((status.waiting, status.held_back), (0, None));
    node.trouble.is_away.store(false, Ordering::SeqCst);
    node.metadata.is_committed_to(50).await;
    let uploaded = objects(&node.store).await;
    assert!(uploaded.len() >= 8, "{uploaded:?}");
    assert!(
        uploaded.iter().all(|object| object.bytes < 1_500_000),
        "{uploaded:?}"
    );
    let asked = node.metadata.asked();
    assert!(asked.is_sorted_by(|one, next| one.floor < next.floor));
    node.streams.shutdown(None).await.expect("stops");
    let status = node.streams.uploads();
    assert_eq!(
        (status.backlog_bytes, status.oldest, status.failing),
        (0, None, None)
    );
}

// D3, M1: the status shows that requests wait, and when they no longer do
#[tokio::test(start_paused = true)]
async fn produce_that_is_held_back_is_seen_until_it_goes_on() {
    let limits = Limits {
        memory: 4 << 20,
        ..LIMITS
    };
    let node = Node::start(limits).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    let fill = async {
        for base in 0..100 {
            node.append(base, 100_000).await;
        }
    };
    let heal = async {
        while node.streams.uploads().waiting == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(100)).await;
        let status = node.streams.uploads();
        assert_eq!(status.waiting, 1, "{status:?}");
        assert!(
            status
                .held_back
                .is_some_and(|held| held > Duration::from_secs(50))
        );
        assert!(
            status
                .failing
                .is_some_and(|failing| failing > Duration::from_secs(50))
        );
        // a sixteenth of 64 MiB is the coordinators' reserve
        assert!(
            status.wal.used > 2 << 20 && status.wal.limit == 60 << 20,
            "{status:?}"
        );
        let told = status.hindrance().expect("is told");
        assert!(
            told.contains("held back for 1") && told.contains("failed for"),
            "{told}"
        );
        node.trouble.is_away.store(false, Ordering::SeqCst);
    };
    tokio::join!(fill, heal);
    let status = node.streams.uploads();
    assert_eq!((status.waiting, status.held_back), (0, None));
    assert_eq!(status.hindrance(), None);
    node.streams.shutdown(None).await.expect("stops");
}
