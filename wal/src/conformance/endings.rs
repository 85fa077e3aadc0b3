//! The duties at the end of a log: errors, fences and shutdowns.

use tokio::task::unconstrained;
use tokio::time::Instant;

use super::{Bench, EPOCH, Open, START, append_held, in_time, poll_once, sealed, until};
use crate::{AppendReceipt, Share, WalError};

/// P10, P3
pub(super) async fn nothing_is_acknowledged_after_the_end(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let durable = open.append(1, 0, 100).await;
    in_time(durable.wait()).await.expect("is durable");
    let failed = append_held(bench, &open, 2).await;
    let behind = open.append(1, 4, 100).await;
    bench.fail(true);
    bench.hold(false);
    let reason = in_time(open.wal.ended()).await;
    assert!(reason.is_some(), "P10: it says why it ended");
    for receipt in [&failed, &behind] {
        let told = in_time(receipt.wait()).await;
        assert!(matches!(told, Err(WalError::Ended)), "P10: {told:?}");
        assert!(!receipt.is_durable(), "P10");
    }
    in_time(durable.wait()).await.expect("P10: this one was");
    assert_eq!(open.kept.bases(), [0], "P10: nothing more is handed over");
    let shutdown = in_time(open.wal.shutdown(None)).await;
    assert!(shutdown.is_err(), "P10: it ended before");
    let late = in_time(open.wal.reserve(1000, Share::Common)).await;
    assert!(matches!(late, Err(WalError::Ended)), "P10: {late:?}");
    bench.fail(false);
    let found = sealed(bench, EPOCH, EPOCH, START).await;
    let acknowledged = open.kept.seen();
    assert!(found.starts_with(&acknowledged), "P3: what it acknowledged");
}

/// P15, P10
pub(super) async fn a_fence_ends_the_log_at_once(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    open.append_durably(0, 100).await;
    let held = append_held(bench, &open, 2).await;
    let behind = open.append(1, 4, 100).await;
    let all = bench.memory().limit();
    let mut waiting = Box::pin(unconstrained(open.wal.reserve(all, Share::Common)));
    assert!(poll_once(waiting.as_mut()).await.is_none());
    open.wal.fence("the metadata says so".to_owned());
    open.wal.fence("a second time".to_owned());
    let reason = in_time(open.wal.ended()).await;
    let reason = reason.map(|reason| reason.to_string());
    let told = reason.is_some_and(|reason| reason.contains("the metadata says so"));
    assert!(told, "P15: it says why it ended");
    for receipt in [&held, &behind] {
        let told = in_time(receipt.wait()).await;
        assert!(matches!(told, Err(WalError::Ended)), "P10: {told:?}");
    }
    let late = in_time(waiting).await;
    assert!(matches!(late, Err(WalError::Ended)), "P5: {late:?}");
    assert!(open.wal.check().is_err() && open.wal.try_reserve(1).is_none());
    bench.hold(false);
    let shutdown = in_time(open.wal.shutdown(None)).await;
    assert!(matches!(shutdown, Err(WalError::Fenced { .. })), "P12");
    assert_eq!(open.kept.bases(), [0], "P10: nothing more is handed over");
    open.kept.batches().clear();
    until(|| bench.memory().used() == 0).await;
    let found = sealed(bench, EPOCH, EPOCH, START).await;
    assert_eq!(found.first().map(|first| first.1), Some(0), "P3");
}

/// P12
pub(super) async fn a_shutdown_leaves_nothing_behind(bench: &dyn Bench) {
    let open = Open::new(bench).await;
    let mut receipts = Vec::new();
    for base in 0..50 {
        receipts.push(open.append(1, base * 2, 1000).await);
    }
    open.close().await;
    let are_durable = receipts.iter().all(AppendReceipt::is_durable);
    assert!(are_durable, "P12: what was appended before");
    assert_eq!(open.kept.bases().len(), 50, "P12");
    assert!(in_time(open.wal.ended()).await.is_none(), "P12: no error");
    in_time(open.wal.shutdown(None))
        .await
        .expect("P12: once more");
    let found = sealed(bench, EPOCH, EPOCH, START).await;
    assert_eq!(found, open.kept.seen(), "P12");
}

/// P12, P10, P3
pub(super) async fn a_shutdown_that_is_late_ends_the_log_without_what_is_not_durable(
    bench: &dyn Bench,
) {
    let open = Open::new(bench).await;
    open.append_durably(0, 100).await;
    let held = append_held(bench, &open, 2).await;
    let behind = open.append(1, 4, 100).await;
    let late = in_time(open.wal.shutdown(Some(Instant::now()))).await;
    assert!(matches!(late, Err(WalError::Late { .. })), "P12: {late:?}");
    for receipt in [&held, &behind] {
        let told = in_time(receipt.wait()).await;
        assert!(matches!(told, Err(WalError::Ended)), "P10: {told:?}");
    }
    let reason = in_time(open.wal.ended()).await;
    assert!(matches!(reason, Some(WalError::Late { .. })), "{reason:?}");
    let refused = in_time(open.wal.reserve(1000, Share::Unbounded)).await;
    assert!(matches!(refused, Err(WalError::Ended)), "P5: {refused:?}");
    bench.hold(false);
    let again = in_time(open.wal.shutdown(None)).await;
    assert!(
        matches!(again, Err(WalError::Late { .. })),
        "P12: {again:?}"
    );
    assert_eq!(open.kept.bases(), [0], "P10: nothing more is handed over");
    let acknowledged = open.kept.seen();
    open.kept.batches().clear();
    until(|| bench.memory().used() == 0).await;
    let found = sealed(bench, EPOCH, EPOCH, START).await;
    assert!(found.starts_with(&acknowledged), "P3: what it acknowledged");
}
