//! A log on a device that refuses operations (rule D3).

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_disk_log::{Appended, DiskLog};

use super::{CONFIG, Disk, MIB, PATIENCE, Received, append};

// D3: an fsync error ends the log and is never tried again
#[tokio::test]
async fn a_failed_sync_ends_the_log() {
    let disk = Disk::new();
    let log = disk.open(1, Arc::new(Received::default())).await;
    assert!(append(&log, b"durable").wait(log.state()).await);
    disk.faults.syncs_fail.store(true, Ordering::SeqCst);
    assert!(!append(&log, b"lost").wait(log.state()).await);
    log.ended().await;
    disk.faults.syncs_fail.store(false, Ordering::SeqCst);
    assert!(!append(&log, b"late").wait(log.state()).await);
    assert!(log.shutdown().await.is_err(), "shutdown returns the error");
}

/// Requests a third file of a log that has two, and returns the error with which the log ends.
async fn ends_when_it_grows(disk: &Disk, log: &DiskLog<()>) -> String {
    log.request_room(3 * CONFIG.file_bytes);
    let ended = tokio::time::timeout(PATIENCE, log.ended()).await;
    let error = ended.expect("in time").expect("by an error").to_string();
    let full = log.state().borrow().full;
    assert!(!full && !append(log, b"late").wait(log.state()).await);
    assert!(error.contains(&disk.log().display().to_string()), "{error}");
    error
}

// D3: the log waits only for a disk without room.
#[tokio::test]
async fn a_log_that_cannot_make_files_for_another_reason_ends_with_it() {
    for (kind, said) in [
        (ErrorKind::ReadOnlyFilesystem, "read-only filesystem"),
        (ErrorKind::Other, "other error"),
        (ErrorKind::PermissionDenied, "permission denied"),
    ] {
        let disk = Disk::new();
        let log = disk.open_of_two_files().await;
        disk.faults.fail_creates(Some(kind));
        let error = ends_when_it_grows(&disk, &log).await;
        assert!(
            error.contains(said) && error.contains("next.new"),
            "{error}"
        );
    }
    let disk = Disk::new();
    let log = disk.open_of_two_files().await;
    disk.faults.syncs_fail.store(true, Ordering::SeqCst);
    let error = ends_when_it_grows(&disk, &log).await;
    assert!(error.contains("the device cannot sync"), "{error}");
    let disk = Disk::new();
    let log = disk.open_of_two_files().await;
    disk.faults.dir_syncs_fail.store(true, Ordering::SeqCst);
    let error = ends_when_it_grows(&disk, &log).await;
    assert!(error.contains("cannot sync a directory"), "{error}");
    let disk = Disk::new();
    let log = disk.open_of_two_files().await;
    std::fs::remove_dir_all(disk.log()).expect("removes");
    let error = ends_when_it_grows(&disk, &log).await;
    assert!(error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_quota_is_a_full_disk() {
    let disk = Disk::new();
    let log = disk.open_of_two_files().await;
    disk.faults.fail_creates(Some(ErrorKind::QuotaExceeded));
    let (mut state, three_files) = (log.state(), 3 * CONFIG.file_bytes);
    log.request_room(three_files);
    let full = state.wait_for(|state| state.full).await;
    assert!(full.expect("the writer lives").ended.is_none());
    disk.faults.fail_creates(None);
    let not_full = state.wait_for(|state| !state.full).await;
    drop(not_full.expect("the writer lives"));
    log.request_room(three_files);
    let roomy = state.wait_for(|state| state.room >= three_files).await;
    drop(roomy.expect("the writer lives"));
    log.shutdown().await.expect("closes");
}

/// Waits until the device has refused to open a file once more.
async fn until_refused(disk: &Disk) {
    disk.faults.refused.store(0, Ordering::SeqCst);
    while disk.faults.refused.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

// D3: the name of a file, be it new or reused, needs a descriptor to be made durable.
#[tokio::test]
async fn a_log_waits_for_a_descriptor_to_open_its_directory_by() {
    let disk = Disk::new();
    let log = disk.open_of_two_files().await;
    let taken = &disk.faults.descriptors_are_taken;
    taken.store(true, Ordering::SeqCst);
    let (mut state, three_files) = (log.state(), 3 * CONFIG.file_bytes);
    log.request_room(three_files);
    until_refused(&disk).await;
    taken.store(false, Ordering::SeqCst);
    let roomy = state.wait_for(|state| state.room >= three_files || state.ended.is_some());
    assert_eq!(roomy.await.expect("the writer lives").ended, None);
    for _ in 0..5 {
        assert!(append(&log, &vec![7; MIB]).wait(log.state()).await);
    }
    taken.store(true, Ordering::SeqCst);
    log.trim(log.state().borrow().end);
    until_refused(&disk).await;
    taken.store(false, Ordering::SeqCst);
    assert!(append(&log, b"after").wait(log.state()).await);
    log.shutdown().await.expect("closes");
}

// D3: a file for which the disk had no room half-way is made again from the beginning.
#[tokio::test]
async fn a_disk_that_fills_in_the_middle_of_a_file_leaves_none_of_it() {
    let disk = Disk::new();
    let log = disk.open_of_two_files().await;
    let (mut state, three_files) = (log.state(), 3 * CONFIG.file_bytes);
    disk.faults.grows_fail.store(true, Ordering::SeqCst);
    log.request_room(three_files);
    let full = state.wait_for(|state| state.full).await;
    assert!(full.expect("the writer lives").ended.is_none());
    assert!(!disk.log().join("next.new").exists());
    disk.faults.grows_fail.store(false, Ordering::SeqCst);
    let not_full = state.wait_for(|state| !state.full).await;
    drop(not_full.expect("the writer lives"));
    log.request_room(three_files);
    let roomy = state.wait_for(|state| state.room >= three_files).await;
    drop(roomy.expect("the writer lives"));
    log.shutdown().await.expect("closes");
    assert!(disk.recover().await.is_ok(), "every file is whole");
}

// D3: writes resume when space returns, without a restart
#[tokio::test]
async fn a_full_device_is_told_and_waited_for() {
    let disk = Disk::new();
    let log = disk.open(1, Arc::new(Received::default())).await;
    let mut state = log.state();
    let two_files = 2 * CONFIG.file_bytes;
    log.request_room(two_files);
    let roomy = state.wait_for(|state| state.room >= two_files).await;
    drop(roomy.expect("the writer lives"));
    disk.faults.is_full.store(true, Ordering::SeqCst);
    log.request_room(2 * two_files);
    let full = state.wait_for(|state| state.full).await;
    assert!(full.expect("the writer lives").room >= two_files);
    assert!(append(&log, &vec![1; MIB]).wait(log.state()).await, "fits");
    // entries that don't fit are never dropped (A1)
    let more: Vec<Appended> = (0..9).map(|_| append(&log, &vec![2; MIB])).collect();
    let blocked = more[8];
    let wait = tokio::time::timeout(Duration::from_millis(300), blocked.wait(log.state()));
    assert!(wait.await.is_err(), "there is no room");
    disk.faults.is_full.store(false, Ordering::SeqCst);
    assert!(blocked.wait(log.state()).await);
    let not_full = state.wait_for(|state| !state.full).await;
    drop(not_full.expect("the writer lives"));
    log.shutdown().await.expect("closes");
}
