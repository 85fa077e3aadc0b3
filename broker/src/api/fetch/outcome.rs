//! What a fetch finds of one partition.

use highwater_partition_log::ReadOutcome;
use highwater_types::NodeId;

use crate::api::error::Refusal;

/// The outcome of one partition.
#[derive(Debug)]
pub(super) enum Outcome {
    Read(ReadOutcome),
    /// The partition needs objects.
    Cold,
    /// Another broker serves this consumer, without records in this answer (KIP-392).
    Elsewhere(NodeId, ReadOutcome),
    Failed(Refusal),
}
