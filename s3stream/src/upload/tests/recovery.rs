//! A start that recovers while the store or the metadata accepts nothing (D3).

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use highwater_object_storage::StorageError;
use highwater_runtime::BytePermit;
use highwater_types::{LeaderEpoch, NodeEpoch};
use highwater_wal::{ReplayedGroup, SealedWal};

use super::fixture::{LIMITS, Limits, STREAM, Starting, away, objects};
use super::*;
use crate::StreamError;

/// A former epoch's log of three batches, each a group commit.
fn sealed() -> SealedWal {
    let batch = |base: i64| {
        let bytes = Bytes::from(vec![1; 116]);
        ConfirmedBatch {
            stream: STREAM,
            leader_epoch: LeaderEpoch(0),
            base,
            count: 1,
            max_timestamp: base,
            delta: Bytes::new(),
            roll: false,
            append_time: base,
            tail_crc: crc32fast::hash(&bytes[HEAD_BYTES..]),
            bytes,
            end: WalPosition {
                epoch: NodeEpoch(1),
                at: 4096 * (base.unsigned_abs() + 1),
            },
            memory: BytePermit::empty(),
        }
    };
    let group = move |base| ReplayedGroup {
        bytes: 4096,
        batches: vec![batch(base)],
    };
    SealedWal::Replay {
        bytes: 3 * 4096,
        groups: stream::iter((0..3).map(group).map(Ok)).boxed(),
    }
}

/// The result of a recovery, and the time it took.
async fn recover(node: &Starting) -> (Result<u64, StreamError>, Duration) {
    let begin = Instant::now();
    let recovered = timeout(MINUTE * 10, node.streams.recover(sealed())).await;
    let recovered = recovered.expect("it ends");
    let recovered = recovered.map(|_| node.streams.recovery().batches);
    (recovered, begin.elapsed())
}

const MINUTE: Duration = Duration::from_secs(60);

const ROOM_SOON: Limits = Limits {
    room_within: MINUTE.saturating_mul(2),
    ..LIMITS
};

#[tokio::test(start_paused = true)]
async fn a_start_whose_store_takes_no_puts_ends_with_its_reason_after_a_minute() {
    let node = Starting::new(&LIMITS);
    node.trouble.is_away.store(true, Ordering::SeqCst);
    let (recovered, time) = recover(&node).await;
    let refused = matches!(
        &recovered,
        Err(StreamError::Storage(StorageError::Failed { .. }))
    );
    assert!(refused, "{recovered:?}");
    assert!((MINUTE..MINUTE * 2).contains(&time), "{time:?}");
    let status = node.streams.uploads();
    assert!(status.failed_by.contains("the store is away"), "{status:?}");
    assert_eq!(node.metadata.asked().len(), 0);

    let node = Starting::new(&ROOM_SOON);
    node.trouble.is_full.store(true, Ordering::SeqCst);
    let (recovered, time) = recover(&node).await;
    let refused = matches!(
        &recovered,
        Err(StreamError::Storage(StorageError::Full { .. }))
    );
    assert!(refused, "{recovered:?}");
    assert!((MINUTE * 3..MINUTE * 4).contains(&time), "{time:?}");
}

// D3: how long a full store is waited for does not depend on which failure happens to be the last
#[tokio::test(start_paused = true)]
async fn a_start_waits_for_a_full_store_through_other_failures() {
    let node = Starting::new(&ROOM_SOON);
    node.trouble.is_full.store(true, Ordering::SeqCst);
    let is_away = |away| node.trouble.is_away.store(away, Ordering::SeqCst);
    let fails_otherwise = async {
        for _ in 0..3 {
            tokio::time::sleep(MINUTE / 2).await;
            is_away(true);
            tokio::time::sleep(MINUTE / 6).await;
            is_away(false);
        }
        node.trouble.is_full.store(false, Ordering::SeqCst);
    };
    let ((recovered, time), ()) = tokio::join!(recover(&node), fails_otherwise);
    assert_eq!(recovered.expect("recovers"), 3);
    assert!(time >= MINUTE * 2, "{time:?}");

    // a store that was full is waited for no longer than any other once it fails otherwise
    let node = Starting::new(&ROOM_SOON);
    node.trouble.is_full.store(true, Ordering::SeqCst);
    let fails_otherwise = async {
        tokio::time::sleep(MINUTE / 2).await;
        node.trouble.is_away.store(true, Ordering::SeqCst);
    };
    let ((recovered, time), ()) = tokio::join!(recover(&node), fails_otherwise);
    let refused = matches!(
        &recovered,
        Err(StreamError::Storage(StorageError::Failed { .. }))
    );
    assert!(refused, "{recovered:?}");
    assert!((MINUTE..MINUTE * 2).contains(&time), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_metadata_takes_no_commit_ends_with_its_reason_after_a_minute() {
    let node = Starting::new(&LIMITS);
    let answers = std::iter::repeat_with(away).take(1000).collect();
    *node.metadata.answers.lock().expect("is whole") = answers;
    let (recovered, time) = recover(&node).await;
    let refused = matches!(&recovered, Err(StreamError::Unavailable { .. }));
    assert!(refused, "{recovered:?}");
    assert!((MINUTE..MINUTE * 2).contains(&time), "{time:?}");
    assert_eq!(objects(&node.store).await.len(), 1, "U2: one body");
}

#[tokio::test(start_paused = true)]
async fn a_start_goes_on_when_store_and_metadata_answer_again() {
    let node = Starting::new(&LIMITS);
    let answers = std::iter::repeat_with(away).take(20).collect();
    *node.metadata.answers.lock().expect("is whole") = answers;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    let heals = async {
        tokio::time::sleep(MINUTE / 2).await;
        let failing = node.streams.uploads().failing;
        assert!(failing.is_some_and(|time| time > MINUTE / 3), "{failing:?}");
        let recovery = node.streams.recovery();
        assert_eq!((recovery.batches, recovery.bytes), (0, 0));
        node.trouble.is_away.store(false, Ordering::SeqCst);
    };
    let ((recovered, _), ()) = tokio::join!(recover(&node), heals);
    assert_eq!(recovered.expect("recovers"), 3);
    let recovery = node.streams.recovery();
    assert_eq!((recovery.bytes, recovery.bytes_total), (3 * 4096, 3 * 4096));
    assert_eq!(node.streams.uploads().failing, None);
}
