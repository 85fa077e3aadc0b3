//! The load of a broker, by which the active controller balances leaderships (E4).

/// The most partitions that a load names.
pub const HEAVIEST_MAX: usize = 32;

/// How much work the partitions take that a broker leads, as a mean of its last intervals of balancing. It is kept in
/// memory and never logged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Load {
    /// The weight of all partitions that the broker leads: bytes of batches, written and read, in a second. Each batch
    /// that is written and each read of a partition that finds records count as some more bytes.
    #[prost(uint64, tag = "1")]
    pub total: u64,
    /// The partitions that weigh most, at most [`HEAVIEST_MAX`] of them.
    #[prost(message, repeated, tag = "2")]
    pub heaviest: Vec<StreamLoad>,
}

/// The load of one partition.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct StreamLoad {
    /// The partition's stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// Its part of [`Load::total`].
    #[prost(uint64, tag = "2")]
    pub weight: u64,
}
