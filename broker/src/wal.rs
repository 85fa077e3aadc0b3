//! Chooses the write-ahead log of a node. No other place of the broker but the setting knows which kinds there are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::WalKind;
use highwater_kraft_meta::{MetadataImage, MetadataStore};
use highwater_object_storage::ObjectStorage;
use highwater_runtime::{ByteBudget, Tasks, reasons};
use highwater_types::{NodeEpoch, Uuid};
use highwater_wal::disk::DiskWalFactory;
use highwater_wal::object::{self, ObjectWalFactory};
use highwater_wal::{ReadWal, WalError, WalFactory};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::machine::Machine;
use crate::registration;

/// How long a start waits for metadata as new as the active controller's, and for metadata that knows what the log has
/// records of: several elections may be needed meanwhile.
const IMAGE_LAG_MAX: Duration = Duration::from_secs(10);
/// The interval at which it asks for an active controller.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a start waits for an answer before it is told.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// The kind of log that the configuration chooses.
pub(crate) fn chosen(config: &Config) -> WalKind {
    match config.text("highwater.wal") {
        "object" => WalKind::Object,
        _ => WalKind::Disk,
    }
}

/// Waits until this node's image is as new as the active controller's, at most 10 s: to an image that lags, the node's own
/// log would look newer than the metadata (D2, R3). If no controller has answered by then, the start goes on with what it
/// has, and may be refused for that.
pub(crate) async fn catch_up(metadata: &dyn MetadataStore) {
    let mut reason = "no active controller has answered in time".to_owned();
    let caught_up = until_caught_up(metadata, |why| reason = why);
    if timeout(IMAGE_LAG_MAX, caught_up).await.is_err() {
        tracing::info!(reason, "the metadata may not be the newest");
    }
}

/// Waits until this node's image is as new as the active controller's, for ever if none answers. Each reason to wait is told.
/// Cancellation safe.
pub(crate) async fn until_caught_up(metadata: &dyn MetadataStore, mut told: impl FnMut(String)) {
    loop {
        let mut caught_up = metadata.caught_up();
        let answer = match timeout(TOLD_AFTER, &mut caught_up).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                told(
                    "no active controller answers, or this node does not have all of its metadata yet".to_owned(),
                );
                caught_up.await
            }
        };
        match answer {
            Ok(()) => return,
            Err(why) => told(why),
        }
        sleep(ASK_EVERY).await;
    }
}

/// A log that was read.
pub(crate) struct ReadLog {
    /// Its place, for messages to people.
    pub(crate) place: String,
    pub(crate) read: Box<dyn ReadWal>,
}

/// The write-ahead logs that a start of a broker finds.
pub(crate) struct FoundLogs {
    /// The kind of the log that this start will write.
    pub(crate) wal: WalKind,
    /// That log, and those of another kind that have epochs which are not closed (D4).
    pub(crate) read: BTreeMap<WalKind, ReadLog>,
    /// The last epoch of the node in the image against which the logs were read. Only a start that follows it may recover
    /// from them (D2).
    pub(crate) after: NodeEpoch,
    /// The log cache's budget.
    pub(crate) memory: ByteBudget,
    /// The object WALs of all nodes: this broker may have to seal them, whatever it writes itself.
    pub(crate) wals: ObjectWalFactory,
}

impl FoundLogs {
    /// Removes the ring on the node's own disk if this start writes another kind of log and nothing needs the ring any
    /// more (D4): this start has recovered it, or no epoch of any node on a disk WAL is unclosed.
    pub(crate) async fn remove_ring(
        &mut self,
        config: &Config,
        machine: &Machine,
        image: &MetadataImage,
    ) {
        if self.wal == WalKind::Disk {
            return;
        }
        let was_recovered = self.read.remove(&WalKind::Disk).is_some();
        let mut nodes = image.nodes();
        if !was_recovered && nodes.any(|(_, node)| node.last_on_disk().is_some()) {
            return;
        }
        let dir = ring_dir(config);
        if let Err(error) = highwater_wal::disk::remove(&*machine.device, &dir).await {
            let error = reasons(&error);
            tracing::warn!(
                error,
                "the files of a former write-ahead log cannot be removed"
            );
        }
    }
}

fn ring_dir(config: &Config) -> PathBuf {
    config.data_dir.join("wal")
}

/// The logs of a node: the one that it will write, and those of another kind that have epochs which are not closed. The
/// kind belongs to the epoch, whatever the configuration says now (D4).
pub(crate) struct Logs<'a> {
    config: &'a Config,
    machine: &'a Machine,
    metadata: Arc<dyn MetadataStore>,
    /// The image against which the logs are read.
    image: Arc<MetadataImage>,
    /// The log cache's budget, which appended batches hold until they leave the cache (M1).
    memory: ByteBudget,
    read: BTreeMap<WalKind, ReadLog>,
}

impl<'a> Logs<'a> {
    pub(crate) fn new(
        config: &'a Config,
        machine: &'a Machine,
        metadata: Arc<dyn MetadataStore>,
    ) -> Self {
        let plan = &config.memory;
        let memory = ByteBudget::with_reserve(plan.log_cache, plan.coordinators);
        Self {
            config,
            machine,
            image: metadata.image(),
            metadata,
            memory,
            read: BTreeMap::new(),
        }
    }

    /// Reads the log on the node's own disk, if it is needed.
    ///
    /// # Errors
    /// [`WalError`].
    pub(crate) async fn read_disk(&mut self) -> Result<(), WalError> {
        let dir = ring_dir(self.config);
        let place = dir.display().to_string();
        let disk = highwater_wal::disk::Config {
            dir,
            bytes_max: self.config.size("highwater.wal.size"),
            new_seed: self.machine.rng.next_id(),
        };
        let (device, threads) = (&self.machine.device, &self.machine.threads);
        let (device, threads) = (Arc::clone(device), Arc::clone(threads));
        let factory = DiskWalFactory::new(device, threads, disk, self.memory.clone());
        self.read(WalKind::Disk, place, &factory).await
    }

    /// Reads the log in the object store, if it is needed; returns all logs that were read.
    ///
    /// # Errors
    /// [`WalError`].
    pub(crate) async fn read_objects(
        mut self,
        storage: &Arc<dyn ObjectStorage>,
        tasks: &Tasks,
    ) -> Result<FoundLogs, WalError> {
        let place = format!("in {}", self.config.object_storage.url);
        let config = object::Config {
            cluster: self.metadata.image().cluster(),
            node: self.config.node_id,
            nonce: Uuid(self.machine.rng.next_id()),
            batching: self.config.wal_batching(),
            repeats: self.config.wal_repeats(),
        };
        let ports = object::Ports {
            storage: Arc::clone(storage),
            tasks: tasks.clone(),
            rng: self.machine.rng.clone(),
            memory: self.memory.clone(),
        };
        let factory = ObjectWalFactory::new(config, ports);
        self.read(WalKind::Object, place, &factory).await?;
        Ok(FoundLogs {
            wal: chosen(self.config),
            read: self.read,
            after: registration::last(&self.image, self.config.node_id).0,
            memory: self.memory,
            wals: factory,
        })
    }

    async fn read(
        &mut self,
        kind: WalKind,
        place: String,
        factory: &dyn WalFactory,
    ) -> Result<(), WalError> {
        let known = registration::known(&self.image, self.config.node_id, kind);
        if known.floor.is_some() || chosen(self.config) == kind {
            let read = factory.read(known).await?;
            self.check_leaderships(&*read, &place).await?;
            self.read.insert(kind, ReadLog { place, read });
        }
        Ok(())
    }

    /// D2: metadata that never gave out what the log has records of has lost its end. A writer of the log that is not
    /// fenced yet may be a little ahead of this node's image.
    async fn check_leaderships(&self, read: &dyn ReadWal, place: &str) -> Result<(), WalError> {
        let leaderships = read.leaderships();
        let unknown = |image: &MetadataImage| {
            let mut leaderships = leaderships.iter();
            leaderships
                .find(|(stream, epoch)| !image.has_given(*stream, *epoch))
                .copied()
        };
        let mut images = self.metadata.watch();
        let known = images.wait_for(|image| unknown(image).is_none());
        drop(timeout(IMAGE_LAG_MAX, known).await);
        let unknown = unknown(&self.metadata.image());
        match unknown {
            None => Ok(()),
            Some((stream, epoch)) => Err(WalError::Damaged {
                reason: format!(
                    "it has records of stream {stream} under leader epoch {epoch}, which the metadata never gave out: the \
                     metadata has lost its end (D2)"
                ),
                path: place.to_owned(),
            }),
        }
    }
}
