//! The targets: all code that gets input from the network.

mod answers;
mod decompression;
mod records;
mod requests;

use crate::campaign::Target;

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    requests::TARGET,
    answers::TARGET,
    records::TARGET,
    decompression::TARGET,
];
