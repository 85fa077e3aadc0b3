//! Opens a store from its configuration: the one place that stacks decorators.
//!
//! From the store up: [`Bounded`] gives each request a deadline, [`Metered`] counts it however it ends, [`Limited`]
//! makes it wait for its turn, and [`Retrying`] sends it again if that is safe. A wait for a turn thus uses up no
//! deadline, and each retry waits for its turn.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_io::Device;
use highwater_runtime::{SeededRng, Tasks, WallClock, reasons};
use highwater_types::{ClusterId, NodeId, StoreId, Uuid};
use tokio::time::timeout;

use crate::backend::s3::{Bucket, Unusable};
use crate::claim::{self, Claim, ClaimError};
use crate::layout::cluster_prefix;
use crate::{
    Bounded, Config, Limited, LocalStorage, Metered, ObjectStorage, Place, ProbeError,
    RequestCounts, Retrying, S3Storage, machine, probe,
};

/// The time in which a bucket's settings have to be read.
const ASK_MAX: Duration = Duration::from_secs(30);
/// The time in which the start-up probe has to end, each of whose requests has a deadline too.
const PROBE_MAX: Duration = Duration::from_secs(120);

/// An open store and its counters.
#[derive(Debug)]
pub struct Opened {
    /// The store with its decorators; all its keys lie below the cluster's prefix.
    pub storage: Arc<dyn ObjectStorage>,
    /// The requests to the store, with each attempt counted.
    pub requests: Arc<RequestCounts>,
    /// The store's id in the cluster's claim; zero for `memory:`, and for a claim of an earlier release.
    pub id: StoreId,
}

/// The means by which a store is opened.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Access to files and directories.
    pub device: Arc<dyn Device>,
    /// The store that `memory:` names, if there is one.
    pub memory: Option<Arc<dyn ObjectStorage>>,
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
    /// Whether a local directory is the node's alone, because the node's data directory contains it and is locked.
    pub has_own_directory: bool,
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
    /// Another process has been opening the directory for seconds.
    #[error(
        "highwater.object.storage: another process began to open the object store and does not go on: stop that \
         process url={url}"
    )]
    InUse {
        /// The configured URL.
        url: String,
    },
    /// The directory belongs to another machine.
    #[error(
        "highwater.object.storage: the directory belongs to another machine, {other}, and this machine is {own}: a \
         local directory serves the nodes of one machine. If no node of the other machine uses the directory any more, \
         delete the file {} url={url}",
        marker.display()
    )]
    OtherMachine {
        /// The configured URL.
        url: String,
        /// The machine that the directory belongs to.
        other: String,
        /// This machine.
        own: String,
        /// The file that says so.
        marker: PathBuf,
    },
    /// Another cluster has the store.
    #[error(
        "the object store belongs to another cluster, {other}, and this data directory to the cluster {own}: each \
         cluster needs a bucket, a prefix or a directory of its own. If the other cluster is gone and never had a topic, \
         remove the object {} url={url}",
        crate::layout::claim()
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
        "the object store does not have the claim of the cluster {own}, the object {}: it is not the one that the cluster \
         keeps its objects in, or was emptied, or its disk is not mounted. Give all nodes of the cluster the same \
         highwater.object.storage and highwater.object.storage.endpoint url={url}",
        crate::layout::claim()
    )]
    Unclaimed {
        /// The configured URL.
        url: String,
        /// The cluster that was started.
        own: ClusterId,
    },
    /// This cluster has claimed another store.
    #[error(
        "the object store is not the one that the cluster {own} keeps its objects in: give all nodes of the cluster the \
         same highwater.object.storage and highwater.object.storage.endpoint. If the cluster has no topic yet and claimed \
         the wrong store, stop its nodes, remove their data directories and the object {} in each store, and start them \
         again url={url}",
        crate::layout::claim()
    )]
    OtherStore {
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
    /// The store can't be reached, or does not answer. Retry later.
    #[error("highwater.object.storage: cannot use the object store: {reason} url={url}")]
    Unreachable {
        /// The configured URL.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// The store can't be used as it is configured, or has settings by which it would lose objects.
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
    let (backend, id): (Arc<dyn ObjectStorage>, StoreId) = match place {
        Place::Memory => match &ports.memory {
            Some(memory) => (Arc::clone(memory), StoreId::ZERO),
            None => {
                return Err(OpenError::Unsupported {
                    url: url.clone(),
                    reason: "only tests have a store in memory".to_owned(),
                });
            }
        },
        Place::Directory(path) => {
            let (storage, id) = start.open_directory(path, device).await?;
            (Arc::new(storage), id)
        }
        Place::S3 { bucket, prefix } => {
            let bucket = Bucket::open((bucket, prefix), &config.s3, &ports).await;
            let bucket = bucket.map_err(|why| start.unusable(why))?;
            let silent = format!("no answer within {ASK_MAX:?} from {}", bucket.url());
            let opened = timeout(ASK_MAX, start.open_bucket(bucket)).await;
            let opened = opened.unwrap_or_else(|_| Err(start.unreachable(silent)));
            let (storage, id) = opened?;
            let storage: Arc<dyn ObjectStorage> = Arc::new(storage);
            // the process can trust a store that it made itself
            start.probe(Arc::clone(&storage)).await?;
            (storage, id)
        }
    };
    let bounded: Arc<dyn ObjectStorage> = Arc::new(Bounded::new(backend));
    let metered = Metered::new(bounded, Arc::clone(&start.requests));
    let limited = Arc::new(Limited::new(Arc::new(metered)));
    Ok(Opened {
        storage: Arc::new(Retrying::new(limited, start.rng)),
        requests: start.requests,
        id,
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

    async fn open_bucket(&self, bucket: Bucket) -> Result<(S3Storage, StoreId), OpenError> {
        // A server may close a connection after it refused the claim, and then the next request on it is lost. Reads are
        // retried at once for that reason, and the claim so that an error is reported before the deadline ends the start.
        let root = Arc::new(self.asking(Arc::new(bucket.root())));
        let id = self.hold(&Retrying::new(root, self.rng.clone())).await?;
        let prefix = cluster_prefix(self.opener.cluster);
        let checked = bucket.check(&prefix).await;
        checked.map_err(|why| self.unusable(why))?;
        Ok((bucket.storage(&prefix), id))
    }

    async fn open_directory(
        &self,
        root: &Path,
        device: Arc<dyn Device>,
    ) -> Result<(LocalStorage, StoreId), OpenError> {
        let url = || self.url.to_owned();
        let io = |source| OpenError::Io { url: url(), source };
        let machine = match self.opener.has_own_directory {
            true => None,
            false => Some(machine::own(&*device).await.map_err(io)?),
        };
        // before anything is changed there, because the locks of another machine may not show here
        let marked = machine::read(&*device, root).await.map_err(io)?;
        let is_marked = marked.is_some();
        self.check_machine(root, machine.as_ref(), marked)?;
        // a process that has the store open would write to a place that is only made to look like it
        if self.opener.claim != Claim::Make && !claim::is_there(&*device, root).await.map_err(io)? {
            return Err(self.unclaimed());
        }
        let opened = LocalStorage::open(device, root, &self.rng).await;
        let storage = opened.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { url: url() },
            _ => io(source),
        })?;
        // a full directory that has the marker can be used
        if let Some(own) = machine.as_ref().filter(|_| !is_marked) {
            let marked = machine::mark(&storage, own).await;
            let marked = marked.map_err(|error| self.refused(reasons(&error)))?;
            self.check_machine(root, machine.as_ref(), Some(marked))?;
        }
        // these requests cost nothing
        let id = self.hold(&storage).await?;
        Ok((storage.below(&cluster_prefix(self.opener.cluster)), id))
    }

    /// Refuses the directory of another machine; `own` is `None` if the directory is the node's alone.
    fn check_machine(
        &self,
        root: &Path,
        own: Option<&String>,
        marked: Option<String>,
    ) -> Result<(), OpenError> {
        match (own, marked) {
            (Some(own), Some(other)) if *own != other => Err(OpenError::OtherMachine {
                url: self.url.to_owned(),
                other,
                own: own.clone(),
                marker: machine::marker(root),
            }),
            _ => Ok(()),
        }
    }

    async fn hold(&self, root: &dyn ObjectStorage) -> Result<StoreId, OpenError> {
        let url = || self.url.to_owned();
        let Opener { cluster, claim, .. } = self.opener;
        let held = claim::hold(root, cluster, claim, Uuid(self.rng.next_id())).await;
        held.map_err(|error| match error {
            ClaimError::Other(other) => OpenError::OtherCluster {
                url: url(),
                other,
                own: cluster,
            },
            ClaimError::Missing => self.unclaimed(),
            ClaimError::Damaged(_) => self.refused(reasons(&error)),
            ClaimError::OtherStore => OpenError::OtherStore {
                url: url(),
                own: cluster,
            },
            ClaimError::Storage(error) => self.unreachable(reasons(&error)),
        })
    }

    /// Refuses a store that fails the probe.
    async fn probe(&self, storage: Arc<dyn ObjectStorage>) -> Result<(), OpenError> {
        let asking = Retrying::new(Arc::new(self.asking(storage)), self.rng.clone());
        let probed = timeout(PROBE_MAX, probe::run(&asking, self.opener.node, &self.rng)).await;
        match probed {
            Ok(probed) => probed.map_err(|error| self.distrust(&error)),
            Err(_elapsed) => {
                Err(self.unreachable(format!("its start-up probe took more than {PROBE_MAX:?}")))
            }
        }
    }

    fn unusable(&self, why: Unusable) -> OpenError {
        match why {
            Unusable::Refused(reason) => self.refused(reason),
            Unusable::NoAnswer(reason) => self.unreachable(reason),
        }
    }

    fn unclaimed(&self) -> OpenError {
        OpenError::Unclaimed {
            url: self.url.to_owned(),
            own: self.opener.cluster,
        }
    }

    fn unreachable(&self, reason: String) -> OpenError {
        OpenError::Unreachable {
            url: self.url.to_owned(),
            reason,
        }
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
            ProbeError::Storage(_) => self.unreachable(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use highwater_io::{Faults, FaultyDevice, RealDevice};
    use highwater_types::Uuid;

    use super::*;
    use crate::{Hooked, IoClass, MemoryStorage, ObjectKey, Plan, PutMode};

    static OPENED: AtomicU64 = AtomicU64::new(0);

    async fn open_at(root: &Path, has_own_directory: bool) -> Result<Opened, OpenError> {
        open_on(Arc::new(RealDevice), root, (Claim::Make, has_own_directory)).await
    }

    async fn open_on(
        device: Arc<dyn Device>,
        root: &Path,
        (claim, has_own_directory): (Claim, bool),
    ) -> Result<Opened, OpenError> {
        let config = Config {
            url: format!("file://{}", root.display()),
            ..Config::default()
        };
        let opener = Opener {
            cluster: Uuid([1; 16]),
            node: NodeId(1),
            claim,
            has_own_directory,
        };
        let ports = Ports {
            device,
            memory: None,
            clock: WallClock::system(),
            tasks: Tasks::default(),
            // another process draws other names
            rng: SeededRng::from_seed(OPENED.fetch_add(1, Ordering::Relaxed)),
        };
        open(&config, opener, ports).await
    }

    // L1
    #[tokio::test]
    async fn a_directory_serves_the_nodes_of_one_machine_and_refuses_another_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("objects");
        let processes = || std::fs::read_dir(root.join(".tmp")).expect("lists").count();
        let nodes = [open_at(&root, false).await, open_at(&root, false).await];
        assert!(nodes.iter().all(Result::is_ok), "{nodes:?}");
        assert_eq!(processes(), 2);
        let marker = machine::marker(&root);
        std::fs::write(&marker, "another\n").expect("writes");
        let refused = open_at(&root, false).await.expect_err("is refused");
        let told = refused.to_string();
        let way_out = format!("delete the file {}", marker.display());
        assert!(told.contains("another machine, another"), "{told}");
        assert!(told.contains(&way_out), "{told}");
        assert_eq!(processes(), 2, "a start that is refused leaves nothing");
        std::fs::remove_file(&marker).expect("removes");
        open_at(&root, false).await.expect("opens again");
    }

    // D2, L1: a file system that is not mounted leaves an empty directory
    #[tokio::test]
    async fn nothing_is_written_where_the_store_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, away) = (dir.path().join("objects"), dir.path().join("away"));
        let device: Arc<dyn Device> = Arc::new(RealDevice);
        let open = |claim| open_on(Arc::clone(&device), &root, (claim, false));
        let running = open(Claim::Make).await.expect("opens").storage;
        let put = |key: &str| {
            let body = vec![Bytes::from_static(b"x")];
            let key = ObjectKey::new(key);
            let running = Arc::clone(&running);
            async move {
                running
                    .put(&key, body, PutMode::IfAbsent, IoClass::Wal)
                    .await
            }
        };
        put("a").await.expect("is put");
        std::fs::rename(&root, &away).expect("is moved");
        std::fs::create_dir(&root).expect("is made");
        let refused = open(Claim::Expect(StoreId::ZERO)).await;
        let refused = refused.expect_err("the claim is not there");
        assert!(matches!(refused, OpenError::Unclaimed { .. }), "{refused}");
        let made = std::fs::read_dir(&root).expect("lists").count();
        assert_eq!(made, 0, "a start that is refused leaves nothing");
        // another cluster may begin there
        open(Claim::Make).await.expect("opens");
        put("b").await.expect_err("the store is away");
        std::fs::remove_dir_all(&root).expect("is removed");
        std::fs::rename(&away, &root).expect("is back");
        put("b").await.expect("is put");
    }

    // D3: a start waits for room with the store open, so that what is there can be read and deleted
    #[tokio::test]
    async fn a_full_directory_that_was_used_before_opens() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("objects");
        let faults = Arc::new(Faults::default());
        let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&faults));
        let device: Arc<dyn Device> = Arc::new(device);
        let open = |claim| open_on(Arc::clone(&device), &root, (claim, false));
        faults.fill_below(Some(root.clone()));
        let no_room = open(Claim::Make).await;
        no_room.expect_err("there is no room for its marker");
        faults.fill_below(None);
        open(Claim::Make).await.expect("opens");
        faults.fill_below(Some(root.clone()));
        open(Claim::Expect(StoreId::ZERO))
            .await
            .expect("opens again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_during_the_probe_is_refused_in_bounded_time() {
        let begin = tokio::time::Instant::now();
        let start = Start {
            url: "s3://bucket",
            opener: Opener {
                cluster: Uuid([1; 16]),
                node: NodeId(1),
                claim: Claim::Make,
                has_own_directory: false,
            },
            rng: SeededRng::from_seed(1),
            requests: Arc::default(),
        };
        let hung = Hooked::new(Arc::<MemoryStorage>::default(), |_| Plan::hang());
        let refused = start.probe(Arc::new(hung)).await;
        assert!(matches!(refused, Err(OpenError::Unreachable { .. })));
        assert!(begin.elapsed() <= PROBE_MAX);
    }

    // a data directory may be moved to another machine with the objects in it
    #[tokio::test]
    async fn a_directory_in_the_data_directory_belongs_to_no_machine() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("objects");
        open_at(&root, true).await.expect("opens");
        assert!(!machine::marker(&root).exists());
    }
}
