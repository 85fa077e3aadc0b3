//! The disk WAL does what every WAL must.

use std::sync::Arc;
use std::time::Duration;

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
