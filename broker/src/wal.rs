//! Chooses the write-ahead log of a node. No other place of the broker knows which kinds there are.

use std::sync::Arc;

use highwater_kraft_meta::command::WalKind;
use highwater_runtime::ByteBudget;
use highwater_wal::WalFactory;
use highwater_wal::disk::DiskWalFactory;

use crate::config::Config;
use crate::machine::Machine;

/// The log that the configuration chooses.
pub(crate) struct ChosenWal {
    /// The kind that is recorded for epochs that write to it (D4).
    pub(crate) kind: WalKind,
    /// Its place, for messages to people.
    pub(crate) place: String,
    /// The factory that reads and opens it.
    pub(crate) factory: Box<dyn WalFactory>,
}

/// Chooses the log; `memory` is the log cache's budget, which appended batches hold until they leave the cache (M1).
pub(crate) fn choose(config: &Config, machine: &Machine, memory: ByteBudget) -> ChosenWal {
    let dir = config.data_dir.join("wal");
    let place = dir.display().to_string();
    let disk = highwater_wal::disk::Config {
        dir,
        bytes_max: config.size("highwater.wal.size"),
        new_seed: machine.rng.next_id(),
    };
    let (device, threads) = (Arc::clone(&machine.device), Arc::clone(&machine.threads));
    ChosenWal {
        kind: WalKind::Disk,
        place,
        factory: Box::new(DiskWalFactory::new(device, threads, disk, memory)),
    }
}
