//! Seals the object WAL of a fenced epoch, and reads the directories of what it holds (W7).

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use highwater_object_format::{
    Footer, FormatError, HEADER_BYTES, ObjectHeader, Seal, StreamDirectory,
};
use highwater_object_storage::{IoClass, PutMode, StorageError, layout};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, WalPosition,
};
use tokio::time::timeout;

use super::attempt::Answer;
use super::config::Config;
use super::patience::Patience;
use super::put::{Putter, answer};
use super::sealing::{Creation, SealStep, Sealing, Seen};
use crate::{SealedObject, SealedRange, WalError};

/// How many numbers are read at once: as many as the store lets a start read, because clients wait for the end.
const READ_AT_ONCE: usize = 48;
/// The bytes at an object's end that are read first. They have all that a sealer needs, unless the index is larger.
const SUFFIX_BYTES: u64 = 16 << 10;
const NO_ANSWER: &str = "no answer within the deadline";
const CLASS: IoClass = IoClass::Start;

/// Seals one epoch.
pub(super) struct Sealer<'a> {
    pub(super) putter: &'a Putter,
    pub(super) config: &'a Config,
    /// The node that wrote the epoch.
    pub(super) node: NodeId,
    pub(super) fenced: NodeEpoch,
    pub(super) floor: WalPosition,
    /// Whether the floor comes from metadata that has applied the fence.
    pub(super) is_floor_final: bool,
}

/// The object at one number.
enum Object {
    Absent,
    GroupCommit(SealedObject),
    Seal,
}

/// Why an object could not be read.
enum ReadError {
    Storage(StorageError),
    Late,
    /// It is not what its key says.
    Damaged(String),
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Sealer<'_> {
    /// Reads from the floor upward to the first absent number and creates the seal there.
    pub(super) async fn seal(&self) -> Result<SealedRange, WalError> {
        let floor = self.first();
        let mut sealing = Sealing::new(floor);
        let mut objects = Vec::new();
        let mut patience = Patience::new(self.putter);
        let mut step = SealStep::Read(floor);
        loop {
            step = match step {
                SealStep::Read(from) => {
                    let before = objects.len();
                    let next = self.read_from(from, &mut sealing, &mut objects).await?;
                    if objects.len() > before {
                        patience = Patience::new(self.putter);
                    }
                    next
                }
                SealStep::Create(at) => sealing.created(self.create(at, &mut patience).await?),
                SealStep::Sealed(at) => {
                    let epoch = self.fenced;
                    let end = WalPosition { epoch, at };
                    return Ok(SealedRange { end, objects });
                }
            };
        }
    }

    /// The number from which the epoch's objects are needed.
    fn first(&self) -> u64 {
        match self.floor.epoch == self.fenced {
            true => self.floor.at,
            false => 0,
        }
    }

    /// The newest leader epoch of each stream in the objects above the floor. Changes nothing.
    pub(super) async fn leaderships(&self) -> Result<BTreeMap<StreamId, LeaderEpoch>, WalError> {
        let mut newest = BTreeMap::new();
        let reads = stream::iter(self.first()..).map(|number| self.read(number));
        let mut reads = std::pin::pin!(reads.buffered(READ_AT_ONCE));
        while let Some(read) = reads.next().await {
            let Object::GroupCommit(object) = read? else {
                break;
            };
            for directory in object.directories {
                let epoch = newest
                    .entry(directory.stream)
                    .or_insert(directory.leader_epoch);
                *epoch = directory.leader_epoch.max(*epoch);
            }
        }
        Ok(newest)
    }

    async fn read_from(
        &self,
        from: u64,
        sealing: &mut Sealing,
        objects: &mut Vec<SealedObject>,
    ) -> Result<SealStep, WalError> {
        let reads = stream::iter(from..).map(|number| self.read(number));
        let mut reads = std::pin::pin!(reads.buffered(READ_AT_ONCE));
        while let Some(read) = reads.next().await {
            let seen = match read? {
                Object::Absent => Seen::Absent,
                Object::Seal => Seen::Seal,
                Object::GroupCommit(object) => {
                    objects.push(object);
                    Seen::GroupCommit
                }
            };
            let step = sealing.seen(seen);
            if !matches!(step, SealStep::Read(_)) {
                return Ok(step);
            }
        }
        unreachable!("there is always a next number")
    }

    /// Tries once to create the seal. An unclear outcome is resolved by reading.
    async fn create(&self, at: u64, patience: &mut Patience) -> Result<Creation, WalError> {
        let id = self.id(at);
        let seal = Seal {
            cluster: self.config.cluster,
            node: id.node,
            epoch: id.epoch,
            number: at,
            sealer: self.config.node,
            nonce: self.config.nonce,
        };
        let key = layout::object(id);
        let body = vec![seal.encode()];
        let storage = &self.putter.storage;
        let put = storage.put(&key, body, PutMode::IfAbsent, CLASS);
        let (creation, reason) = match timeout(self.putter.repeats.deadline, put).await {
            Ok(Ok(_version)) => return Ok(Creation::Created),
            Err(_elapsed) => (Creation::Unclear, NO_ANSWER.to_owned()),
            Ok(Err(error)) => match answer(&error) {
                Answer::Created | Answer::Exists => return Ok(Creation::Unclear),
                Answer::Unknown => (Creation::Unclear, error.to_string()),
                Answer::NotDone => (Creation::NotDone, error.to_string()),
            },
        };
        patience.rest(key.as_str(), &reason).await?;
        Ok(creation)
    }

    async fn read(&self, number: u64) -> Result<Object, WalError> {
        let key = layout::object(self.id(number)).to_string();
        let mut patience = Patience::new(self.putter);
        loop {
            let error = match self.try_read(number).await {
                Ok(object) => return Ok(object),
                Err(ReadError::Storage(StorageError::NotFound { .. })) => {
                    return Ok(Object::Absent);
                }
                Err(ReadError::Damaged(reason)) => {
                    return Err(WalError::Damaged { reason, path: key });
                }
                Err(ReadError::Storage(error)) => error.to_string(),
                Err(ReadError::Late) => NO_ANSWER.to_owned(),
            };
            patience.rest(&key, &error).await?;
        }
    }

    async fn try_read(&self, number: u64) -> Result<Object, ReadError> {
        let id = self.id(number);
        let key = layout::object(id);
        let suffix = self.putter.storage.get_suffix(&key, SUFFIX_BYTES, CLASS);
        let suffix = timeout(self.putter.repeats.deadline, suffix).await;
        let (suffix, bytes) = suffix.map_err(|_elapsed| ReadError::Late)??;
        if (suffix.len() as u64) < bytes.min(SUFFIX_BYTES) {
            return Err(ReadError::Late);
        }
        if Seal::is_seal(&suffix, bytes) {
            let seal = Seal::parse(&suffix)?;
            return match seal.cluster == self.config.cluster && seal.id() == id {
                true => Ok(Object::Seal),
                false => Err(ReadError::Damaged("it is the seal of another log".into())),
            };
        }
        let object = Partly {
            sealer: self,
            id,
            suffix,
            bytes,
        };
        let footer = Footer::parse(&object.suffix)?;
        let header = match footer.header {
            Some(header) => header,
            None => ObjectHeader::parse(&object.part(0..HEADER_BYTES as u64).await?)?,
        };
        self.check(&header, id)?;
        let index_end = footer.position.saturating_add(footer.bytes.into());
        let index = object.part(footer.position..index_end).await?;
        let entries = Footer::directories(&index)?;
        let first = entries.iter().map(|entry| entry.position).min();
        let first = first.unwrap_or(footer.position).min(footer.position);
        let region = object.part(first..footer.position).await?;
        let mut directories = Vec::with_capacity(entries.len());
        for entry in entries {
            let from = usize::try_from(entry.position - first).unwrap_or(usize::MAX);
            let to = from.saturating_add(usize::try_from(entry.bytes).unwrap_or(usize::MAX));
            if to > region.len() {
                return Err(ReadError::Damaged("a directory is outside of it".into()));
            }
            directories.push(StreamDirectory::parse(&region.slice(from..to))?);
        }
        Ok(Object::GroupCommit(SealedObject {
            id,
            bytes,
            directories,
        }))
    }

    /// I10, R3: the object is the one that its key says, and does not know of a later floor than the metadata does.
    fn check(&self, header: &ObjectHeader, id: ObjectId) -> Result<(), ReadError> {
        if header.cluster != self.config.cluster || header.id != id {
            let found = (header.cluster, header.id);
            let reason = format!("it is of cluster {}, object {}", found.0, found.1);
            return Err(ReadError::Damaged(reason));
        }
        let is_same = header.floor.epoch == self.floor.epoch;
        if self.is_floor_final && is_same && header.floor > self.floor {
            let (known, floor) = (self.floor, header.floor);
            let reason = format!(
                "it knows of floor {floor}, and the metadata of {known}, which is older (R3)"
            );
            return Err(ReadError::Damaged(reason));
        }
        Ok(())
    }

    fn id(&self, number: u64) -> ObjectId {
        ObjectId {
            node: self.node,
            epoch: self.fenced,
            kind: ObjectKind::Wal,
            number,
        }
    }
}

/// An object whose end was read.
struct Partly<'a> {
    sealer: &'a Sealer<'a>,
    id: ObjectId,
    suffix: Bytes,
    bytes: u64,
}

impl Partly<'_> {
    /// A range of it, from the end that was read if that has it.
    async fn part(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        if range.start > range.end || range.end > self.bytes {
            return Err(ReadError::Damaged("it is shorter than it says".into()));
        }
        let suffix_from = self.bytes - self.suffix.len() as u64;
        let at = |position: u64| usize::try_from(position.saturating_sub(suffix_from));
        if range.start >= suffix_from
            && let (Ok(from), Ok(to)) = (at(range.start), at(range.end))
        {
            return Ok(self.suffix.slice(from..to));
        }
        let mut whole = BytesMut::new();
        let key = layout::object(self.id);
        let putter = self.sealer.putter;
        let read_to = range.end.min(suffix_from);
        let get = putter.storage.get(&key, range.start..read_to, CLASS);
        let read = timeout(putter.repeats.deadline, get).await;
        let read = read.map_err(|_elapsed| ReadError::Late)??;
        if read.len() as u64 != read_to - range.start {
            return Err(ReadError::Late);
        }
        whole.extend_from_slice(&read);
        let rest = at(range.end).unwrap_or(0);
        whole.extend_from_slice(&self.suffix[..rest]);
        Ok(whole.freeze())
    }
}
