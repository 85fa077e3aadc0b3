//! S3-compatible storage behind one trait: strong read-after-write and conditional puts are required of every backend.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

mod backend;
mod claim;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod decorator;
mod error;
mod key;
pub mod layout;
pub mod metrics;
mod open;
mod probe;

pub use backend::{LocalStorage, MemoryStorage, S3Storage};
pub use claim::Claim;
pub use config::{Config, CredentialSource, Place, S3Config};
pub use decorator::{
    Bounded, Limited, Metered, RequestCount, RequestCounts, RequestKind, Retrying,
};
pub use error::StorageError;
pub use key::ObjectKey;
pub use open::{OpenError, Opened, Opener, Ports, open};
pub use probe::ProbeError;

/// A store of immutable objects.
#[async_trait]
pub trait ObjectStorage: Debug + Send + Sync + 'static {
    /// Writes an object; durable when it returns. The parts are written one after the other, not joined.
    ///
    /// # Errors
    /// [`StorageError::Precondition`] when the mode forbids it; [`StorageError::Unknown`] when it may or may not be there.
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError>;
    /// Reads a range of bytes; a range past the end is clipped.
    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError>;
    /// Reads the last `bytes` (all of a smaller object), with the object's whole length.
    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError>;
    /// The objects under a prefix, by key, after `after`. Never in the read path.
    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>>;
    /// Deletes objects; one that is not there counts as deleted.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError>;
}

/// What a put does about an object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces it.
    Overwrite,
    /// Leaves it and fails: the fencing primitive.
    IfAbsent,
    /// Replaces exactly this version.
    IfVersion(ObjectVersion),
}

/// Identifies one body of one key (an ETag).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion(pub String);

/// Why a request is made; in the order of priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoClass {
    /// A group commit.
    Wal,
    /// An upload.
    Upload,
    /// A consumer behind the tail.
    ColdRead,
    /// Compaction, backup, sweeping.
    Compaction,
    /// What a start asks: whose the store is, and whether it can be trusted. Refusals are part of it.
    Start,
}

/// One object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: ObjectKey,
    /// Bytes.
    pub bytes: u64,
}
