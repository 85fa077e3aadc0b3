//! The Raft library and everything that knows it: nothing of it leaves this folder.

mod format;
mod log_store;
mod network;
mod node;
mod record;
mod snapshot_store;
mod state_store;
mod types;

pub use node::{Config, RaftMetadata};
