//! Reads, seals and opens the object WAL of a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use highwater_object_format::{SEAL_BYTES, Seal};
use highwater_object_storage::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, layout};
use highwater_runtime::{ByteBudget, SeededRng, TaskKind, Tasks};
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId, WalPosition};
use tokio::time::timeout;

use super::config::Config;
use super::patience::Patience;
use super::put::Putter;
use super::sealer::Sealer;
use super::wal::{ObjectWal, Shared};
use super::writer::{Writer, trim};
use crate::{
    ConfirmedSink, Known, ReadWal, SealedRange, SealedWal, WalError, WalFactory, WriteAheadLog,
};

/// The ports of an object WAL.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The store. It must not repeat puts that create an object: the log does (W3).
    pub storage: Arc<dyn ObjectStorage>,
    /// The tasks of the node.
    pub tasks: Tasks,
    /// Randomness for the waits.
    pub rng: SeededRng,
    /// The log cache's budget, which an appended batch holds until the cache evicts it (M1).
    pub memory: ByteBudget,
}

/// Finds the object WAL of one node.
#[derive(Debug, Clone)]
pub struct ObjectWalFactory {
    config: Config,
    putter: Putter,
    tasks: Tasks,
    memory: ByteBudget,
}

impl ObjectWalFactory {
    /// A factory.
    #[must_use]
    pub fn new(config: Config, ports: Ports) -> Self {
        Self {
            putter: Putter::new(ports.storage, ports.rng, config.repeats),
            config,
            tasks: ports.tasks,
            memory: ports.memory,
        }
    }

    /// Seals a fenced epoch of any node, also while this node writes an epoch of its own (W7). The floor must come from an
    /// image that has applied the fence. Several nodes may seal one epoch: all of them find the same end, unless the epoch
    /// was closed meanwhile (W8).
    ///
    /// # Errors
    /// [`WalError::Damaged`] if an object in the range is not what its name says; the store's error, if the store has
    /// answered nothing useful for a minute.
    pub async fn seal(
        &self,
        node: NodeId,
        fenced: NodeEpoch,
        floor: WalPosition,
    ) -> Result<SealedRange, WalError> {
        self.sealer(node, fenced, floor, true).seal().await
    }

    /// P2: the store must have nothing of an epoch of this node that the metadata does not know, because epochs only
    /// grow (E1): the metadata would be older than the log (R3).
    async fn check_epochs(&self, registered: NodeEpoch) -> Result<(), WalError> {
        let is_later = |entry: &ObjectEntry| {
            let epoch = entry.key.as_str().rsplit('/').nth(1);
            let epoch = epoch.and_then(|epoch| epoch.parse::<u64>().ok());
            epoch.is_some_and(|epoch| epoch > registered.0)
        };
        let found = self.find(layout::wals(self.config.node), is_later).await?;
        refuse(found, || {
            format!(
                "it is of a node epoch after {registered}, the last that the metadata knows: the metadata is older than \
                 the log (R3)"
            )
        })
    }

    /// P4: nothing was written for an epoch that is about to be opened. If it was fenced since it was registered, its
    /// seal may be there.
    async fn check_is_new(&self, epoch: NodeEpoch) -> Result<(), WalError> {
        let found = self.find(layout::wal(self.config.node, epoch), |_any| true);
        let found = found.await?;
        if let Some(key) = &found
            && self.is_seal(key).await
        {
            let reason = format!("it was sealed at {key} before its log was opened");
            return Err(WalError::Fenced { reason });
        }
        refuse(found, || {
            format!("it is there before the log is opened for node epoch {epoch}")
        })
    }

    fn sealer(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        floor: WalPosition,
        is_floor_final: bool,
    ) -> Sealer<'_> {
        Sealer {
            putter: &self.putter,
            config: &self.config,
            node,
            fenced: epoch,
            floor,
            is_floor_final,
        }
    }

    async fn is_seal(&self, key: &ObjectKey) -> bool {
        let storage = &self.putter.storage;
        let read = storage.get_suffix(key, SEAL_BYTES as u64, IoClass::Start);
        let read = timeout(self.config.repeats.deadline, read).await;
        matches!(read, Ok(Ok((suffix, bytes))) if Seal::is_seal(&suffix, bytes))
    }

    /// The first object under a prefix of which this is true.
    async fn find(
        &self,
        prefix: ObjectKey,
        is_it: impl Fn(&ObjectEntry) -> bool,
    ) -> Result<Option<ObjectKey>, WalError> {
        let mut patience = Patience::new(&self.putter);
        let mut after: Option<ObjectKey> = None;
        loop {
            let mut entries = self.putter.storage.list(&prefix, after.as_ref());
            let error = loop {
                let next = timeout(self.config.repeats.deadline, entries.next()).await;
                match next {
                    Ok(None) => return Ok(None),
                    Ok(Some(Ok(entry))) if is_it(&entry) => return Ok(Some(entry.key)),
                    Ok(Some(Ok(entry))) => after = Some(entry.key),
                    Ok(Some(Err(error))) => break error.to_string(),
                    Err(elapsed) => break elapsed.to_string(),
                }
            };
            drop(entries);
            patience.rest(prefix.as_str(), &error).await?;
        }
    }
}

fn refuse(found: Option<ObjectKey>, reason: impl Fn() -> String) -> Result<(), WalError> {
    found.map_or(Ok(()), |key| {
        Err(WalError::Damaged {
            reason: reason(),
            path: key.to_string(),
        })
    })
}

#[async_trait]
impl WalFactory for ObjectWalFactory {
    async fn read(&self, known: Known) -> Result<Box<dyn ReadWal>, WalError> {
        self.check_epochs(known.registered).await?;
        // the writer may not be fenced yet, so its floor may move while this reads
        let leaderships = match known.floor {
            Some(floor) => {
                let sealer = self.sealer(self.config.node, floor.epoch, floor, false);
                sealer.leaderships().await?
            }
            None => BTreeMap::new(),
        };
        Ok(Box::new(ReadObjectWal {
            factory: self.clone(),
            leaderships,
        }))
    }
}

/// The object WAL of a node. Its objects stay as they are until an epoch is sealed.
#[derive(Debug)]
struct ReadObjectWal {
    factory: ObjectWalFactory,
    /// The newest leader epoch of each stream that has records above the floor of the newest epoch.
    leaderships: BTreeMap<StreamId, LeaderEpoch>,
}

#[async_trait]
impl ReadWal for ReadObjectWal {
    fn leaderships(&self) -> Vec<(StreamId, LeaderEpoch)> {
        let leaderships = self.leaderships.iter();
        leaderships
            .map(|(stream, epoch)| (*stream, *epoch))
            .collect()
    }

    async fn seal(&self, fenced: NodeEpoch, floor: WalPosition) -> Result<SealedWal, WalError> {
        let node = self.factory.config.node;
        let range = self.factory.seal(node, fenced, floor).await?;
        Ok(SealedWal::Range(range))
    }

    async fn open(
        self: Box<Self>,
        epoch: NodeEpoch,
        sink: Arc<dyn ConfirmedSink>,
    ) -> Result<Arc<dyn WriteAheadLog>, WalError> {
        let factory = self.factory;
        factory.check_is_new(epoch).await?;
        let batching = factory.config.batching;
        let shared = Arc::new(Shared::new(epoch, batching, factory.memory));
        let trimmer = trim(
            Arc::clone(&shared),
            factory.putter.clone(),
            factory.config.clone(),
        );
        let wal = ObjectWal {
            shared: Arc::clone(&shared),
            putter: factory.putter.clone(),
            node: factory.config.node,
        };
        let writer = Writer {
            shared,
            sink,
            putter: factory.putter,
            config: factory.config,
        };
        factory.tasks.spawn(TaskKind::WalWriter, writer.run());
        factory.tasks.spawn(TaskKind::WalTrimmer, trimmer);
        Ok(Arc::new(wal))
    }
}
