//! Runs coordinators over the partitions of internal topics: `crates/coordinator` decides, this appends and answers.
//!
//! A [`Host`] is one kind of coordinator. [`Shards`] has a driver for each open partition of its topic, which loads the
//! state machine, does what is asked, appends what came of it and answers. Groups are the one kind that there is.

mod groups;
mod host;
mod load;
mod packing;
mod queue;
mod rests;
mod shard;
mod shards;
mod work;

pub(crate) use groups::{Groups, follow};
use host::Host;
use shards::Shards;

#[cfg(test)]
mod tests;
