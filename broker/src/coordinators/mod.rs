//! Runs coordinators over their partitions: `crates/coordinator` decides, this appends and answers.

mod groups;
mod shard;

pub(crate) use groups::{Groups, follow};
