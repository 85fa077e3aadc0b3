//! Kafka's log over one stream: validation, idempotence, offsets by time, retention.

// numbers of clients: what cannot overflow says so (CONVENTIONS, Errors)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod active;
mod config;
mod error;
mod find;
mod log;
mod producer_state;
mod producers;
mod recompress;
mod rolls;
mod validate;

pub use config::{LogConfig, LogContext};
pub use error::{AppendError, ReadError};
pub use log::{Appended, FoundOffset, Isolation, OffsetQuery, PartitionLog, ReadOutcome};
pub use producer_state::KafkaDeltaFold;
pub use producers::ProducerMemory;
pub use validate::{Origin, ValidatedBatch};
