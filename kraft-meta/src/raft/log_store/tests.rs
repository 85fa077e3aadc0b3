//! Tests of what a Raft log says to be durable.

use futures::FutureExt;
use highwater_io::RealDevice;
use openraft::EntryPayload;
use openraft::storage::RaftLogStorageExt;
use openraft::vote::RaftLeaderId;

use super::super::fixture::AsTasks;
use super::super::types::LeaderId;
use super::*;

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 1).to_committed(), index)
}

// D2: an entry of a later term that was cut off is no sign that those of an earlier term, which follow, are durable
#[tokio::test]
async fn what_was_cut_off_is_durable_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let device: Arc<dyn Device> = Arc::new(RealDevice);
    let opened = LogStore::open(device, &AsTasks, dir.path(), [9; 16]).await;
    let log = opened.expect("opens");
    let append = async |log_id| {
        let payload = EntryPayload::Blank;
        let appended = log
            .clone()
            .blocking_append([Entry { log_id, payload }])
            .await;
        appended.expect("is durable");
    };
    let is_durable = |last| log.until_durable(Some(last)).now_or_never().is_some();
    append(id(1, 7)).await;
    append(id(3, 8)).await;
    assert!(is_durable(id(3, 8)) && !is_durable(id(3, 9)));
    let cut = log.clone().truncate_after(Some(id(1, 7))).await;
    cut.expect("is durable");
    assert!(is_durable(id(1, 7)) && !is_durable(id(2, 8)));
    append(id(2, 8)).await;
    assert!(is_durable(id(2, 8)) && !is_durable(id(2, 9)));
    log.shutdown().await.expect("closes");
}
