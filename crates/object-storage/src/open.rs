//! From a setting to a store: the one place that stacks decorators.

use std::io;
use std::path::Path;
use std::sync::Arc;

use highwater_io::Device;
use highwater_runtime::SeededRng;

use crate::{LocalStorage, MemoryStorage, Metered, ObjectStorage, RequestCounts, Retrying};

/// A store and what it counts.
#[derive(Debug)]
pub struct Opened {
    /// The store, decorated.
    pub storage: Arc<dyn ObjectStorage>,
    /// Its requests, each attempt counted.
    pub requests: Arc<RequestCounts>,
}

/// Why a store cannot be opened. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No store that is known.
    #[error(
        "unknown object storage, it is file:///an/absolute/path (one node), or memory: (for tests, lost at exit) url={url}"
    )]
    Unsupported {
        /// What was asked for.
        url: String,
    },
    /// Another process has the directory.
    #[error("object storage is in use by another process url={url}")]
    InUse {
        /// What was asked for.
        url: String,
    },
    /// The machine refused.
    #[error("cannot open object storage url={url}")]
    Io {
        /// What was asked for.
        url: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

/// Opens the store that a URL names, everything in it below `prefix` (see [`crate::layout::cluster_prefix`]).
///
/// # Errors
/// [`OpenError`].
pub async fn open(
    url: &str,
    prefix: &str,
    device: Arc<dyn Device>,
    rng: SeededRng,
) -> Result<Opened, OpenError> {
    let backend: Arc<dyn ObjectStorage> = match url.split_once(':') {
        Some(("memory", "")) => Arc::new(MemoryStorage::default()),
        Some(("file", rest)) if rest.starts_with("///") => {
            let root = Path::new(&rest[2..]).join(prefix);
            match LocalStorage::open(device, &root).await {
                Ok(storage) => Arc::new(storage),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(OpenError::InUse {
                        url: url.to_owned(),
                    });
                }
                Err(source) => {
                    return Err(OpenError::Io {
                        url: url.to_owned(),
                        source,
                    });
                }
            }
        }
        _ => {
            return Err(OpenError::Unsupported {
                url: url.to_owned(),
            });
        }
    };
    let requests = Arc::new(RequestCounts::default());
    let metered: Arc<dyn ObjectStorage> = Arc::new(Metered::new(backend, Arc::clone(&requests)));
    Ok(Opened {
        storage: Arc::new(Retrying::new(metered, rng)),
        requests,
    })
}
