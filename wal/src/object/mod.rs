//! The object WAL (rules W): group commits as objects that are created only if absent, and seals.

mod attempt;
mod batcher;
mod config;
mod factory;
mod group;
mod latency;
#[cfg(test)]
mod model;
mod patience;
mod put;
mod sealer;
mod sealing;
mod wal;
mod writer;

pub use config::{Batching, Config, Repeats};
pub use factory::{ObjectWalFactory, Ports};
