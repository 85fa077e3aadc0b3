//! The disk WAL does what every WAL must.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};
use highwater_runtime::ByteBudget;
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId};
use highwater_wal::disk::{Config, DiskWalFactory};
use highwater_wal::{
    ConfirmedBatch, ConfirmedSink, Share, StreamBatch, WalError, WalFactory, conformance,
    record_bytes,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_wal_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 64 << 20,
        new_seed: [7; 16],
    };
    let memory = ByteBudget::new(32 << 20);
    let device = Arc::new(RealDevice);
    let factory = DiskWalFactory::new(device, Arc::new(RealThreads), config, memory.clone());
    conformance::run(&factory).await;
    // the writer's thread lets go of its last buffer after the shutdown is answered
    for _ in 0..500 {
        if memory.used() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(memory.used(), 0, "what was appended gave its memory back");
}

#[derive(Debug)]
struct Nowhere;

impl ConfirmedSink for Nowhere {
    fn confirmed(&self, _batches: Vec<ConfirmedBatch>) {}
}

const BATCH_BYTES: usize = 1 << 20;

fn batch() -> StreamBatch {
    StreamBatch {
        count: 1,
        max_timestamp: 0,
        append_time: 0,
        head: [0; 16],
        tail: Bytes::from(vec![1; BATCH_BYTES - 16]),
        tail_crc: crc32fast::hash(&vec![1; BATCH_BYTES - 16]),
        delta: Bytes::new(),
        roll: false,
    }
}

// A1, D3: what is promised to one is not promised to the next
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_its_files_have_no_room_for_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 512 << 20,
        new_seed: [7; 16],
    };
    let faults = Arc::new(Faults::default());
    let device = Arc::new(FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults)));
    let memory = ByteBudget::new(512 << 20);
    let factory = DiskWalFactory::new(device, Arc::new(RealThreads), config, memory);
    let wal = factory
        .open(NodeId(1), NodeEpoch(5), Arc::new(Nowhere))
        .await;
    let wal = wal.expect("opens");
    let bytes = record_bytes(BATCH_BYTES);
    drop(
        wal.reserve(40 * bytes, Share::Common)
            .await
            .expect("makes three files"),
    );
    faults.is_full.store(true, Ordering::SeqCst);
    for round in 0..3 {
        let mut promised = Vec::new();
        let refused = loop {
            assert!(promised.len() < 100, "promised what no file has room for");
            match wal.reserve(bytes, Share::Common).await {
                Ok(permit) => promised.push(permit),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, WalError::Full), "{refused:?}");
        assert!(promised.len() >= 16, "round {round}: {}", promised.len());
        let mut last = None;
        for (base, permit) in (0..).zip(promised) {
            last = Some(wal.append(permit, StreamId(1), LeaderEpoch(1), base, &batch()));
        }
        let durable = last.as_mut().expect("some fit").wait();
        let durable = tokio::time::timeout(Duration::from_secs(20), durable).await;
        durable.expect("in time").expect("what was promised fits");
        wal.trim(wal.confirmed()).await.expect("trims");
        // its files are used again, soon
        for _ in 0..500 {
            if wal.reserve(16 * bytes, Share::Common).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    wal.shutdown().await.expect("closes");
}

// M2: what a coordinator has decided is not refused, and is durable when the disk has room again
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_what_is_past_every_bound_waiting() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 64 << 20,
        new_seed: [7; 16],
    };
    let faults = Arc::new(Faults::default());
    let device = Arc::new(FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults)));
    let memory = ByteBudget::new(32 << 20);
    let factory = DiskWalFactory::new(device, Arc::new(RealThreads), config, memory);
    let wal = factory
        .open(NodeId(1), NodeEpoch(5), Arc::new(Nowhere))
        .await;
    let wal = wal.expect("opens");
    faults.is_full.store(true, Ordering::SeqCst);
    let bytes = record_bytes(BATCH_BYTES);
    let mut promised = Vec::new();
    while let Ok(permit) = wal.reserve(bytes, Share::Common).await {
        promised.push(permit);
    }
    let mut last = None;
    for base in 0..2 + i64::try_from(promised.len()).expect("few") {
        let permit = wal.reserve(bytes, Share::Unbounded).now_or_never();
        let permit = permit.expect("at once").expect("past every bound");
        last = Some(wal.append(permit, StreamId(1), LeaderEpoch(1), base, &batch()));
    }
    let mut last = last.expect("some");
    assert!(matches!(wal.check(), Err(WalError::Full)));
    assert!(!last.is_durable(), "there is no room for it");
    faults.is_full.store(false, Ordering::SeqCst);
    let durable = tokio::time::timeout(Duration::from_secs(20), last.wait()).await;
    durable.expect("in time").expect("it was kept");
    drop(promised);
    wal.shutdown().await.expect("closes");
}
