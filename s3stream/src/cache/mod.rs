//! The batches that are in memory.

mod log_cache;

pub(crate) use log_cache::{Cached, StreamCache};
