//! Tests of what a Raft log says to be durable.

use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use highwater_io::{Faults, FaultyDevice, RealDevice};
use openraft::EntryPayload;
use openraft::storage::RaftLogStorageExt;
use openraft::vote::RaftLeaderId;
use tokio::time::timeout;

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

// D2: otherwise a voter whose power fails may vote twice in a term
#[tokio::test]
async fn a_vote_is_given_once_it_is_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let faults = Arc::new(Faults::default());
    let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults));
    let opened = LogStore::open(Arc::new(device), &AsTasks, dir.path(), [9; 16]).await;
    let mut log = opened.expect("opens");
    faults.hang_syncs_below(Some(dir.path().to_owned()));
    let vote = Vote::new(3, 1);
    let mut kept = log.clone();
    let mut saving = pin!(kept.save_vote(&vote));
    let early = timeout(Duration::from_millis(200), &mut saving).await;
    early.expect_err("its sync hangs");
    assert_eq!(log.read_vote().await.expect("is read"), None);
    faults.hang_syncs_below(None);
    saving.await.expect("is durable");
    assert_eq!(log.read_vote().await.expect("is read"), Some(vote));
    log.shutdown().await.expect("closes");
}
