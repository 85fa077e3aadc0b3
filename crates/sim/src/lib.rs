#![doc = include_str!("../README.md")]

mod checker;
mod cluster;
mod device;
mod host;
mod network;
mod options;
mod run;
mod scenario;
mod store;
mod trace;
mod wal;
mod wire;
mod workload;
mod world;

pub use device::{Crash, Disk, SimDevice, SyncClass, Synced, Trouble};
pub use network::{SimNetwork, SimThreads};
pub use options::{Failed, Options, Outcome};
pub use run::run;
pub use store::StoreKind;
pub use trace::Trace;
pub use wal::WalOfRun;
