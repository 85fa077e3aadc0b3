//! S3-compatible storage behind one trait. Every backend has to have strong read-after-write and conditional puts.

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
mod machine;
pub mod metrics;
mod open;
mod probe;

pub use backend::{LocalStorage, MemoryStorage, S3Storage};
pub use claim::Claim;
pub use config::{Config, CredentialSource, Place, S3Config};
pub use decorator::{
    Bounded, Limited, Metered, Reached, RequestCount, RequestCounts, RequestKind, Retrying,
};
#[cfg(any(test, feature = "conformance"))]
pub use decorator::{Failure, Gate, Hooked, Operation, Plan, Request};
pub use error::StorageError;
pub use key::ObjectKey;
pub use open::{OpenError, Opened, Opener, Ports, open};
pub use probe::ProbeError;

/// A store of immutable objects.
#[async_trait]
pub trait ObjectStorage: Debug + Send + Sync + 'static {
    /// Writes an object, which is durable when this returns. The parts are written one after the other without a copy.
    ///
    /// # Errors
    /// [`StorageError::Precondition`] when the mode forbids the put; [`StorageError::Unknown`] when the object may
    /// exist or not.
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
    /// Reads the last `bytes` of an object, or all of a smaller one, and returns its length too.
    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError>;
    /// Lists the objects under a prefix that come after `after`, in the order of their keys. Reads of records never use
    /// it.
    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>>;
    /// Deletes objects; an object that does not exist counts as deleted.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError>;
}

/// The behaviour of a put when the object exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces the object.
    Overwrite,
    /// Fails and leaves the object: the primitive that fencing is built on.
    IfAbsent,
    /// Replaces the object if it still has this version.
    IfVersion(ObjectVersion),
}

/// Identifies one body of one key (an ETag).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion(pub String);

/// The purpose of a request, in the order of priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoClass {
    /// A group commit of the WAL.
    Wal,
    /// An upload.
    Upload,
    /// A read for a consumer behind the tail.
    ColdRead,
    /// Compaction, backup, sweeping.
    Compaction,
    /// A start, which asks whose store this is and whether it can be trusted, and for which refusals are answers.
    Start,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub bytes: u64,
}
