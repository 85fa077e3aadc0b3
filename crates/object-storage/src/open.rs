//! Opens a store from its configuration: the one place that stacks decorators.
//!
//! From the store up: [`Bounded`] gives each request a deadline, [`Metered`] counts it however it ends, [`Limited`]
//! makes it wait for its turn, and [`Retrying`] sends it again if that is safe. A wait for a turn thus uses up no
//! deadline, and each retry waits for its turn.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_io::Device;
use highwater_runtime::{SeededRng, Tasks, WallClock, reasons};
use highwater_types::{ClusterId, NodeId};
use tokio::time::timeout;

use crate::backend::s3::Bucket;
use crate::claim::{self, Claim, ClaimError};
use crate::layout::cluster_prefix;
use crate::{
    Bounded, Config, Limited, LocalStorage, MemoryStorage, Metered, ObjectStorage, Place,
    ProbeError, RequestCounts, Retrying, S3Storage, probe,
};

/// The time in which a bucket's settings have to be read.
const ASK_MAX: Duration = Duration::from_secs(30);

/// An open store and its counters.
#[derive(Debug)]
pub struct Opened {
    /// The store with its decorators; all its keys lie below the cluster's prefix.
    pub storage: Arc<dyn ObjectStorage>,
    /// The requests to the store, with each attempt counted.
    pub requests: Arc<RequestCounts>,
}

/// The means by which a store is opened.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Access to files and directories.
    pub device: Arc<dyn Device>,
    /// The time of day, by which credentials expire.
    pub clock: WallClock,
    /// The tasks that fetch credentials.
    pub tasks: Tasks,
    /// Randomness for names and jitter.
    pub rng: SeededRng,
}

/// The node and the cluster that open a store.
#[derive(Debug, Clone, Copy)]
pub struct Opener {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node, below whose prefix the start-up probe keeps its keys.
    pub node: NodeId,
    /// Whether the cluster's claim has to be made or has to be there.
    pub claim: Claim,
}

/// The reason why a store can't be opened. The operator has to mend each of these.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no known kind of store.
    #[error("highwater.object.storage: {reason} url={url}")]
    Unsupported {
        /// The configured URL.
        url: String,
        /// The error in it.
        reason: String,
    },
    /// Another process has the directory.
    #[error(
        "highwater.object.storage: the object store is in use by another process: stop that process, or use another \
         directory url={url}"
    )]
    InUse {
        /// The configured URL.
        url: String,
    },
    /// Another cluster has the store.
    #[error(
        "the object store belongs to another cluster, {other}, and this data directory to the cluster {own}: each \
         cluster needs a bucket, a prefix or a directory of its own url={url}"
    )]
    OtherCluster {
        /// The configured URL.
        url: String,
        /// The cluster that has claimed the store.
        other: String,
        /// The cluster that was started.
        own: ClusterId,
    },
    /// This cluster's objects were there, and are gone.
    #[error(
        "the object store is not the one that this data directory's cluster, {own}, keeps its objects in, or was \
         emptied: check highwater.object.storage.endpoint, and whether its disk is mounted url={url}"
    )]
    Unclaimed {
        /// The configured URL.
        url: String,
        /// The cluster that was started.
        own: ClusterId,
    },
    /// The operating system refused access.
    #[error("highwater.object.storage: cannot open the object store url={url}")]
    Io {
        /// The configured URL.
        url: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The store can't be reached, or has settings by which it would lose objects.
    #[error("highwater.object.storage: cannot use the object store: {reason} url={url}")]
    Refused {
        /// The configured URL.
        url: String,
        /// The reason, as text for the operator.
        reason: String,
    },
    /// The store failed the start-up probe.
    #[error("highwater.object.storage: the object store can't be trusted: {reason} url={url}")]
    Untrusted {
        /// The configured URL.
        url: String,
        /// The guarantee that the store broke.
        reason: String,
    },
}

/// Opens the store that a configuration names, and checks that it can be trusted; this cluster's objects lie below its
/// own prefix. Only one cluster may use a store: its claim is there when this returns, and makes every other cluster's
/// start fail. The environment of the process may hold S3 credentials.
///
/// # Errors
/// [`OpenError`].
pub async fn open(config: &Config, opener: Opener, ports: Ports) -> Result<Opened, OpenError> {
    let url = &config.url;
    let Ports { device, rng, .. } = ports.clone();
    let start = Start {
        url,
        opener,
        rng,
        requests: Arc::default(),
    };
    let place = Place::parse(url).map_err(|reason| OpenError::Unsupported {
        url: url.clone(),
        reason,
    })?;
    let backend: Arc<dyn ObjectStorage> = match place {
        // this store begins and ends with the process
        Place::Memory => Arc::new(MemoryStorage::default()),
        Place::Directory(path) => Arc::new(start.open_directory(path, device).await?),
        Place::S3 { bucket, prefix } => {
            let bucket = Bucket::open((bucket, prefix), &config.s3, &ports).await;
            let bucket = bucket.map_err(|reason| start.refused(reason))?;
            let silent = format!("no answer within {ASK_MAX:?} from {}", bucket.url());
            let opened = timeout(ASK_MAX, start.open_bucket(bucket)).await;
            let opened = opened.unwrap_or_else(|_| Err(start.refused(silent)));
            let storage: Arc<dyn ObjectStorage> = Arc::new(opened?);
            // the process can trust a store that it made itself
            let asking = Retrying::new(
                Arc::new(start.asking(Arc::clone(&storage))),
                start.rng.clone(),
            );
            let probed = probe::run(&asking, opener.node, &start.rng).await;
            probed.map_err(|error| start.distrust(&error))?;
            storage
        }
    };
    let bounded: Arc<dyn ObjectStorage> = Arc::new(Bounded::new(backend));
    let metered = Metered::new(bounded, Arc::clone(&start.requests));
    let limited = Arc::new(Limited::new(Arc::new(metered)));
    Ok(Opened {
        storage: Arc::new(Retrying::new(limited, start.rng)),
        requests: start.requests,
    })
}

/// A store that is being opened.
struct Start<'a> {
    url: &'a str,
    opener: Opener,
    rng: SeededRng,
    requests: Arc<RequestCounts>,
}

impl Start<'_> {
    /// Wraps a store so that its requests count as a start's.
    fn asking(&self, backend: Arc<dyn ObjectStorage>) -> Limited {
        let bounded = Arc::new(Bounded::new(backend));
        let metered = Metered::at_start(bounded, Arc::clone(&self.requests));
        Limited::new(Arc::new(metered))
    }

    async fn open_bucket(&self, bucket: Bucket) -> Result<S3Storage, OpenError> {
        // retried here, so that an error is reported before the deadline ends the start
        self.hold(&self.asking(Arc::new(bucket.root()))).await?;
        let prefix = cluster_prefix(self.opener.cluster);
        let checked = bucket.check(&prefix).await;
        checked.map_err(|reason| self.refused(reason))?;
        Ok(bucket.storage(&prefix))
    }

    async fn open_directory(
        &self,
        root: &Path,
        device: Arc<dyn Device>,
    ) -> Result<LocalStorage, OpenError> {
        let url = || self.url.to_owned();
        let opened = LocalStorage::open(device, root).await;
        let storage = opened.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { url: url() },
            _ => OpenError::Io { url: url(), source },
        })?;
        // these requests cost nothing
        self.hold(&storage).await?;
        Ok(storage.below(&cluster_prefix(self.opener.cluster)))
    }

    async fn hold(&self, root: &dyn ObjectStorage) -> Result<(), OpenError> {
        let url = || self.url.to_owned();
        let held = claim::hold(root, self.opener.cluster, self.opener.claim).await;
        held.map_err(|error| match error {
            ClaimError::Other(other) => OpenError::OtherCluster {
                url: url(),
                other,
                own: self.opener.cluster,
            },
            ClaimError::Missing => OpenError::Unclaimed {
                url: url(),
                own: self.opener.cluster,
            },
            ClaimError::Storage(error) => self.refused(reasons(&error)),
        })
    }

    fn refused(&self, reason: String) -> OpenError {
        OpenError::Refused {
            url: self.url.to_owned(),
            reason,
        }
    }

    fn distrust(&self, error: &ProbeError) -> OpenError {
        let reason = reasons(error);
        match error {
            ProbeError::Untrusted(_) => OpenError::Untrusted {
                url: self.url.to_owned(),
                reason,
            },
            ProbeError::Storage(_) => self.refused(reason),
        }
    }
}
