//! Streams that are handed over to another node (C1, C2). The tests run in real time, because virtual time would reach
//! the interval of uploads while the log's thread works.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_types::LeaderEpoch;
use tokio::time::timeout;

use super::fixture::{LIMITS, Limits, NEVER, Node, STREAM, away, objects};
use crate::{HandedOver, StreamError};

fn not_before_asked() -> Limits {
    Limits {
        interval: NEVER,
        ..LIMITS
    }
}

fn handed_over(end: i64) -> HandedOver {
    HandedOver {
        stream: STREAM,
        epoch: LeaderEpoch(0),
        end,
    }
}

/// The commits: the end of the claims, the position of the floor, and what is handed over with them.
fn commits(node: &Node) -> Vec<(Option<i64>, u64, Vec<HandedOver>)> {
    let asked = node.metadata.asked().into_iter();
    let told = asked.map(|commit| {
        let end = commit.claims.last().map(|(_, claim)| claim.range.end);
        (end, commit.floor.at, commit.handed_over)
    });
    told.collect()
}

#[tokio::test]
async fn the_last_batches_are_committed_with_the_hand_over_and_the_floor_stays() {
    let node = Node::start(not_before_asked()).await;
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    let handing_over = handing_over.expect("begins");
    node.append(0, 100).await;
    // one that may not be durable yet
    let receipt = node.begin_append(1, 100).await;
    handing_over.finish().await.expect("is handed over");
    receipt.wait().await.expect("is acknowledged");
    assert_eq!(commits(&node), [(Some(2), 0, vec![handed_over(2)])]);
    assert!(node.streams.is_closed(STREAM));
    assert_eq!(objects(&node.store).await.len(), 1);
    node.streams.wake(STREAM);
    assert!(!node.streams.is_closed(STREAM), "it is gone");
    node.streams.shutdown(None).await.expect("stops");
    let after = commits(&node);
    let (end, floor, handed) = after.last().expect("the floor moves");
    assert!(
        end.is_none() && *floor > 0 && handed.is_empty(),
        "{after:?}"
    );
}

#[tokio::test]
async fn what_is_large_is_uploaded_before_writers_wait() {
    let node = Node::start(not_before_asked()).await;
    for base in 0..3 {
        node.append(base, 1 << 20).await;
    }
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    assert_eq!(commits(&node).len(), 1);
    handing_over
        .expect("begins")
        .finish()
        .await
        .expect("is handed over");
    let all = commits(&node);
    assert_eq!((all[0].0, &all[1].2[..]), (Some(3), &[handed_over(3)][..]));
    assert_eq!(all[1].0, None, "nothing was left");
    node.streams.shutdown(None).await.expect("stops");
}

// C1: until the command is sent the leader may go on
#[tokio::test]
async fn a_hand_over_that_the_store_does_not_take_is_put_off_and_writers_go_on() {
    let node = Node::start(not_before_asked()).await;
    node.append(0, 100).await;
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    let off = handing_over.expect("begins").finish().await;
    assert!(
        matches!(off, Err(StreamError::Unavailable { .. })),
        "{off:?}"
    );
    node.append(1, 100).await;
    let again = node.streams.begin_hand_over(&[STREAM]).await;
    assert!(again.is_err(), "not while uploads fail");
    node.trouble.is_away.store(false, Ordering::SeqCst);
    node.streams.shutdown(None).await.expect("stops");
    let ends: Vec<_> = commits(&node).into_iter().map(|(end, ..)| end).collect();
    assert_eq!(
        ends,
        [Some(1), Some(2)],
        "the same body under the same number"
    );
    assert!(commits(&node).iter().all(|(.., handed)| handed.is_empty()));
    assert_eq!(objects(&node.store).await.len(), 2);
}

#[tokio::test]
async fn a_hand_over_that_waits_for_the_disk_is_put_off() {
    let node = Node::start(not_before_asked()).await;
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    node.faults.syncs_hang.store(true, Ordering::SeqCst);
    let receipt = node.begin_append(0, 100).await;
    let off = handing_over.expect("begins").finish().await;
    assert!(
        matches!(off, Err(StreamError::Unavailable { .. })),
        "{off:?}"
    );
    assert!(!receipt.is_durable() && commits(&node).is_empty());
    node.faults.syncs_hang.store(false, Ordering::SeqCst);
    node.streams.shutdown(None).await.expect("stops");
}

// C1: the outcome of a command without an answer is unknown
#[tokio::test]
async fn the_command_is_sent_until_it_is_answered() {
    let node = Node::start(not_before_asked()).await;
    node.append(0, 100).await;
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    *node.metadata.answers.lock().expect("is whole") = [away()].into();
    handing_over
        .expect("begins")
        .finish()
        .await
        .expect("is handed over");
    let all = commits(&node);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    node.streams.shutdown(None).await.expect("stops");
}

// A1
#[tokio::test]
async fn a_refusal_ends_the_epoch() {
    let node = Node::start(not_before_asked()).await;
    node.append(0, 100).await;
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    let refused = StreamError::NotUnderstood {
        reason: "far".to_owned(),
    };
    *node.metadata.answers.lock().expect("is whole") = [refused].into();
    handing_over
        .expect("begins")
        .finish()
        .await
        .expect_err("is refused");
    let ended = timeout(Duration::from_secs(60), node.streams.failed()).await;
    assert!(ended.expect("ends").contains("far"));
}

// A stop aborts tasks; the last upload of the stop goes on with the object that was begun (U2).
#[tokio::test]
async fn a_hand_over_that_is_dropped_leaves_its_object_to_the_next_upload() {
    let node = Arc::new(Node::start(not_before_asked()).await);
    node.append(0, 100).await;
    let handing_over = node.streams.begin_hand_over(&[STREAM]).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    let finishing = handing_over.expect("begins").finish();
    let dropped = timeout(Duration::from_millis(100), finishing).await;
    assert!(dropped.is_err(), "{dropped:?}");
    node.trouble.is_away.store(false, Ordering::SeqCst);
    node.streams.shutdown(None).await.expect("stops");
    assert_eq!(commits(&node)[0].0, Some(1));
    assert_eq!(objects(&node.store).await.len(), 1);
}
