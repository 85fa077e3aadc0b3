//! Errors of object storage.

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No such object. The caller decides.
    #[error("no such object object_key={key}")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The put mode forbids it: exists, or another version.
    #[error("precondition failed object_key={key}")]
    Precondition {
        /// The key.
        key: String,
    },
    /// The store has no room. Retry later.
    #[error("storage full object_key={key}")]
    Full {
        /// The key.
        key: String,
    },
    /// Outcome unknown: the request may have been carried out. Read back, then retry.
    #[error("outcome unknown object_key={key}")]
    Unknown {
        /// The key.
        key: String,
        /// The transport's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Failed and certainly not carried out. Retry.
    #[error("request failed object_key={key}")]
    Failed {
        /// The key.
        key: String,
        /// The store's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
