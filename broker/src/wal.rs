//! Which write-ahead log a node has: the one place of the broker that knows the kinds there are.

use std::sync::Arc;

use highwater_kraft_meta::command::{Closing, Recovered, WalKind};
use highwater_runtime::ByteBudget;
use highwater_wal::disk::DiskWalFactory;
use highwater_wal::{SealedWal, WalFactory};

use crate::config::Config;
use crate::machine::Machine;

/// The log that the configuration chooses.
pub(crate) struct ChosenWal {
    /// Of the epochs that write to it (D4).
    pub(crate) kind: WalKind,
    /// Where it is, for people.
    pub(crate) place: String,
    /// What finds it.
    pub(crate) factory: Box<dyn WalFactory>,
}

/// Chooses; `memory` is the log cache's budget, which appended batches hold until they leave it (M1).
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

/// How an epoch is closed, once what its log left is registered (E3).
pub(crate) fn closing(sealed: &SealedWal) -> Closing {
    match sealed {
        SealedWal::Empty | SealedWal::Replay { .. } => Closing::Recovered(Recovered {}),
    }
}
