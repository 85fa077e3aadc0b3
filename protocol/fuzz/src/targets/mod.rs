//! What is fed from the network.

mod answers;
mod decompression;
mod records;
mod requests;

use crate::campaign::Target;

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    requests::TARGET,
    answers::TARGET,
    records::TARGET,
    decompression::TARGET,
];
