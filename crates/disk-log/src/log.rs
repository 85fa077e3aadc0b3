//! The open log: appends gather, one writer drains.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes};
use crc32fast::Hasher;
use highwater_io::Threads;
use metrics::Histogram;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::block::{BLOCK_MAX, HEADER_BYTES, Header, SECTOR_BYTES, sum};
use crate::files::Files;
use crate::filling::{Filling, Part, Segments, segment};
use crate::group::{Group, GroupSink};
use crate::metrics::SYNC_SECONDS;
use crate::{LogError, Recovery};

/// Where an appended entry will be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The number of its group, from 1.
    pub group: u64,
}

/// What one sync makes durable is bounded, so that it does not take for ever.
const SYNC_BYTES_MAX: usize = 8 << 20;
/// How much of a file is made at a time while there is nothing to write.
const STEP_BYTES: u64 = 1 << 20;

/// An open log. Cheap to clone.
pub struct DiskLog<M>(Arc<Inner<M>>);

impl<M> Clone for DiskLog<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> std::fmt::Debug for DiskLog<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLog")
    }
}

struct Inner<M> {
    open: Mutex<Open<M>>,
    wake: Notify,
    state: watch::Sender<State>,
    /// Apart from the state, so that who waits for the end is not woken by every sync.
    ended: watch::Sender<bool>,
}

/// What the writer has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Groups that are durable.
    pub groups: u64,
    /// The position just after them.
    pub end: u64,
    /// Whether nothing more will become durable, and why if by an error.
    pub ended: Option<Option<LogError>>,
    /// Whether the disk has no room for the next file. It is tried again until it has.
    pub full: bool,
    /// Bytes that still fit into files that are there: what follows the last group.
    pub room: u64,
    /// Bytes of files that become room once what they hold is let go of.
    pub held: u64,
}

impl PartialEq for LogError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for LogError {}

struct Open<M> {
    /// Groups that are closed and wait for the writer.
    closed: VecDeque<Filling<M>>,
    filling: Filling<M>,
    segments: Segments,
    closing: bool,
    floor: u64,
    /// Room that somebody waits for.
    wanted: u64,
}

impl<M: Send + 'static> DiskLog<M> {
    /// Goes on at the end of a log that was read back whole, under a new opening number.
    ///
    /// # Panics
    /// When `opening` is not above every earlier one (D1), or the log was not read to its end.
    #[must_use]
    pub fn start(
        recovery: Recovery,
        opening: u64,
        threads: &dyn Threads,
        name: &'static str,
        sink: Arc<dyn GroupSink<M>>,
    ) -> Self {
        assert!(recovery.is_done(), "a log is read back whole");
        assert!(opening > recovery.opening(), "opening numbers grow");
        let end = recovery.end;
        let (room, held) = (recovery.files.prepared() - end, recovery.files.held(end));
        let inner = Arc::new(Inner {
            open: Mutex::new(Open {
                closed: VecDeque::new(),
                filling: Filling::first(),
                segments: Segments::default(),
                closing: false,
                floor: recovery.files.first_position(),
                wanted: 0,
            }),
            wake: Notify::new(),
            state: watch::Sender::new(State {
                groups: 0,
                end,
                ended: None,
                full: false,
                room,
                held,
            }),
            ended: watch::Sender::new(false),
        });
        let writer = Writer {
            inner: Arc::clone(&inner),
            files: recovery.files,
            opening,
            position: end,
            synced: end,
            full: false,
            sync_seconds: metrics::histogram!(SYNC_SECONDS, "log" => name),
            sink,
        };
        threads.spawn(name, Box::pin(writer.run()));
        Self(inner)
    }

    /// Appends one entry, copying its parts into the open group; never waits. The entry is durable when
    /// [`State::groups`] reaches its group.
    pub fn append(&self, parts: &[Part<'_>], meta: M) -> Appended {
        let bytes = parts.iter().map(|part| part.bytes.len()).sum();
        let mut locked = self.lock();
        let open = &mut *locked;
        if !open.filling.fits(bytes) {
            let full = open.filling.close();
            open.closed.push_back(full);
        }
        let begins = open.filling.is_empty();
        open.filling.push(&mut open.segments, parts, bytes, meta);
        let group = open.filling.number;
        drop(locked);
        if begins {
            self.0.wake.notify_one();
        }
        Appended { group }
    }

    fn lock(&self) -> MutexGuard<'_, Open<M>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the writer has done, and a watch of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Lets go of what lies below a position; soon, and not durably.
    pub fn trim(&self, floor: u64) {
        let mut open = self.lock();
        open.floor = open.floor.max(floor);
        drop(open);
        self.0.wake.notify_one();
    }

    /// Asks for room for `bytes` more; [`State::room`] says when it is there, [`State::full`] when it cannot be made.
    pub fn want(&self, bytes: u64) {
        let mut open = self.lock();
        open.wanted = open.wanted.max(bytes);
        drop(open);
        self.0.wake.notify_one();
    }

    /// Resolves when the log has ended, with the error it ended by. Cancellation safe.
    pub async fn ended(&self) -> Option<LogError> {
        let mut ended = self.0.ended.subscribe();
        // an error means that the writer is gone, which is an end too
        drop(ended.wait_for(|ended| *ended).await);
        self.0.state.borrow().ended.clone().flatten()
    }

    /// Makes what was appended durable and ends the log.
    ///
    /// # Errors
    /// What the writer ended with.
    pub async fn shutdown(&self) -> Result<(), LogError> {
        self.lock().closing = true;
        self.0.wake.notify_one();
        match self.ended().await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Appended {
    /// Waits until the entry is durable. Cancellation safe.
    ///
    /// # Errors
    /// False when the log ended before.
    pub async fn wait(self, mut state: watch::Receiver<State>) -> bool {
        let reached = state
            .wait_for(|state| state.groups >= self.group || state.ended.is_some())
            .await;
        reached.is_ok_and(|state| state.groups >= self.group)
    }
}

struct Writer<M> {
    inner: Arc<Inner<M>>,
    files: Files,
    opening: u64,
    position: u64,
    synced: u64,
    /// Whether the last attempt to make a file failed.
    full: bool,
    sync_seconds: Histogram,
    sink: Arc<dyn GroupSink<M>>,
}

/// What the writer does next.
enum Next<M> {
    Write(Vec<Filling<M>>),
    Rest,
    End,
}

impl<M: Send + 'static> Writer<M> {
    async fn run(mut self) {
        let outcome = highwater_runtime::catch_panic(self.drain()).await;
        let outcome = outcome.unwrap_or_else(|reason| {
            let directory = self.files.dir().display().to_string();
            Err(LogError::Panicked { directory, reason })
        });
        let error = outcome.err();
        self.sink.ended();
        self.inner
            .state
            .send_modify(|state| state.ended = Some(error));
        self.inner.ended.send_replace(true);
    }

    /// Writes groups until the log is closed. An error ends it and is never tried again (D3).
    async fn drain(&mut self) -> Result<(), LogError> {
        loop {
            let (next, floor, wanted) = self.next();
            self.files.release(floor, self.position).await?;
            self.prepare_wanted(wanted).await?;
            self.tell_room();
            match next {
                Next::Write(groups) => {
                    let from = self.position;
                    self.write(groups).await?;
                    if !self.full && self.is_short() {
                        // faster than it is written to, so that it is there in time
                        self.prepare(2 * (self.position - from)).await?;
                    }
                }
                Next::End => return Ok(()),
                Next::Rest if self.full => {
                    rest().await;
                    self.prepare(STEP_BYTES).await?;
                }
                Next::Rest if self.is_short() => self.prepare(STEP_BYTES).await?,
                Next::Rest => self.inner.wake.notified().await,
            }
        }
    }

    fn next(&self) -> (Next<M>, u64, u64) {
        let inner = &self.inner;
        let mut open = inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.filling.is_empty() {
            let full = open.filling.close();
            open.closed.push_back(full);
        }
        let mut groups = Vec::new();
        let mut bytes = 0;
        while bytes < SYNC_BYTES_MAX
            && let Some(group) = open.closed.pop_front()
        {
            bytes += group.memory.len();
            groups.push(group);
        }
        let next = match groups.is_empty() {
            false => Next::Write(groups),
            true if open.closing => Next::End,
            true => Next::Rest,
        };
        let wanted = match self.full {
            true => open.wanted,
            false => std::mem::take(&mut open.wanted),
        };
        (next, open.floor, wanted)
    }

    async fn write(&mut self, groups: Vec<Filling<M>>) -> Result<(), LogError> {
        let mut touched = Vec::new();
        let mut written = Vec::with_capacity(groups.len());
        for group in groups {
            let bytes = self.bytes_of(&group);
            if self.is_short_of(bytes) && !written.is_empty() {
                // what it waits for may be given back once these are durable
                self.sync(&mut touched, &mut written).await?;
            }
            self.wait_for_room(bytes).await?;
            written.push(self.write_group(group, &mut touched).await?);
        }
        self.sync(&mut touched, &mut written).await
    }

    /// Makes what was written durable and hands it over.
    async fn sync(
        &mut self,
        touched: &mut Vec<u64>,
        written: &mut Vec<Group<M>>,
    ) -> Result<(), LogError> {
        highwater_runtime::crash_point("wal-after-write");
        for index in touched.drain(..) {
            let Some(file) = self.files.get(index) else {
                continue;
            };
            let since = Instant::now();
            let synced = file.sync_data().await;
            self.sync_seconds.record(since.elapsed().as_secs_f64());
            synced.map_err(|error| LogError::io(&self.files.path(index), &error))?;
        }
        highwater_runtime::crash_point("wal-after-sync");
        self.synced = self.position;
        let (end, last) = (self.position, written.last().map_or(0, |last| last.number));
        let (room, held) = self.room();
        // before the sink gives back what was promised of it, and without waking anybody
        self.inner.state.send_if_modified(|state| {
            (state.room, state.held) = (room, held);
            false
        });
        self.sink.durable(std::mem::take(written));
        self.inner.state.send_modify(|state| {
            state.groups = last;
            state.end = end;
        });
        Ok(())
    }

    /// Writes one group as blocks, each from the memory that the group lies in.
    async fn write_group(
        &mut self,
        group: Filling<M>,
        touched: &mut Vec<u64>,
    ) -> Result<Group<M>, LogError> {
        let mut memory = group.memory;
        let room = usize::try_from(self.in_file().min(BLOCK_MAX)).unwrap_or(usize::MAX);
        let mut at = group.end.min(room);
        let crc = match at == group.end {
            true => group.crc,
            false => sum(&memory[HEADER_BYTES..at]),
        };
        let header = self.header(at - HEADER_BYTES, &crc, true, at == group.end);
        memory[..HEADER_BYTES].copy_from_slice(&header.0);
        let memory = memory.freeze();
        let padded_to = |end: usize| end.next_multiple_of(SECTOR_BYTES);
        let first = [memory.slice(..padded_to(at))];
        self.write_block(&header.1, &first, touched).await?;
        while at < group.end {
            let room = self.in_file().min(BLOCK_MAX) - SECTOR_BYTES as u64;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let end = group.end.min(at + room);
            let crc = sum(&memory[at..end]);
            let header = self.header(end - at, &crc, false, end == group.end);
            let mut sector = segment(SECTOR_BYTES);
            sector.put_slice(&header.0);
            sector.put_bytes(0, SECTOR_BYTES - HEADER_BYTES);
            let parts = [sector.freeze(), memory.slice(at..padded_to(end))];
            self.write_block(&header.1, &parts, touched).await?;
            at = end;
        }
        Ok(Group {
            memory,
            entries: group.entries,
            end: self.position,
            number: group.number,
        })
    }

    fn in_file(&self) -> u64 {
        let file_bytes = self.files.config.file_bytes;
        file_bytes - self.position % file_bytes
    }

    fn header(
        &self,
        body_bytes: usize,
        crc: &Hasher,
        first: bool,
        last: bool,
    ) -> ([u8; HEADER_BYTES], Header) {
        let header = Header {
            opening: self.opening,
            position: self.position,
            synced: self.synced,
            body_bytes: u32::try_from(body_bytes).expect("a block is at most 1 MiB"),
            first,
            last,
            sector: !first,
        };
        (header.encode(&self.files.seed, crc), header)
    }

    async fn write_block(
        &mut self,
        header: &Header,
        parts: &[Bytes],
        touched: &mut Vec<u64>,
    ) -> Result<(), LogError> {
        let index = self.files.index(header.position);
        if touched.last() != Some(&index) {
            touched.push(index);
        }
        highwater_runtime::crash_point("wal-before-write");
        let missing = || LogError::io(&self.files.path(index), &io::ErrorKind::NotFound.into());
        let file = self.files.get(index).ok_or_else(missing)?;
        let at = header.position % self.files.config.file_bytes;
        let written = file.write_at(at, parts).await;
        written.map_err(|error| LogError::io(&self.files.path(index), &error))?;
        self.position += header.bytes();
        Ok(())
    }

    /// What a group takes on disk at most: a header more for each block, and blocks end where files do.
    fn bytes_of(&self, group: &Filling<M>) -> u64 {
        let bytes = group.end.next_multiple_of(SECTOR_BYTES) as u64;
        let blocks = bytes / (BLOCK_MAX - SECTOR_BYTES as u64) + 1;
        let files = bytes / self.files.config.file_bytes + 2;
        bytes + (blocks + files) * SECTOR_BYTES as u64
    }

    fn is_short_of(&self, bytes: u64) -> bool {
        self.position + bytes > self.files.prepared()
    }

    /// Makes room, waiting while the disk is full, also for files that are let go of: what was appended is never given up
    /// (A1) before the log is closed.
    async fn wait_for_room(&mut self, bytes: u64) -> Result<(), LogError> {
        while self.is_short_of(bytes) {
            let (floor, is_closing) = {
                let open = self.inner.open.lock();
                let open = open.unwrap_or_else(PoisonError::into_inner);
                (open.floor, open.closing)
            };
            self.files.release(floor, self.position).await?;
            if !self.is_short_of(bytes) {
                break;
            }
            match self.try_prepare(self.files.config.file_bytes).await {
                Err(full @ LogError::Full { .. }) if is_closing => return Err(full),
                Err(LogError::Full { .. }) => rest().await,
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes the room that somebody waits for.
    async fn prepare_wanted(&mut self, wanted: u64) -> Result<(), LogError> {
        while !self.full && self.position + wanted > self.files.prepared() {
            self.prepare(self.files.config.file_bytes).await?;
        }
        Ok(())
    }

    /// Whether there is less than one file ahead: a full disk is known before an append needs the room (D3).
    fn is_short(&self) -> bool {
        self.position + self.files.config.file_bytes > self.files.prepared()
    }

    /// Goes on making a file, by so many bytes. A full disk is told and is no error: it is tried again.
    async fn prepare(&mut self, bytes: u64) -> Result<(), LogError> {
        match self.try_prepare(bytes).await {
            Err(LogError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// As [`Self::prepare`], and says that the disk is full.
    async fn try_prepare(&mut self, bytes: u64) -> Result<(), LogError> {
        let first = self.files.index(self.position);
        let grown = self.files.grow(first, bytes).await;
        let was_full = std::mem::replace(&mut self.full, false);
        if let Err(error @ LogError::Full { .. }) = &grown {
            self.full = true;
            if !was_full {
                tracing::warn!(%error, "the disk is full, it is tried again");
            }
        }
        self.tell_room();
        grown
    }

    fn room(&self) -> (u64, u64) {
        let room = self.files.prepared() - self.position;
        (room, self.files.held(self.position))
    }

    fn tell_room(&self) {
        let told = (self.full, self.room());
        self.inner.state.send_if_modified(|state| {
            let before = (state.full, (state.room, state.held));
            (state.full, (state.room, state.held)) = told;
            before != told
        });
    }
}

/// A moment's rest of the writer's own thread, or of its task under simulation.
pub(crate) async fn rest() {
    const REST: std::time::Duration = std::time::Duration::from_millis(100);
    if tokio::runtime::Handle::try_current().is_ok() {
        tokio::time::sleep(REST).await;
    } else {
        #[expect(
            clippy::disallowed_methods,
            reason = "the writer's own thread has no runtime"
        )]
        std::thread::sleep(REST);
    }
}
