#![doc = include_str!("../FORMAT.md")]

mod block;
mod directory;
mod error;
mod join;
mod object;
mod seal;

pub use block::{BatchEntry, BlockEntry, DataBlock, SummedBytes};
pub use directory::{BlockSource, RollPart, StreamDirectory};
pub use error::FormatError;
pub use join::{JoinError, join};
pub use object::{
    FOOTER_BYTES, Footer, HEADER_BYTES, IndexEntry, ObjectHeader, ObjectWriter, StreamPart,
    WrittenObject,
};
pub use seal::{SEAL_BYTES, Seal};
