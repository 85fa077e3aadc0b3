//! The Raft log on `disk-log`: votes, entries, truncations and purges in one order. What is not purged is in memory too.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Buf;
use highwater_disk_log::{DiskLog, Group, GroupSink, LogError, Recovery, Seed};
use highwater_io::{Device, Threads};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;

use super::record::{Kind, LogRecord, TruncateRecord};
use super::types::{Entry, LogId, Types, Vote};
use crate::OpenError;

/// The log; clones share it.
#[derive(Debug, Clone)]
pub(super) struct LogStore(Arc<Inner>);

struct Inner {
    log: DiskLog<Meta>,
    memory: Mutex<Memory>,
    sink: Arc<Sink>,
}

impl Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogStore")
    }
}

#[derive(Debug, Default)]
struct Memory {
    vote: Option<Vote>,
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    /// Bytes written since a purge, with what the purge left: about what `entries` take.
    bytes: u64,
    /// What `bytes` were when a snapshot was asked for last.
    asked_at: u64,
}

/// What happens when a record is durable.
enum Meta {
    Nothing,
    Tell(IOFlushed<Types>),
    /// Everything before this record's group may go.
    TrimBefore,
}

struct Sink {
    /// Where the last group ended.
    end: AtomicU64,
    /// Below it nothing is needed.
    floor: AtomicU64,
}

impl Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl GroupSink<Meta> for Sink {
    fn durable(&self, groups: Vec<Group<Meta>>) {
        for group in groups {
            let start = self.end.swap(group.end, Ordering::AcqRel);
            for (_, meta) in group.entries {
                match meta {
                    Meta::Nothing => {}
                    Meta::Tell(flushed) => flushed.io_completed(Ok(())),
                    Meta::TrimBefore => self.floor.store(start, Ordering::Release),
                }
            }
        }
    }

    fn ended(&self) {}
}

/// What proposals leave of the room on a full disk: votes and a purge must fit.
const ROOM_KEPT: u64 = 1 << 20;

/// The files of the metadata's log.
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
            let (purged, bytes) = (memory.purged, body.len() as u64);
            while body.has_remaining() {
                let record = LogRecord::decode_length_delimited(&mut body)
                    .map_err(|error| OpenError::Raft(format!("the log is malformed: {error}")))?;
                memory.replay(record);
            }
            memory.bytes += bytes;
            if memory.purged != purged {
                memory.bytes = bytes;
            }
        }
        // what lies below was let go of by a purge, which is written once more with what it leaves
        if recovery.first_position() > 0 && memory.purged.is_none() {
            return Err(OpenError::Lost {
                path: dir.display().to_string(),
                reason: "its first file is missing",
            });
        }
        let end = recovery.end();
        let sink = Arc::new(Sink {
            end: AtomicU64::new(end),
            floor: AtomicU64::new(0),
        });
        let opening = recovery.opening() + 1;
        let as_sink: Arc<dyn GroupSink<Meta>> = Arc::<Sink>::clone(&sink);
        let log = DiskLog::start(recovery, opening, threads, "raft-writer", as_sink);
        Ok(Self(Arc::new(Inner {
            log,
            memory: Mutex::new(memory),
            sink,
        })))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last entry that was let go of, and the last there is or was.
    pub(super) fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let memory = self.memory();
        let last = memory.entries.values().next_back();
        let last = last.map(|entry| entry.log_id);
        (memory.purged, last.or(memory.purged))
    }

    async fn append_and_wait(&self, records: Vec<LogRecord>, meta: Meta) -> Result<(), io::Error> {
        let appended = self.append_records(records, meta);
        if let Some(appended) = appended
            && !appended.wait(self.0.log.state()).await
        {
            return Err(io::Error::other("the metadata's log has ended"));
        }
        Ok(())
    }

    /// Appends records as one entry of the log below, so that they are durable together.
    fn append_records(
        &self,
        records: Vec<LogRecord>,
        meta: Meta,
    ) -> Option<highwater_disk_log::Appended> {
        if records.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend_from_slice(&record.encode_length_delimited_to_vec());
        }
        self.memory().bytes += bytes.len() as u64;
        Some(self.0.log.append(&[bytes[..].into()], meta))
    }

    /// Whether the log has grown by so many bytes since it was let go of, or since this said so: entries stay in memory
    /// until a snapshot has them.
    pub(super) fn has_outgrown(&self, bytes_max: u64) -> bool {
        let mut memory = self.memory();
        let has = memory.bytes >= memory.asked_at + bytes_max;
        if has {
            memory.asked_at = memory.bytes;
        }
        has
    }

    /// Resolves when nothing more becomes durable: an fsync failed (D3), or it was closed.
    pub(super) async fn ended(&self) -> Option<LogError> {
        self.0.log.ended().await
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.log.state().borrow().ended.is_some()
    }

    /// Whether the disk is full and so are the files that are there (D3).
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
    fn replay(&mut self, record: LogRecord) {
        match record.kind {
            Some(Kind::Vote(vote)) => self.vote = Some(vote.into()),
            Some(Kind::Entry(entry)) => {
                let entry = Entry::from(entry);
                let index = entry.log_id.index;
                // an entry that is written again replaces itself and what followed
                self.entries.split_off(&index);
                self.entries.insert(index, entry);
            }
            Some(Kind::Truncate(TruncateRecord { all: true, .. })) => self.entries.clear(),
            Some(Kind::Truncate(TruncateRecord { after, .. })) => {
                self.entries.split_off(&(after + 1));
            }
            Some(Kind::Purge(purged)) => self.purge(purged.into()),
            None => {}
        }
    }

    fn purge(&mut self, id: LogId) {
        self.entries = self.entries.split_off(&(id.index + 1));
        self.purged = Some(id);
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
            .map(|(_, entry)| entry.clone())
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
        self.append_and_wait(vec![Kind::Vote(vote.into()).into()], Meta::Nothing)
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
        {
            let mut memory = self.memory();
            for entry in entries {
                records.push(Kind::Entry((&entry).into()).into());
                memory.entries.insert(entry.log_id.index, entry);
            }
        }
        self.append_records(records, Meta::Tell(callback));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let truncate = TruncateRecord {
            all: last.is_none(),
            after: last.map_or(0, |last| last.index),
        };
        {
            let mut memory = self.memory();
            match last {
                Some(last) => drop(memory.entries.split_off(&(last.index + 1))),
                None => memory.entries.clear(),
            }
        }
        self.append_and_wait(vec![Kind::Truncate(truncate).into()], Meta::Nothing)
            .await
    }

    /// Writes what is still needed once more, then lets go of everything before it.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let records = {
            let mut memory = self.memory();
            memory.purge(log_id);
            (memory.bytes, memory.asked_at) = (0, 0);
            let mut records = vec![LogRecord::from(Kind::Purge((&log_id).into()))];
            records.extend(
                memory
                    .vote
                    .iter()
                    .map(|vote| Kind::Vote(vote.into()).into()),
            );
            let entries = memory.entries.values();
            records.extend(entries.map(|entry| LogRecord::from(Kind::Entry(entry.into()))));
            records
        };
        self.append_and_wait(records, Meta::TrimBefore).await?;
        self.0.log.trim(self.0.sink.floor.load(Ordering::Acquire));
        Ok(())
    }
}
