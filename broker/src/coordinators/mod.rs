//! Runs coordinators over the partitions of internal topics: `crates/coordinator` makes the decisions, and this module
//! appends their records and gives the answers.
//!
//! A [`Host`] is one kind of coordinator. [`Shards`] has a driver for each open partition of the kind's topic. The
//! driver loads the state machine, makes the calls, appends their records, and answers. Groups are the only kind so
//! far.

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
