//! From a setting to a store: the one place that stacks decorators.
//!
//! From the store up: [`Bounded`] gives each request a deadline, [`Metered`] counts it however it ends, [`Limited`]
//! says when its turn is, [`Retrying`] makes it again where that is sound. So a wait for a turn costs no deadline, and
//! a retry waits for its turn.

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

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Files and directories.
    pub device: Arc<dyn Device>,
    /// The time of day, by which credentials expire.
    pub clock: WallClock,
    /// Where credentials are fetched.
    pub tasks: Tasks,
    /// Randomness for names and waits.
    pub rng: SeededRng,
}

/// Which node of which cluster opens a store.
#[derive(Debug, Clone, Copy)]
pub struct Opener {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The node, below whose prefix the start-up probe keeps its keys.
    pub node: NodeId,
    /// Whether the cluster's claim is to be made, or has to be there.
    pub claim: Claim,
}

/// Why a store cannot be opened. The operator must mend each of these.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no known kind of store.
    #[error("highwater.object.storage: {reason} url={url}")]
    Unsupported {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has the directory.
    #[error(
        "highwater.object.storage: the object store is in use by another process: stop that process, or use another \
         directory url={url}"
    )]
    InUse {
        /// What was asked for.
        url: String,
    },
    /// It is another cluster's.
    #[error(
        "the object store belongs to another cluster, {other}, and this data directory to the cluster {own}: each \
         cluster needs a bucket, a prefix or a directory of its own url={url}"
    )]
    OtherCluster {
        /// What was asked for.
        url: String,
        /// The cluster that has it.
        other: String,
        /// The cluster that asks.
        own: ClusterId,
    },
    /// This cluster's objects were there, and are not.
    #[error(
        "the object store is not the one that this data directory's cluster, {own}, keeps its objects in, or was \
         emptied: check highwater.object.storage.endpoint, and whether its disk is mounted url={url}"
    )]
    Unclaimed {
        /// What was asked for.
        url: String,
        /// The cluster that asks.
        own: ClusterId,
    },
    /// The machine refused.
    #[error("highwater.object.storage: cannot open the object store url={url}")]
    Io {
        /// What was asked for.
        url: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// It can't be reached, or its settings are such that it would lose objects.
    #[error("highwater.object.storage: cannot use the object store: {reason} url={url}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Why, for people.
        reason: String,
    },
    /// The start-up probe does not trust it.
    #[error("highwater.object.storage: the object store can't be trusted: {reason} url={url}")]
    Untrusted {
        /// What was asked for.
        url: String,
        /// The promise it broke.
        reason: String,
    },
}

/// Opens the store that a configuration names and looks whether it can be trusted; what this cluster keeps lies below
/// its own prefix. One cluster has a store: its claim is there when this returns, and any other's refuses. S3
/// credentials may stand in the environment of the process.
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
        // it begins and ends with the process
        Place::Memory => Arc::new(MemoryStorage::default()),
        Place::Directory(path) => Arc::new(start.open_directory(path, device).await?),
        Place::S3 { bucket, prefix } => {
            let bucket = Bucket::open((bucket, prefix), &config.s3, &ports).await;
            let bucket = bucket.map_err(|reason| start.refused(reason))?;
            let silent = format!("no answer within {ASK_MAX:?} from {}", bucket.url());
            let opened = timeout(ASK_MAX, start.open_bucket(bucket)).await;
            let opened = opened.unwrap_or_else(|_| Err(start.refused(silent)));
            let storage: Arc<dyn ObjectStorage> = Arc::new(opened?);
            // what this process made it can trust
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

/// One opening.
struct Start<'a> {
    url: &'a str,
    opener: Opener,
    rng: SeededRng,
    requests: Arc<RequestCounts>,
}

impl Start<'_> {
    /// A store whose requests are a start's.
    fn asking(&self, backend: Arc<dyn ObjectStorage>) -> Limited {
        let bounded = Arc::new(Bounded::new(backend));
        let metered = Metered::at_start(bounded, Arc::clone(&self.requests));
        Limited::new(Arc::new(metered))
    }

    async fn open_bucket(&self, bucket: Bucket) -> Result<S3Storage, OpenError> {
        // tried a few times by itself, so that the reason is told before the deadline
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
