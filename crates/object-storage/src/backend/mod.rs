//! The backends of object storage.

mod local;
mod memory;
pub(crate) mod s3;

pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use s3::S3Storage;
