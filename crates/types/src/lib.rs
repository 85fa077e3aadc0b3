//! The vocabulary of Highwater as types: Kafka's identifiers, the identifiers of streams and objects, and the limits
//! that aren't settings.
//!
//! The glossary is in section 3 of `docs/DESIGN.md`. Everything here is plain data.

mod byte_size;
mod cluster;
mod kafka;
pub mod limits;
mod stream;

pub use byte_size::{ByteSize, ParseByteSizeError};
pub use cluster::{ClusterId, LogIndex, NodeEpoch, StoreId, Term};
pub use kafka::{
    LeaderEpoch, NodeId, ParseUuidError, PartitionIndex, ProducerEpoch, ProducerId, TopicId, Uuid,
};
pub use stream::{
    ObjectId, ObjectKind, StreamId, StreamOffset, StreamRange, Timestamp, WalPosition,
};
