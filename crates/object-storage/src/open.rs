//! From a setting to a store: the one place that stacks decorators.
//!
//! From the store up: [`Bounded`] gives each request a deadline, [`Metered`] counts it however it ends, [`Limited`] says
//! when its turn is, [`Retrying`] makes it again where that is sound. So a wait for a turn costs no deadline, and a retry
//! waits for its turn.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_io::Device;
use highwater_runtime::{SeededRng, reasons};
use highwater_types::ClusterId;
use tokio::time::timeout;

use crate::backend::s3::Bucket;
use crate::layout::{cluster_prefix, is_cluster_prefix};
use crate::{
    Bounded, Config, Limited, LocalStorage, MemoryStorage, Metered, ObjectStorage, ProbeError,
    RequestCounts, Retrying, S3Storage, probe,
};

/// What a bucket's settings may take to be read.
const ASK_MAX: Duration = Duration::from_secs(30);

/// A store and what it counts.
#[derive(Debug)]
pub struct Opened {
    /// The store, decorated; everything in it lies below the cluster's prefix.
    pub storage: Arc<dyn ObjectStorage>,
    /// Its requests, each attempt counted.
    pub requests: Arc<RequestCounts>,
}

/// Why a store cannot be opened. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No store that is known.
    #[error(
        "unknown object storage, it is s3://bucket/prefix, file:///path (one node), or memory: (for tests, \
         lost at exit) url={url}"
    )]
    Unsupported {
        /// What was asked for.
        url: String,
    },
    /// Another process has the directory.
    #[error("the object store is in use by another process url={url}")]
    InUse {
        /// What was asked for.
        url: String,
    },
    /// It has data of another cluster.
    #[error(
        "the object store has data of another cluster ({other}): it belongs to another data directory url={url}"
    )]
    OtherCluster {
        /// What was asked for.
        url: String,
        /// The other's prefix.
        other: String,
    },
    /// The machine refused.
    #[error("cannot open the object store url={url}: {source}")]
    Io {
        /// What was asked for.
        url: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// It can't be reached, or its settings are such that it would lose objects.
    #[error("cannot use the object store: {reason} url={url}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Why, for people.
        reason: String,
    },
    /// The start-up probe does not trust it.
    #[error("the object store can't be trusted: {reason} url={url}")]
    Untrusted {
        /// What was asked for.
        url: String,
        /// The promise it broke.
        reason: String,
    },
}

/// Opens the store that a configuration names and looks whether it can be trusted; what this cluster keeps lies below its
/// own prefix, and another cluster's refuses. `environment` is where S3 credentials may stand.
///
/// # Errors
/// [`OpenError`].
pub async fn open(
    config: &Config,
    cluster: ClusterId,
    environment: &BTreeMap<String, String>,
    device: Arc<dyn Device>,
    rng: SeededRng,
) -> Result<Opened, OpenError> {
    let url = &config.url;
    let prefix = cluster_prefix(cluster);
    let mut probed = false;
    let backend: Arc<dyn ObjectStorage> = match url.split_once(':') {
        Some(("memory", "")) => Arc::new(MemoryStorage::default()),
        Some(("file", rest)) if rest.len() > 2 && rest.starts_with("//") => {
            Arc::new(open_directory(url, Path::new(&rest[2..]), &prefix, device).await?)
        }
        Some(("s3", rest)) if rest.starts_with("//") => {
            probed = true;
            let bucket = Bucket::open(&rest[2..], &config.s3, environment, device).await;
            let opened = open_bucket(url, &prefix, bucket);
            Arc::new(timeout(ASK_MAX, opened).await.unwrap_or_else(|_| {
                Err(OpenError::Refused {
                    url: url.clone(),
                    reason: format!("no answer within {ASK_MAX:?}"),
                })
            })?)
        }
        _ => return Err(OpenError::Unsupported { url: url.clone() }),
    };
    let requests = Arc::new(RequestCounts::default());
    let bounded: Arc<dyn ObjectStorage> = Arc::new(Bounded::new(backend));
    let metered: Arc<dyn ObjectStorage> = Arc::new(Metered::new(bounded, Arc::clone(&requests)));
    let limited: Arc<dyn ObjectStorage> = Arc::new(Limited::new(metered));
    let storage = Retrying::new(limited, rng.clone());
    if probed {
        // what this process made it can trust
        let trusted = probe::run(&storage, &rng).await;
        trusted.map_err(|error| distrust(url, &error))?;
    }
    Ok(Opened {
        storage: Arc::new(storage),
        requests,
    })
}

fn distrust(url: &str, error: &ProbeError) -> OpenError {
    let url = url.to_owned();
    let reason = reasons(error);
    match error {
        ProbeError::Untrusted(_) => OpenError::Untrusted { url, reason },
        ProbeError::Storage(_) => OpenError::Refused { url, reason },
    }
}

/// Refuses where another cluster's prefix stands beside ours.
fn alone(
    url: &str,
    prefix: &str,
    names: impl IntoIterator<Item = String>,
) -> Result<(), OpenError> {
    let mut names = names.into_iter();
    match names.find(|name| is_cluster_prefix(name) && name != prefix) {
        Some(other) => Err(OpenError::OtherCluster {
            url: url.to_owned(),
            other,
        }),
        None => Ok(()),
    }
}

async fn open_bucket(
    url: &str,
    prefix: &str,
    bucket: Result<Bucket, String>,
) -> Result<S3Storage, OpenError> {
    let refused = |reason| OpenError::Refused {
        url: url.to_owned(),
        reason,
    };
    let bucket = bucket.map_err(refused)?;
    alone(url, prefix, bucket.directories().await.map_err(refused)?)?;
    bucket.check(prefix).await.map_err(refused)?;
    Ok(bucket.storage(prefix))
}

async fn open_directory(
    url: &str,
    root: &Path,
    prefix: &str,
    device: Arc<dyn Device>,
) -> Result<LocalStorage, OpenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse {
            url: url.to_owned(),
        },
        _ => OpenError::Io {
            url: url.to_owned(),
            source,
        },
    };
    device.create_dir_all(root).await.map_err(failed)?;
    let entries = device.list_dir(root).await.map_err(failed)?;
    let names = entries
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| {
            let name = entry.path.file_name()?.to_str()?;
            Some(name.to_owned())
        });
    alone(url, prefix, names)?;
    LocalStorage::open(device, &root.join(prefix))
        .await
        .map_err(failed)
}
