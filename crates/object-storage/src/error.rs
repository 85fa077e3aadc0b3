//! Errors of object storage.

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The object does not exist; the caller decides what that means.
    #[error("no such object object_key={key}")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The put mode forbids the put: the object exists, or has another version.
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
    /// The outcome is unknown: the request may have been carried out. Read back, then retry.
    #[error("outcome unknown object_key={key}")]
    Unknown {
        /// The key.
        key: String,
        /// The transport's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request failed and was certainly not carried out. Retry.
    #[error("request failed object_key={key}")]
    Failed {
        /// The key.
        key: String,
        /// The store's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
