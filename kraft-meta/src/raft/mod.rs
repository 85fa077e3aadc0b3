//! The Raft library and all code that uses it: no type of the library leaves this folder.

mod format;
mod log_store;
mod message;
mod network;
mod node;
mod record;
mod snapshot_store;
mod state_store;
mod types;
mod voter;

pub use node::{Config, Quorum, RaftMetadata};
pub use voter::Voter;
