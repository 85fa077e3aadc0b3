//! Kafka's log over one stream: validation, idempotence, offsets by time, retention.

// Arithmetic on numbers that clients send is checked or saturating (CONVENTIONS, Errors).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod active;
mod checkpoint;
mod config;
mod decoding;
mod epochs;
mod error;
mod find;
#[cfg(feature = "fixture")]
pub mod fixture;
mod log;
mod lost;
mod producer_state;
mod producers;
mod recompress;
mod retention;
mod rolls;
mod validate;
mod watermarks;

pub use checkpoint::KafkaDeltaFold;
pub use config::{LogConfig, LogContext};
pub use error::{AppendError, ReadError};
pub use find::FoundOffset;
pub use log::{Appended, OffsetQuery, PartitionLog};
pub use producers::ProducerMemory;
pub use validate::{Origin, ValidatedBatch};
pub use watermarks::{Isolation, ReadOutcome};
