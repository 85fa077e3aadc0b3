//! The open log: appends gather, one writer drains.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use highwater_io::Threads;
use tokio::sync::{Notify, watch};

use crate::block::{ALIGN, BLOCK_MAX, HEADER_BYTES, Header, padded};
use crate::files::Files;
use crate::group::{Group, GroupSink};
use crate::{LogError, Recovery};

/// Where an appended entry will be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The number of its group, from 1.
    pub group: u64,
}

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
    /// Whether the disk has no room for the next file.
    pub full: bool,
    /// Bytes that still fit into files that are there.
    pub room: u64,
}

impl PartialEq for LogError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for LogError {}

struct Open<M> {
    body: BytesMut,
    entries: Vec<(Range<usize>, M)>,
    group: u64,
    closing: bool,
    floor: u64,
}

/// The first capacity of a group's buffer.
const GROUP_BYTES: usize = 64 << 10;

impl<M: Send + 'static> DiskLog<M> {
    /// Goes on at the end of a log that was read back whole, under a new opening number.
    ///
    /// # Panics
    /// When `opening` is not above every earlier one.
    #[must_use]
    pub fn start(
        recovery: Recovery,
        opening: u64,
        threads: &dyn Threads,
        name: &'static str,
        sink: Arc<dyn GroupSink<M>>,
    ) -> Self {
        assert!(opening > recovery.opening, "opening numbers grow");
        let end = recovery.end;
        let room = recovery.files.prepared() - end;
        let inner = Arc::new(Inner {
            open: Mutex::new(Open {
                body: BytesMut::new(),
                entries: Vec::new(),
                group: 1,
                closing: false,
                floor: recovery.files.first_position(),
            }),
            wake: Notify::new(),
            state: watch::Sender::new(State {
                groups: 0,
                end,
                ended: None,
                full: false,
                room,
            }),
        });
        let writer = Writer {
            inner: Arc::clone(&inner),
            files: recovery.files,
            opening,
            position: end,
            synced: end,
            sink,
        };
        threads.spawn(name, Box::pin(writer.run()));
        Self(inner)
    }

    /// Appends one entry, copying its parts into the open group; never waits. The entry is durable when
    /// [`State::groups`] reaches its group.
    pub fn append(&self, parts: &[&[u8]], meta: M) -> Appended {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let from = open.body.len();
        if open.body.capacity() == 0 {
            open.body.reserve(GROUP_BYTES);
        }
        for part in parts {
            open.body.put_slice(part);
        }
        let range = from..open.body.len();
        open.entries.push((range, meta));
        let appended = Appended { group: open.group };
        let first = open.entries.len() == 1;
        drop(open);
        if first {
            self.0.wake.notify_one();
        }
        appended
    }

    /// What the writer has done, and a watch of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Lets go of what lies below a position; soon, and not durably.
    pub fn trim(&self, floor: u64) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.floor = open.floor.max(floor);
        drop(open);
        self.0.wake.notify_one();
    }

    /// Makes what was appended durable and ends the log.
    ///
    /// # Errors
    /// What the writer ended with.
    pub async fn shutdown(&self) -> Result<(), LogError> {
        self.0
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closing = true;
        self.0.wake.notify_one();
        let mut state = self.state();
        let ended = state.wait_for(|state| state.ended.is_some()).await;
        match ended.ok().and_then(|state| state.ended.clone()).flatten() {
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
    sink: Arc<dyn GroupSink<M>>,
}

struct Cut<M> {
    body: Bytes,
    entries: Vec<(Range<usize>, M)>,
    group: u64,
}

impl<M: Send + 'static> Writer<M> {
    async fn run(mut self) {
        let outcome = self.drain().await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "log ended");
        }
        let error = outcome.err();
        self.sink.ended();
        self.inner
            .state
            .send_modify(|state| state.ended = Some(error));
    }

    /// Writes groups until the log is closed. An error ends it and is never tried again (D3).
    async fn drain(&mut self) -> Result<(), LogError> {
        loop {
            let (cut, floor, closing) = self.cut();
            match cut {
                Some(cut) => self.write(cut).await?,
                None if closing => return Ok(()),
                None => {
                    self.prepare_ahead().await;
                    self.files.release(floor, self.position).await?;
                    self.tell_room();
                    self.inner.wake.notified().await;
                }
            }
        }
    }

    fn cut(&self) -> (Option<Cut<M>>, u64, bool) {
        let mut open = self
            .inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let floor = open.floor;
        if open.entries.is_empty() {
            return (None, floor, open.closing);
        }
        let body = std::mem::take(&mut open.body).freeze();
        let entries = std::mem::take(&mut open.entries);
        let group = open.group;
        open.group += 1;
        (
            Some(Cut {
                body,
                entries,
                group,
            }),
            floor,
            false,
        )
    }

    async fn write(&mut self, cut: Cut<M>) -> Result<(), LogError> {
        let mut touched = Vec::new();
        let mut left = cut.body.clone();
        let mut first = true;
        let file_bytes = self.files.config.file_bytes;
        while !left.is_empty() {
            self.ensure_file().await;
            let in_file = file_bytes - self.position % file_bytes;
            let room = in_file.min(BLOCK_MAX) - HEADER_BYTES as u64;
            let take = left.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let body = left.split_to(take);
            let header = Header {
                opening: self.opening,
                position: self.position,
                synced: self.synced,
                body_bytes: u32::try_from(take).expect("a block is at most 1 MiB"),
                first,
                last: left.is_empty(),
            };
            first = false;
            self.write_block(&header, body, &mut touched).await?;
            self.position += header.bytes();
        }
        highwater_runtime::crash_point("wal-after-write");
        for index in touched {
            let Some(file) = self.files.get(index) else {
                continue;
            };
            let synced = file.sync_data().await;
            synced.map_err(|error| LogError::io(&self.files.path(index), &error))?;
        }
        highwater_runtime::crash_point("wal-after-sync");
        self.synced = self.position;
        let (end, group) = (self.position, cut.group);
        self.sink.durable(Group {
            body: cut.body,
            entries: cut.entries,
            end,
            number: group,
        });
        let room = self.files.prepared() - self.position;
        self.inner.state.send_modify(|state| {
            state.groups = group;
            state.end = end;
            state.room = room;
        });
        Ok(())
    }

    async fn write_block(
        &self,
        header: &Header,
        body: Bytes,
        touched: &mut Vec<u64>,
    ) -> Result<(), LogError> {
        let index = self.files.index(header.position);
        if touched.last() != Some(&index) {
            touched.push(index);
        }
        let encoded = header.encode(&body);
        let used = (encoded.len() + body.len()) as u64;
        let padding = usize::try_from(padded(used) - used).unwrap_or_default();
        let parts = [encoded, body, Bytes::from_static(&ZEROES[..padding])];
        highwater_runtime::crash_point("wal-before-write");
        let path = self.files.path(index);
        let missing = || LogError::io(&path, &std::io::ErrorKind::NotFound.into());
        let file = self.files.get(index).ok_or_else(missing)?;
        let written = file
            .write_at(header.position % self.files.config.file_bytes, &parts)
            .await;
        written.map_err(|error| LogError::io(&path, &error))
    }

    /// Makes the file of the next block, waiting while the disk is full: what was appended is never given up (A1).
    async fn ensure_file(&mut self) {
        while self.position >= self.files.prepared() {
            self.prepare().await;
        }
    }

    /// Keeps one file ahead, so that a full disk is known before an append needs the room (D3).
    async fn prepare_ahead(&mut self) {
        let ahead = self.files.config.file_bytes;
        if self.position + ahead > self.files.prepared() && self.position > 0 {
            self.prepare().await;
        }
    }

    async fn prepare(&mut self) {
        let first = self.files.index(self.position);
        let grown = self.files.grow(first).await;
        let full = grown.is_err();
        if let Err(error) = grown {
            tracing::warn!(%error, "no room for another file of the log");
            rest().await;
        }
        self.inner
            .state
            .send_if_modified(|state| std::mem::replace(&mut state.full, full) != full);
    }

    fn tell_room(&self) {
        let room = self.files.prepared() - self.position;
        self.inner
            .state
            .send_if_modified(|state| std::mem::replace(&mut state.room, room) != room);
    }
}

static ZEROES: [u8; 4096] = [0; 4096];
const _: () = assert!(ZEROES.len() as u64 == ALIGN);

/// A moment's rest of the writer's own thread, or of its task under simulation.
async fn rest() {
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
