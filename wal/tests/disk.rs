//! The disk WAL does what every WAL must.

use std::sync::Arc;

use highwater_io::{RealDevice, RealThreads};
use highwater_runtime::ByteBudget;
use highwater_wal::conformance;
use highwater_wal::disk::{Config, DiskWalFactory};

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_wal_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        dir: dir.path().join("wal"),
        bytes_max: 64 << 20,
    };
    let memory = ByteBudget::new(32 << 20);
    let device = Arc::new(RealDevice);
    let factory = DiskWalFactory::new(device, Arc::new(RealThreads), config, memory.clone());
    conformance::run(&factory).await;
    assert_eq!(memory.used(), 0, "what was appended gave its memory back");
}
