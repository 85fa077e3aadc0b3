//! A stop in the middle of an upload.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_wal::{Share, WalError};

use super::fixture::{LIMITS, Limits, Node, away, objects};
use crate::{StreamError, StreamStore};

// U2, U5: a stop leaves no unreferenced object behind
#[tokio::test(start_paused = true)]
async fn a_stop_goes_on_with_the_object_that_was_begun() {
    // once in the middle of the put, and once in the middle of the commit
    for is_put in [false, true] {
        let node = Node::start(LIMITS).await;
        match is_put {
            false => node.trouble.is_away.store(true, Ordering::SeqCst),
            true => {
                let answers = (0..100).map(|_| away()).collect();
                *node.metadata.answers.lock().expect("is whole") = answers;
            }
        }
        node.append(0, 100).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(objects(&node.store).await.len(), usize::from(is_put));
        // a node that stops aborts the upload wherever it is
        node.tasks.stop().await;
        node.append(1, 100).await;
        node.trouble.is_away.store(false, Ordering::SeqCst);
        node.metadata.answers.lock().expect("is whole").clear();
        node.streams.shutdown(None).await.expect("stops");
        let asked = node.metadata.asked();
        let last = asked.last().expect("both are committed");
        assert_eq!(last.object.number, 2);
        assert_eq!(objects(&node.store).await.len(), 2);
        let is_known = |number| asked.iter().any(|commit| commit.object.number == number);
        assert!(is_known(1), "its object is committed");
    }
}

// uploads, streams and log hold each other in one direction only
#[tokio::test(start_paused = true)]
async fn a_store_that_is_dropped_frees_all_that_it_holds() {
    let node = Node::start(LIMITS).await;
    node.trouble.is_away.store(true, Ordering::SeqCst);
    node.append(0, 100).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        node.streams.uploads().failing.is_some(),
        "an upload is begun"
    );
    node.tasks.stop().await;
    let metadata = Arc::downgrade(&node.metadata);
    let store = Arc::downgrade(&node.store);
    drop(node);
    assert_eq!((metadata.strong_count(), store.strong_count()), (0, 0));
}

// W11: what it acknowledged is recovered from the log, and an upload would be refused. The test runs in real time,
// because virtual time does not wait for the log's thread.
#[tokio::test]
async fn a_fenced_epoch_acknowledges_and_uploads_nothing_more() {
    let limits = Limits {
        interval: Duration::from_secs(3600),
        ..LIMITS
    };
    let node = Node::start(limits).await;
    node.append(0, 100).await;
    node.streams.fence("by a test");
    let refused = node.streams.reserve(100, Share::Common).await;
    assert!(matches!(refused, Err(StreamError::Wal(WalError::Ended))));
    node.streams.shutdown(None).await.expect("stops");
    assert_eq!(node.metadata.asked().len(), 0);
    assert_eq!(objects(&node.store).await.len(), 0);
}
