//! What is fed from the network.

mod decompression;
mod records;
mod requests;

use crate::campaign::Target;

/// All of them.
pub(crate) const TARGETS: &[Target] = &[requests::TARGET, records::TARGET, decompression::TARGET];
