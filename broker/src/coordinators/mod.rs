//! Runs coordinators over their partitions: `crates/coordinator` decides, this appends and answers.

mod groups;
mod load;
mod packing;
mod rests;
mod shard;
mod work;

pub(crate) use groups::{Groups, follow};

#[cfg(test)]
mod tests;
