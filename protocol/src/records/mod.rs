//! Record batches v2, which are sent and stored in the same form. Source: KIP-98, `DefaultRecordBatch`,
//! `DefaultRecord`.

mod batch;
mod builder;
mod compression;
mod record;
mod walk;

pub use batch::{
    BATCH_HEADER_BYTES, BatchError, BatchHeader, HEAD_BYTES, TimestampType, empty_batch, head,
    split_batches,
};
pub use builder::{BatchBuilder, ProducerFields};
pub use compression::{
    Codec, CompressionError, Decoder, Encoder, compress, compress_at, decompress,
};
pub use record::{Record, RecordError, RecordHeader, Records, RecordsIter};
pub use walk::walk;
