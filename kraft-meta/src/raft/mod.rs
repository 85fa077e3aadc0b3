//! The Raft library and all code that uses it: no type of the library leaves this folder.

mod change;
mod describe;
#[cfg(test)]
mod fixture;
mod format;
mod hand_over;
mod install;
mod log_store;
mod members;
mod message;
mod network;
mod node;
mod observer;
mod record;
mod replica;
mod snapshot_store;
mod state_store;
mod types;
mod voter;

pub use node::{Config, Quorum, RaftMetadata};
pub use observer::{Observer, ObserverMetadata};
pub use voter::Voter;
