//! Waiting for any of many partitions to change.

use std::pin::pin;

use futures::future::select_all;
use highwater_partition_log::PartitionLog;
use highwater_s3stream::StreamBounds;
use tokio::sync::watch;
use tokio::time::Instant;

/// Watches of partitions, as they stood before a look at them.
#[derive(Debug)]
pub(crate) struct Waiting(Vec<watch::Receiver<StreamBounds>>);

/// Watches every log from now on.
pub(crate) fn subscribe<'a>(logs: impl Iterator<Item = &'a PartitionLog>) -> Waiting {
    let mut watches: Vec<_> = logs.map(PartitionLog::watch).collect();
    for watch in &mut watches {
        watch.mark_unchanged();
    }
    Waiting(watches)
}

/// Returns when one of them changed, or at the deadline.
pub(crate) async fn changed(mut waiting: Waiting, deadline: Instant) {
    if waiting.0.is_empty() {
        return tokio::time::sleep_until(deadline).await;
    }
    let changes = waiting.0.iter_mut().map(|watch| Box::pin(watch.changed()));
    let any = pin!(select_all(changes));
    // the deadline is as good an end as a change: the caller looks again either way
    drop(tokio::time::timeout_at(deadline, any).await);
}
