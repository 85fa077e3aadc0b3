//! A stream that is opened again while batches appended to it wait for their upload.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use highwater_types::LeaderEpoch;
use tokio::time::timeout;

use super::fixture::{LIMITS, Limits, NEVER, Node, STREAM};
use crate::{StreamBounds, StreamError};

fn not_before_asked() -> Limits {
    Limits {
        interval: NEVER,
        ..LIMITS
    }
}

// C2: an upload takes the batches of open streams alone, so those of a stream that was replaced would be lost. The test
// runs in real time, because virtual time would reach the interval while the log's thread works.
#[tokio::test]
async fn a_stream_that_is_opened_again_is_uploaded_first() {
    let mut node = Node::start(not_before_asked()).await;
    for base in 0..3 {
        node.append(base, 100).await;
    }
    assert_eq!(node.metadata.asked().len(), 0);
    let again = node.open(LeaderEpoch(1)).await.expect("opens");
    let bounds = StreamBounds {
        start: 0,
        confirmed: 3,
        next: 3,
    };
    assert_eq!(again.bounds(), bounds);
    node.stream = again;
    node.append(3, 100).await;
    node.streams.shutdown(None).await.expect("stops");
    let asked = node.metadata.asked().into_iter();
    let claims = asked.flat_map(|commit| commit.claims);
    let claims: Vec<_> = claims
        .map(|(_, claim)| (claim.range, claim.leader_epoch))
        .collect();
    assert_eq!(claims, [(0..3, LeaderEpoch(0)), (3..4, LeaderEpoch(1))]);
}

#[tokio::test(start_paused = true)]
async fn an_opening_waits_for_the_upload_of_what_was_appended_before() {
    let node = Arc::new(Node::start(not_before_asked()).await);
    node.trouble.is_away.store(true, Ordering::SeqCst);
    node.append(0, 100).await;
    let patience = Duration::from_secs(3600);
    let given_up = timeout(patience, node.open(LeaderEpoch(1))).await;
    assert!(given_up.is_err(), "{given_up:?}");
    assert_eq!(node.stream.bounds().confirmed, 1);
    node.trouble.is_away.store(false, Ordering::SeqCst);
    let again = node.open(LeaderEpoch(1)).await.expect("opens");
    assert_eq!(again.bounds().confirmed, 1);
    node.streams.shutdown(None).await.expect("stops");
}

// A1: what is not durable is not uploaded, and no offset of it is given out again.
#[tokio::test]
async fn an_opening_waits_until_what_was_appended_before_is_durable() {
    let node = Node::start(not_before_asked()).await;
    node.faults.syncs_hang.store(true, Ordering::SeqCst);
    let receipt = node.begin_append(0, 100).await;
    let mut opening = pin!(node.open(LeaderEpoch(1)));
    assert!(opening.as_mut().now_or_never().is_none());
    assert!(!receipt.is_durable());
    node.faults.syncs_hang.store(false, Ordering::SeqCst);
    let again = opening.await.expect("opens");
    assert_eq!(again.bounds().next, 1);
    node.streams.shutdown(None).await.expect("stops");
}

// A1: the refusal ends the node epoch, so that the batch for which the opening waits may never become durable.
#[tokio::test]
async fn an_opening_that_waits_for_a_batch_ends_when_an_upload_is_refused_for_good() {
    let node = Node::start(LIMITS).await;
    let refused = StreamError::NotUnderstood {
        reason: "far".to_owned(),
    };
    *node.metadata.answers.lock().expect("is whole") = [refused].into();
    node.trouble.is_away.store(true, Ordering::SeqCst);
    node.append(0, 100).await;
    node.faults.syncs_hang.store(true, Ordering::SeqCst);
    let receipt = node.begin_append(1, 100).await;
    let mut opening = pin!(node.open(LeaderEpoch(1)));
    assert!(opening.as_mut().now_or_never().is_none());
    node.trouble.is_away.store(false, Ordering::SeqCst);
    let again = timeout(Duration::from_secs(60), opening).await;
    let again = again.expect("ends").expect_err("fails").to_string();
    assert!(again.contains("far"), "{again}");
    assert!(!receipt.is_durable());
    node.faults.syncs_hang.store(false, Ordering::SeqCst);
    node.streams.shutdown(None).await.expect("stops");
}

// A1
#[tokio::test(start_paused = true)]
async fn an_opening_fails_where_the_upload_before_it_is_refused_for_good() {
    let node = Node::start(not_before_asked()).await;
    let refused = || StreamError::NotUnderstood {
        reason: "far".to_owned(),
    };
    let answers = [refused(), refused()].into();
    *node.metadata.answers.lock().expect("is whole") = answers;
    node.append(0, 100).await;
    let again = node.open(LeaderEpoch(1)).await;
    assert_eq!(again.expect_err("fails").to_string(), refused().to_string());
}

// C2: a partition that moves is closed by waking its waiters, and its batches are uploaded all the same.
#[tokio::test]
async fn a_stream_whose_partition_was_closed_is_uploaded_before_it_is_opened_again() {
    let node = Node::start(not_before_asked()).await;
    for base in 0..3 {
        node.append(base, 100).await;
    }
    node.streams.wake(STREAM);
    let again = node.open(LeaderEpoch(1)).await.expect("opens");
    assert_eq!(again.bounds().next, 3);
    node.streams.shutdown(None).await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn an_opening_ends_when_the_stream_is_forgotten_while_it_waits() {
    let node = Node::start(not_before_asked()).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    node.append(0, 100).await;
    let mut opening = pin!(node.open(LeaderEpoch(1)));
    let waits = timeout(Duration::from_secs(60), &mut opening).await;
    assert!(waits.is_err(), "{waits:?}");
    node.append(1, 100).await;
    node.streams.forget(STREAM);
    node.trouble.is_away.store(false, Ordering::SeqCst);
    opening.await.expect("opens");
}
