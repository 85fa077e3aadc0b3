//! Reads the disk WAL, recovers it and opens it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use highwater_disk_log::{LogError, Recovery, Seed};
use highwater_io::{Device, Threads};
use highwater_runtime::ByteBudget;
use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, WalPosition};

use super::record::decode_group;
use super::ring::DiskWal;
use crate::{
    ConfirmedSink, Known, ReadWal, ReplayedGroup, SealedWal, WalError, WalFactory, WriteAheadLog,
};

/// The part of the ring that is reserved for coordinators (M2).
const RESERVED_PART: u64 = 16;

/// Where the log lies and how large it is.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes on disk. Default: 1 GiB.
    pub bytes_max: u64,
    /// Random bytes for the seed of a new log (D1).
    pub new_seed: Seed,
}

/// Removes the disk WAL in a directory, none of whose epochs is unclosed (D4).
///
/// # Errors
/// [`WalError::Io`]; another attempt may succeed.
pub async fn remove(device: &dyn Device, dir: &Path) -> Result<(), WalError> {
    Recovery::remove(device, dir).await.map_err(of_log)
}

/// Finds the disk WAL of one data directory.
#[derive(Debug, Clone)]
pub struct DiskWalFactory {
    device: Arc<dyn Device>,
    threads: Arc<dyn Threads>,
    config: Config,
    memory: ByteBudget,
}

impl DiskWalFactory {
    /// A factory. `memory` is the log cache's budget, which an appended batch holds until the cache evicts it (M1).
    #[must_use]
    pub fn new(
        device: Arc<dyn Device>,
        threads: Arc<dyn Threads>,
        config: Config,
        memory: ByteBudget,
    ) -> Self {
        Self {
            device,
            threads,
            config,
            memory,
        }
    }

    async fn recovery(&self) -> Result<Recovery, WalError> {
        let config = highwater_disk_log::Config::default();
        let opened = Recovery::open(
            Arc::clone(&self.device),
            &self.config.dir,
            config,
            self.config.new_seed,
        );
        opened.await.map_err(of_log)
    }

    /// D2: a node makes its log before it registers, so a node that registered must have one. A missing log is not
    /// replaced.
    async fn check_presence(&self, registered: NodeEpoch) -> Result<(), WalError> {
        let is_there = Recovery::is_there(&*self.device, &self.config.dir);
        if registered.0 == 0 || is_there.await.map_err(of_log)? {
            return Ok(());
        }
        Err(self.damaged(format!(
            "it is not there, and the metadata knows this node's epoch {registered}, which had it (D2)"
        )))
    }

    /// D2: the log must not have been opened for an epoch that the metadata does not know.
    fn check_opening(&self, recovery: &Recovery, registered: NodeEpoch) -> Result<(), WalError> {
        let opening = recovery.opening();
        if opening <= registered.0 {
            return Ok(());
        }
        Err(self.damaged(format!(
            "it was last opened for node epoch {opening}, and the last that the metadata knows is {registered}: the \
             metadata is older than the log (D2)"
        )))
    }

    /// D2: the part of the log that is needed must exist. Only the part below the floor is released, and the floor was
    /// durable before that. If the kind of the WAL changed before the floor's epoch, the epoch has no floor of its own
    /// until its first commit, and its first record follows a record that was not needed (D4).
    fn check_extent(
        &self,
        recovery: &Recovery,
        first_opening: Option<u64>,
        floor: WalPosition,
    ) -> Result<(), WalError> {
        let (first, end) = (recovery.first_position(), recovery.end());
        let is_whole_epoch =
            floor.at == 0 && first_opening.is_some_and(|opening| opening < floor.epoch.0);
        if (first <= floor.at || is_whole_epoch) && floor.at <= end {
            return Ok(());
        }
        Err(self.damaged(format!(
            "it has what lies from position {first} to {end}, and the metadata needs what follows {}: a part of it is \
             lost, or one of them is an older copy (D2)",
            floor.at
        )))
    }

    /// D2: the log must have all that its node has reported as confirmed, which may be far above the floor.
    fn check_confirmed(&self, recovery: &Recovery, confirmed: WalPosition) -> Result<(), WalError> {
        let end = recovery.end();
        if confirmed.at <= end {
            return Ok(());
        }
        Err(self.damaged(format!(
            "it ends at position {end}, and was confirmed up to {}: its end is lost, or it is an older copy (D2)",
            confirmed.at
        )))
    }

    fn damaged(&self, reason: String) -> WalError {
        WalError::Damaged {
            reason,
            path: self.config.dir.display().to_string(),
        }
    }
}

/// The disk WAL, read to its end. The log that was read is the one that is opened.
#[derive(Debug)]
struct ReadDiskWal {
    factory: DiskWalFactory,
    recovery: Recovery,
    /// The opening number of the log's first group.
    first_opening: Option<u64>,
    /// The newest leader epoch of each stream that has records above the floor.
    leaderships: BTreeMap<StreamId, LeaderEpoch>,
    /// Whether the log holds the WAL of an epoch that is not closed.
    is_needed: bool,
}

impl ReadDiskWal {
    /// D1: opening numbers grow. The epoch of a start is above every epoch in the metadata, and so above those of the
    /// log.
    fn check_epoch(&self, epoch: NodeEpoch) -> Result<(), WalError> {
        let opening = self.recovery.opening();
        if opening < epoch.0 {
            return Ok(());
        }
        Err(self.factory.damaged(format!(
            "it was last opened for node epoch {opening}, and this start's is {epoch} (D2)"
        )))
    }
}

/// An error of the log below as one of the WAL's.
pub(super) fn of_log(error: LogError) -> WalError {
    match error {
        LogError::Damaged { file, offset, .. } => WalError::Damaged {
            reason: format!("a block that was synced cannot be read offset={offset}"),
            path: file,
        },
        LogError::Newer { file, version } => WalError::Damaged {
            reason: format!("it is of a newer format version={version}"),
            path: file,
        },
        LogError::Panicked { directory, reason } => WalError::Io {
            path: directory,
            source: std::io::Error::other(format!("its writer panicked: {reason}")),
        },
        LogError::Full { directory, error } => WalError::Io {
            path: directory,
            source: std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                format!("no room for another file: {error}"),
            ),
        },
        LogError::Io { file, error } => WalError::Io {
            path: file,
            source: std::io::Error::other(error),
        },
    }
}

#[async_trait]
impl WalFactory for DiskWalFactory {
    async fn read(&self, known: Known) -> Result<Box<dyn ReadWal>, WalError> {
        let registered = known.registered;
        if known.floor.is_some() {
            self.check_presence(registered).await?;
        }
        let mut recovery = self.recovery().await?;
        let mut first_opening = None;
        let mut leaderships = BTreeMap::new();
        while let Some(group) = recovery.next().await.map_err(of_log)? {
            first_opening.get_or_insert(group.opening);
            if known.floor.is_some_and(|floor| group.end > floor.at) {
                for batch in decode_group(group)? {
                    let newest = leaderships
                        .entry(batch.stream)
                        .or_insert(batch.leader_epoch);
                    *newest = batch.leader_epoch.max(*newest);
                }
            }
        }
        self.check_opening(&recovery, registered)?;
        if let Some(floor) = known.floor {
            self.check_extent(&recovery, first_opening, floor)?;
            self.check_confirmed(&recovery, known.confirmed)?;
        }
        Ok(Box::new(ReadDiskWal {
            factory: self.clone(),
            recovery,
            first_opening,
            leaderships,
            is_needed: known.floor.is_some(),
        }))
    }
}

#[async_trait]
impl ReadWal for ReadDiskWal {
    fn leaderships(&self) -> Vec<(StreamId, LeaderEpoch)> {
        let leaderships = self.leaderships.iter();
        leaderships
            .map(|(stream, epoch)| (*stream, *epoch))
            .collect()
    }

    async fn seal(&self, fenced: NodeEpoch, floor: WalPosition) -> Result<SealedWal, WalError> {
        let (recovery, first_opening) = (&self.recovery, self.first_opening);
        self.factory.check_extent(recovery, first_opening, floor)?;
        let bytes = recovery.end() - floor.at.max(recovery.first_position());
        // all epochs share one log, and an epoch that opened after its last block wrote nothing
        if bytes == 0 || self.recovery.opening() < fenced.0 {
            return Ok(SealedWal::Empty);
        }
        // the epoch may hold more than memory does, so the log is read again
        let recovery = self.factory.recovery().await?;
        let begin = (recovery, floor.at.max(self.recovery.first_position()));
        let groups = stream::try_unfold(begin, move |(mut recovery, mut from)| async move {
            while let Some(group) = recovery.next().await.map_err(of_log)? {
                if group.end <= floor.at {
                    continue;
                }
                let bytes = group.end - std::mem::replace(&mut from, group.end);
                if group.opening == fenced.0 {
                    let batches = decode_group(group)?;
                    let group = ReplayedGroup { bytes, batches };
                    return Ok(Some((group, (recovery, from))));
                }
            }
            Ok(None)
        });
        let groups = groups.boxed();
        Ok(SealedWal::Replay { bytes, groups })
    }

    async fn open(
        self: Box<Self>,
        epoch: NodeEpoch,
        sink: Arc<dyn ConfirmedSink>,
    ) -> Result<Arc<dyn WriteAheadLog>, WalError> {
        self.check_epoch(epoch)?;
        let bytes = self.factory.config.bytes_max;
        let room = ByteBudget::with_reserve(bytes, bytes / RESERVED_PART);
        let memory = self.factory.memory.clone();
        let threads = &*self.factory.threads;
        let end = self.recovery.end();
        let wal = DiskWal::start(self.recovery, epoch, threads, memory, room, sink);
        if !self.is_needed {
            // The last record stays, so that a later start sees that the epoch's first record is not missing (D2).
            let at = end.saturating_sub(1);
            wal.trim(WalPosition { epoch, at });
        }
        Ok(wal)
    }
}
