//! The Raft log on `disk-log`: it keeps votes, entries, truncations, purges, installed snapshots and the ids of
//! directories in one order. Entries that are not purged are in memory as well, as the bytes of their records on disk.

mod durable;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use highwater_disk_log::{DiskLog, GroupReceiver, LogError, Part, Recovery, Seed};
use highwater_io::{Device, Threads};
use highwater_types::Uuid;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;

use self::durable::{DurableGroups, Meta};
use super::record::{DirectoryRecord, Kind, LogRecord, TruncateRecord};
use super::replica;
use super::types::{Entry, LogId, Types, Vote};
use crate::OpenError;

/// The Raft log; clones share it.
#[derive(Debug, Clone)]
pub(super) struct LogStore(Arc<Inner>);

struct Inner {
    log: DiskLog<Meta>,
    memory: Mutex<Memory>,
    durable: Arc<DurableGroups>,
}

impl Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogStore")
    }
}

#[derive(Debug, Default)]
struct Memory {
    vote: Option<Vote>,
    entries: BTreeMap<u64, Kept>,
    purged: Option<LogId>,
    /// The end of the last snapshot of a leader that was to be installed, if it is not purged yet.
    installed: Option<LogId>,
    /// This replica, if the log names it.
    own: Option<DirectoryRecord>,
    /// The data directory of each voter that this one has dealt with, and its own.
    directories: BTreeMap<u64, Directory>,
    /// The bytes that `entries` take in memory.
    bytes: u64,
    /// The value of `bytes` when a snapshot was asked for last.
    asked_at: u64,
}

/// The data directory of a voter.
#[derive(Debug, Clone, Copy)]
struct Directory {
    id: Uuid,
    /// Whether its record is durable.
    is_durable: bool,
}

/// The last entry of a follower of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastEntry {
    pub(super) id: LogId,
    /// The checksum of its record; `None` if the follower has it from a snapshot. An older copy of a lone
    /// voter's disk takes the next term as that voter did, so that two histories may have different entries of one id.
    pub(super) checksum: Option<u32>,
}

impl LastEntry {
    pub(super) fn new(id: LogId, record: &[u8]) -> Self {
        let checksum = Some(crc32fast::hash(record));
        Self { id, checksum }
    }

    fn is_record(self, id: LogId, record: &[u8]) -> bool {
        let is_content = |checksum| checksum == crc32fast::hash(record);
        self.id == id && self.checksum.is_none_or(is_content)
    }
}

/// What a log has after an entry.
#[derive(Debug)]
pub(super) enum RecordsAfter {
    /// The records that follow it; none if it is the last one.
    Records(Vec<Bytes>),
    /// The next entry is purged.
    Purged,
    /// The log has another entry at that index.
    Diverged,
}

/// An entry, encoded as its record on disk with the record's length before it.
#[derive(Debug, Clone)]
struct Kept {
    id: LogId,
    record: Bytes,
}

/// The bytes that an entry takes in memory beside its record.
const KEPT_BYTES: u64 = 100;

impl Kept {
    fn new(entry: &Entry) -> Self {
        Self {
            id: entry.log_id,
            record: encoded(Kind::Entry(entry.into())),
        }
    }

    fn bytes(&self) -> u64 {
        self.record.len() as u64 + KEPT_BYTES
    }

    fn entry(&self) -> Entry {
        entry(&self.record).expect("only records of entries are kept")
    }
}

fn encoded(kind: Kind) -> Bytes {
    LogRecord::from(kind)
        .encode_length_delimited_to_vec()
        .into()
}

/// Bytes on a full disk that proposals may not use, so that votes and a purge still fit.
const ROOM_KEPT: u64 = 1 << 20;

/// The directories that a log remembers at most.
const DIRECTORIES_MAX: usize = 1024;

const CONFIG: highwater_disk_log::Config = highwater_disk_log::Config {
    file_bytes: 4 << 20,
};

impl LogStore {
    pub(super) async fn open(
        device: Arc<dyn Device>,
        threads: &dyn Threads,
        dir: &Path,
        new_seed: Seed,
    ) -> Result<Self, OpenError> {
        let mut recovery = Recovery::open(device, dir, CONFIG, new_seed)
            .await
            .map_err(OpenError::Log)?;
        let mut memory = Memory::default();
        while let Some(group) = recovery.next().await.map_err(OpenError::Log)? {
            let mut body = group.body;
            while body.has_remaining() {
                let from = body.clone();
                let record = LogRecord::decode_length_delimited(&mut body)
                    .map_err(|error| OpenError::Raft(format!("the log is malformed: {error}")))?;
                memory.replay(record, &from[..from.len() - body.len()]);
            }
        }
        // files before the first one that is left were deleted by a purge, whose own record is kept
        if recovery.first_position() > 0 && memory.purged.is_none() {
            return Err(OpenError::Lost {
                path: dir.display().to_string(),
                reason: "its first file is missing",
            });
        }
        let end = recovery.end();
        let durable = Arc::new(DurableGroups::new(end, memory.ends().1));
        let opening = recovery.opening() + 1;
        let as_sink: Arc<dyn GroupReceiver<Meta>> = Arc::<DurableGroups>::clone(&durable);
        let log = DiskLog::start(recovery, opening, threads, "raft-writer", as_sink);
        let memory = Mutex::new(memory);
        Ok(Self(Arc::new(Inner {
            log,
            memory,
            durable,
        })))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last entry that was purged, and the last entry of the log, which may be purged as well.
    pub(super) fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        self.memory().ends()
    }

    /// The records of the entries after `last` and below `end`: about `bytes_max` bytes, and at least one entry if
    /// there is one. `last` is an entry below `end`, or `None` for the records from the first entry on.
    pub(super) fn records_after(
        &self,
        last: Option<LastEntry>,
        end: u64,
        bytes_max: usize,
    ) -> RecordsAfter {
        let memory = self.memory();
        let next = last.map_or(0, |last| last.id.index.saturating_add(1));
        if memory.purged.is_some_and(|purged| next <= purged.index) {
            return RecordsAfter::Purged;
        }
        if let Some(last) = last {
            let is_same = match memory.entries.get(&last.id.index) {
                Some(kept) => last.is_record(kept.id, &kept.record),
                None => memory.purged == Some(last.id),
            };
            if !is_same {
                return RecordsAfter::Diverged;
            }
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (_, kept) in memory.entries.range(next..end.max(next)) {
            bytes += kept.record.len();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(kept.record.clone());
        }
        RecordsAfter::Records(records)
    }

    /// Notes durably that a leader's snapshot up to this entry takes the place of the own one. A process that dies
    /// before the log is purged then knows at its next start why the log ends before the snapshot.
    pub(super) async fn note_install(&self, last: LogId) -> io::Result<()> {
        let record = encoded(Kind::Install((&last).into()));
        self.append_and_wait(&[record], Meta::Nothing).await?;
        self.memory().installed = Some(last);
        Ok(())
    }

    /// Purges what a leader's snapshot covers, if the last process installed it and died before it purged the log.
    pub(super) async fn finish_install(&self, applied: Option<LogId>) -> io::Result<()> {
        let (_, last) = self.ends();
        let installed = self.memory().installed;
        match applied.filter(|applied| installed == Some(*applied) && Some(*applied) > last) {
            Some(applied) => self.clone().purge(applied).await,
            None => Ok(()),
        }
    }

    /// Waits until the log holds an entry durably, or has purged it. The library applies what other voters have
    /// committed, which may be before that.
    ///
    /// # Errors
    /// Nothing becomes durable any more.
    pub(super) async fn until_durable(&self, last: Option<LogId>) -> io::Result<()> {
        // both arms are cancellation safe
        tokio::select! {
            biased;
            () = self.0.durable.until(last) => Ok(()),
            error = self.why_ended() => Err(error),
        }
    }

    async fn why_ended(&self) -> io::Error {
        let ended = self.ended().await.map(|error| error.to_string());
        io::Error::other(ended.unwrap_or_else(|| "the metadata's log was closed".to_owned()))
    }

    async fn append_and_wait(&self, records: &[Bytes], meta: Meta) -> Result<(), io::Error> {
        let appended = self.append_records(records, meta);
        if let Some(appended) = appended
            && !appended.wait(self.0.log.state()).await
        {
            return Err(self.why_ended().await);
        }
        Ok(())
    }

    /// Appends records as one entry of the disk log, so that they become durable together.
    fn append_records(
        &self,
        records: &[Bytes],
        meta: Meta,
    ) -> Option<highwater_disk_log::Appended> {
        if records.is_empty() {
            return None;
        }
        let parts: Vec<Part<'_>> = records.iter().map(|record| record[..].into()).collect();
        Some(self.0.log.append(&parts, meta))
    }

    /// This replica, as the log names it. In a log of a former release it is the founder of the quorum with the id of
    /// the node.
    pub(super) fn own(&self, node: u64) -> Option<DirectoryRecord> {
        let own = self.memory().own;
        let founder = || Some(DirectoryRecord::new(node, self.own_directory(node)?));
        own.or_else(founder)
    }

    /// Names this replica durably. It takes part only after that.
    pub(super) async fn be(&self, own: DirectoryRecord) -> io::Result<()> {
        self.memory().remember(own)?;
        let records = [encoded(Kind::Own(own)), encoded(Kind::Directory(own))];
        self.append_and_wait(&records, Meta::Nothing).await?;
        let mut memory = self.memory();
        memory.own = Some(own);
        if let Some(known) = memory.directories.get_mut(&own.node) {
            known.is_durable = true;
        }
        Ok(())
    }

    /// The data directory by which this voter knows another one.
    pub(super) fn known_directory(&self, node: u64) -> Option<Uuid> {
        self.memory().directories.get(&node).map(|known| known.id)
    }

    /// The data directory of this voter, once it may take part in the quorum.
    pub(super) fn own_directory(&self, node: u64) -> Option<Uuid> {
        let own = self.memory().directories.get(&node).copied();
        own.filter(|own| own.is_durable).map(|own| own.id)
    }

    /// Remembers the data directory of a voter, durably. A vote or an append of a voter counts only after that, so that
    /// a voter that lost its directory is recognised.
    ///
    /// # Errors
    /// The voter is known by another directory, or the log has ended.
    pub(super) async fn remember(&self, directory: DirectoryRecord) -> io::Result<()> {
        if self.memory().remember(directory)? {
            return Ok(());
        }
        self.append_and_wait(&[encoded(Kind::Directory(directory))], Meta::Nothing)
            .await?;
        if let Some(known) = self.memory().directories.get_mut(&directory.node) {
            known.is_durable = true;
        }
        Ok(())
    }

    /// The bytes in memory of the entries that are not purged.
    pub(super) fn bytes(&self) -> u64 {
        self.memory().bytes
    }

    /// Whether the log has grown by `bytes_max` since the last purge or since this method last returned true. Entries
    /// stay in memory until a snapshot covers them.
    pub(super) fn has_outgrown(&self, bytes_max: u64) -> bool {
        let mut memory = self.memory();
        let has = memory.bytes >= memory.asked_at + bytes_max;
        if has {
            memory.asked_at = memory.bytes;
        }
        has
    }

    /// Waits until nothing more can become durable: an fsync failed (D3), or the log was closed.
    pub(super) async fn ended(&self) -> Option<LogError> {
        self.0.log.ended().await
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.log.state().borrow().ended.is_some()
    }

    /// Whether the disk is full and the files that exist have no room for so many bytes (D3).
    pub(super) fn is_full_for(&self, bytes: usize) -> bool {
        let state = self.0.log.state();
        let state = state.borrow();
        state.full && state.room < bytes as u64 + ROOM_KEPT
    }

    pub(super) async fn shutdown(&self) -> Result<(), OpenError> {
        self.0.log.shutdown().await.map_err(OpenError::Log)
    }
}

impl Memory {
    /// See [`LogStore::ends`].
    fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let last = self.entries.values().next_back();
        let last = last.map(|kept| kept.id);
        (self.purged, last.or(self.purged))
    }

    /// Applies a record that was read back, given the bytes it was decoded from.
    fn replay(&mut self, record: LogRecord, bytes: &[u8]) {
        match record.kind {
            Some(Kind::Vote(vote)) => self.vote = Some(vote.into()),
            Some(Kind::Entry(entry)) => {
                let id = Entry::from(entry).log_id;
                // an entry that is written again replaces the old one and all entries after it
                self.cut(id.index);
                let record = Bytes::copy_from_slice(bytes);
                self.insert(Kept { id, record });
            }
            Some(Kind::Truncate(TruncateRecord { all: true, .. })) => self.cut(0),
            Some(Kind::Truncate(TruncateRecord { after, .. })) => self.cut(after + 1),
            Some(Kind::Purge(purged)) => self.purge(purged.into()),
            Some(Kind::Install(installed)) => self.installed = Some(installed.into()),
            Some(Kind::Own(own)) => self.own = Some(own),
            Some(Kind::Directory(directory)) => {
                let (id, is_durable) = (directory.id(), true);
                let known = Directory { id, is_durable };
                self.directories.insert(directory.node, known);
            }
            None => {}
        }
    }

    fn insert(&mut self, kept: Kept) {
        self.bytes += kept.bytes();
        if let Some(replaced) = self.entries.insert(kept.id.index, kept) {
            self.bytes -= replaced.bytes();
        }
    }

    /// Remembers the directory of a voter, and returns whether its record is durable already.
    fn remember(&mut self, directory: DirectoryRecord) -> io::Result<bool> {
        let (node, id) = (directory.node, directory.id());
        let is_durable = false;
        let is_new = !self.directories.contains_key(&node);
        if !replica::may_have(node, id) || (is_new && self.directories.len() >= DIRECTORIES_MAX) {
            let why = format!("directory.id={id} is of another voter, or one too many");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let known = self.directories.entry(node);
        let known = known.or_insert(Directory { id, is_durable });
        if known.id != id {
            let why = format!(
                "node {} is known by directory.id={}, and now has directory.id={id}: its data directory was lost \
                 or exchanged",
                replica::node_id(node),
                known.id
            );
            return Err(io::Error::other(why));
        }
        Ok(known.is_durable)
    }

    fn directory_records(&self) -> impl Iterator<Item = Bytes> {
        let own = self.own.into_iter().map(|own| encoded(Kind::Own(own)));
        let directories = self.directories.iter();
        let directories = directories
            .map(|(node, known)| encoded(Kind::Directory(DirectoryRecord::new(*node, known.id))));
        own.chain(directories)
    }

    /// Drops the entries from an index on.
    fn cut(&mut self, from: u64) {
        let gone = self.entries.split_off(&from);
        self.bytes -= gone.values().map(Kept::bytes).sum::<u64>();
    }

    /// Drops the entries up to one that a snapshot covers.
    fn purge(&mut self, id: LogId) {
        let left = self.entries.split_off(&(id.index + 1));
        let gone = std::mem::replace(&mut self.entries, left);
        self.bytes -= gone.values().map(Kept::bytes).sum::<u64>();
        self.asked_at = 0;
        self.purged = Some(id);
        self.installed = self.installed.filter(|installed| *installed > id);
    }
}

/// The entry of a record that [`LogStore::records_after`] returned.
pub(super) fn entry(record: &[u8]) -> Option<Entry> {
    match LogRecord::decode_length_delimited(record).map(|record| record.kind) {
        Ok(Some(Kind::Entry(entry))) => Some(entry.into()),
        _ => None,
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self
            .memory()
            .entries
            .range(range)
            .map(|(_, kept)| kept.entry())
            .collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let (last_purged_log_id, last_log_id) = self.ends();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.append_and_wait(&[encoded(Kind::Vote(vote.into()))], Meta::Nothing)
            .await?;
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut last = None;
        {
            let mut memory = self.memory();
            for entry in entries {
                let kept = Kept::new(&entry);
                records.push(kept.record.clone());
                last = Some(kept.id);
                memory.insert(kept);
            }
        }
        self.append_records(&records, Meta::Tell(callback, last));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let truncate = TruncateRecord {
            all: last.is_none(),
            after: last.map_or(0, |last| last.index),
        };
        self.memory().cut(last.map_or(0, |last| last.index + 1));
        self.append_and_wait(&[encoded(Kind::Truncate(truncate))], Meta::Cut(last))
            .await
    }

    /// Writes the records that are still needed once more, then deletes the files before them.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let records = {
            let mut memory = self.memory();
            memory.purge(log_id);
            let mut records = vec![encoded(Kind::Purge((&log_id).into()))];
            let vote = memory.vote.iter();
            records.extend(vote.map(|vote| encoded(Kind::Vote(vote.into()))));
            let installed = memory.installed.iter();
            records.extend(installed.map(|installed| encoded(Kind::Install(installed.into()))));
            records.extend(memory.directory_records());
            records.extend(memory.entries.values().map(|kept| kept.record.clone()));
            records
        };
        self.append_and_wait(&records, Meta::TrimBefore).await?;
        self.0.durable.has(Some(log_id));
        self.0.log.trim(self.0.durable.floor());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
