//! The disk WAL: one ring of files for all partitions of a node, on `disk-log`.

mod factory;
mod record;
mod ring;

pub use factory::{Config, DiskWalFactory, remove};
