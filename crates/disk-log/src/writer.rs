//! The writer of a log: it alone writes and syncs, and makes and reuses files.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use crc32fast::Hasher;
use highwater_io::aligned;
use metrics::Histogram;
use tokio::time::Instant;

use crate::LogError;
use crate::block::{BLOCK_MAX, HEADER_BYTES, Header, SECTOR_BYTES, sum};
use crate::files::Files;
use crate::filling::Filling;
use crate::group::{Group, GroupReceiver};
use crate::rest::rest;
use crate::state::{Ended, Shared};

/// The bytes that one sync makes durable at most, so that the first of its groups don't wait for long.
const SYNC_BYTES_MAX: usize = 8 << 20;
/// The bytes of the next file that are made at a time while there is nothing to write.
const STEP_BYTES: u64 = 1 << 20;

pub(crate) struct Writer<M> {
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) files: Files,
    pub(crate) opening: u64,
    pub(crate) position: u64,
    pub(crate) synced: u64,
    /// Whether the last attempt to make a file failed.
    pub(crate) full: bool,
    pub(crate) sync_seconds: Histogram,
    pub(crate) receiver: Arc<dyn GroupReceiver<M>>,
}

/// What the writer does in its next round.
enum Next<M> {
    Write(Vec<Filling<M>>),
    Rest,
    End,
}

impl<M: Send + 'static> Writer<M> {
    pub(crate) async fn run(mut self) {
        let outcome = highwater_runtime::catch_panic(self.drain()).await;
        let outcome = outcome.unwrap_or_else(|reason| {
            let directory = self.files.dir().display().to_string();
            Err(LogError::Panicked { directory, reason })
        });
        let ended = match outcome {
            Ok(()) => Ended::Closed,
            Err(error) => Ended::Failed(error),
        };
        self.receiver.ended();
        self.shared
            .state
            .send_modify(|state| state.ended = Some(ended));
        self.shared.ended.send_replace(true);
    }

    /// Writes groups until the log is closed. An error ends the log: the operation is never tried again (D3).
    async fn drain(&mut self) -> Result<(), LogError> {
        loop {
            let (next, floor, requested) = self.next();
            self.files.release(floor, self.position).await?;
            self.prepare_requested(requested).await?;
            self.publish_room();
            match next {
                Next::Write(groups) => {
                    let from = self.position;
                    self.write(groups).await?;
                    if !self.full && self.is_short() {
                        // twice as fast as the log is written, so that the file is complete in time
                        self.prepare(2 * (self.position - from)).await?;
                    }
                }
                Next::End => return Ok(()),
                Next::Rest if self.full => {
                    rest().await;
                    self.prepare(STEP_BYTES).await?;
                }
                Next::Rest if self.is_short() => self.prepare(STEP_BYTES).await?,
                Next::Rest => self.shared.wake.notified().await,
            }
        }
    }

    fn next(&self) -> (Next<M>, u64, u64) {
        let mut open = self.shared.lock();
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
        let requested = match self.full {
            true => open.requested,
            false => std::mem::take(&mut open.requested),
        };
        (next, open.floor, requested)
    }

    async fn write(&mut self, groups: Vec<Filling<M>>) -> Result<(), LogError> {
        let mut touched = Vec::new();
        let mut written = Vec::with_capacity(groups.len());
        for group in groups {
            let bytes = self.disk_bytes_max(&group);
            if self.is_short_of(bytes) && !written.is_empty() {
                // the caller may trim the log once these groups are durable, which makes the room
                self.sync(&mut touched, &mut written).await?;
            }
            self.wait_for_room(bytes).await?;
            written.push(self.write_group(group, &mut touched).await?);
        }
        self.sync(&mut touched, &mut written).await
    }

    /// Syncs the files that were written, and passes the groups on.
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
        // updated before the receiver accounts for the groups' room; the waiters are woken afterwards
        self.shared.state.send_if_modified(|state| {
            (state.room, state.held) = (room, held);
            false
        });
        self.receiver.durable(std::mem::take(written));
        self.shared.state.send_modify(|state| {
            state.groups = last;
            state.end = end;
        });
        Ok(())
    }

    /// Writes one group as blocks, directly from the group's memory.
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
            let mut sector = aligned(SECTOR_BYTES);
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

    /// An upper bound of a group's size on disk: each block has a header, and no block crosses the end of a file.
    fn disk_bytes_max(&self, group: &Filling<M>) -> u64 {
        let bytes = group.end.next_multiple_of(SECTOR_BYTES) as u64;
        let blocks = bytes / (BLOCK_MAX - SECTOR_BYTES as u64) + 1;
        let files = bytes / self.files.config.file_bytes + 2;
        bytes + (blocks + files) * SECTOR_BYTES as u64
    }

    fn is_short_of(&self, bytes: u64) -> bool {
        self.position + bytes > self.files.prepared()
    }

    /// Makes room for a group. While the disk is full it waits, for space or for files that are released by a trim:
    /// appended entries are never dropped (A1) unless the log is closed.
    async fn wait_for_room(&mut self, bytes: u64) -> Result<(), LogError> {
        while self.is_short_of(bytes) {
            let (floor, is_closing) = {
                let open = self.shared.lock();
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

    /// Makes the room that a caller has requested.
    async fn prepare_requested(&mut self, requested: u64) -> Result<(), LogError> {
        while !self.full && self.position + requested > self.files.prepared() {
            self.prepare(self.files.config.file_bytes).await?;
        }
        Ok(())
    }

    /// Whether less than one file is left. The next file is made this early so that a full disk is noticed before an
    /// append needs the room (D3).
    fn is_short(&self) -> bool {
        self.position + self.files.config.file_bytes > self.files.prepared()
    }

    /// Continues making a file, by `bytes` more. A full disk is logged and published in the state; it isn't an error here,
    /// since the writer tries again.
    async fn prepare(&mut self, bytes: u64) -> Result<(), LogError> {
        match self.try_prepare(bytes).await {
            Err(LogError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// As [`Self::prepare`], but returns the error when the disk is full.
    async fn try_prepare(&mut self, bytes: u64) -> Result<(), LogError> {
        let first = self.files.index(self.position);
        let grown = self.files.grow(first, bytes).await;
        let was_full = std::mem::replace(&mut self.full, false);
        if let Err(error @ LogError::Full { .. }) = &grown {
            self.full = true;
            if !was_full {
                tracing::warn!(%error, "the disk is full, trying again until there is room");
            }
        }
        self.publish_room();
        grown
    }

    fn room(&self) -> (u64, u64) {
        let room = self.files.prepared() - self.position;
        (room, self.files.held(self.position))
    }

    fn publish_room(&self) {
        let published = (self.full, self.room());
        self.shared.state.send_if_modified(|state| {
            let before = (state.full, (state.room, state.held));
            (state.full, (state.room, state.held)) = published;
            before != published
        });
    }
}
