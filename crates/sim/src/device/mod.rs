//! A device in memory that a power failure leaves as a real one would: writes that were not synced are lost, torn or
//! reordered.
//!
//! - A write is durable once its file is synced. Before that, a power failure keeps or loses each of its sectors (of
//!   512 bytes or 4 KiB), as the seed decides, independently of earlier writes. The same is true of a file's length.
//! - A change of a name (created, linked, renamed, removed) is durable once its directory is synced. Before that, a
//!   power failure keeps or loses each change on its own.
//! - A killed process loses nothing that it wrote: the next process finds it, synced or not.
//! - The device can lie: it answers syncs of one class without doing them.
//! - The device can be in trouble for a time: it is full, or its part for the object store does not answer.

mod content;
mod sync_class;
mod tree;
mod trouble;

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use highwater_io::{Device, DirEntry, DirId, DirLock, File, OpenMode};
use highwater_runtime::SeededRng;
pub use sync_class::{SyncClass, Synced};

use crate::Trace;
use tree::{Failure, InodeId, Tree};
pub use trouble::Trouble;

/// A disk, which outlives the processes that use it. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    rng: SeededRng,
    trace: Trace,
    mount: Option<(PathBuf, Disk)>,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    /// The number of the process that uses the disk now.
    life: u64,
    /// The locked directories, with the disk whose process locked each.
    locks: BTreeMap<PathBuf, usize>,
    operations: u64,
    /// The operation that does not happen any more, nor any after it in this life.
    dies_at: Option<u64>,
    is_dead: bool,
    trouble: Option<Trouble>,
    /// Whether the disk was in trouble while the present process used it.
    was_troubled: bool,
    lie: Option<SyncClass>,
    syncs: BTreeMap<SyncClass, u64>,
    lies: u64,
}

/// What happens to a process's last operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies and the machine goes on, so nothing that was written is lost.
    Process,
    /// The power of the machine fails.
    Power,
}

impl Disk {
    /// Creates an empty disk; `lie` is the class of syncs that it answers without doing them.
    #[must_use]
    pub fn new(rng: SeededRng, trace: Trace, lie: Option<SyncClass>) -> Self {
        Self::make(rng, trace, lie, None)
    }

    /// Creates an empty disk on which another disk is mounted at a path, as a file server is. Processes with several
    /// disks share the mounted one, and a power failure of this disk leaves it as it is. Operations on the mounted disk
    /// count as operations of this disk, and a trouble of this disk extends to it.
    #[must_use]
    pub fn with_mount(
        rng: SeededRng,
        trace: Trace,
        lie: Option<SyncClass>,
        (path, other): (&Path, &Self),
    ) -> Self {
        Self::make(rng, trace, lie, Some((path.to_owned(), other.clone())))
    }

    fn make(
        rng: SeededRng,
        trace: Trace,
        lie: Option<SyncClass>,
        mount: Option<(PathBuf, Self)>,
    ) -> Self {
        let state = State {
            tree: Tree::new(),
            life: 0,
            locks: BTreeMap::new(),
            operations: 0,
            dies_at: None,
            is_dead: false,
            trouble: None,
            was_troubled: false,
            lie,
            syncs: BTreeMap::new(),
            lies: 0,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            rng,
            trace,
            mount,
        }))
    }

    /// The disk that holds a path.
    fn holder(&self, path: &Path) -> &Self {
        let mount = self.0.mount.as_ref();
        let mount = mount.filter(|(below, _)| path.starts_with(below));
        mount.map_or(self, |(_, other)| other)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device for the next process.
    #[must_use]
    pub fn boot(&self) -> SimDevice {
        let state = self.lock();
        SimDevice {
            disk: self.clone(),
            life: state.life,
        }
    }

    /// Lets the present process hang at its `count`-th operation from now on, so that it can be crashed at this point.
    pub fn die_in(&self, count: u64) {
        let mut state = self.lock();
        state.dies_at = Some(state.operations + count);
    }

    /// Returns whether the process hangs.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// Sets the trouble of the disk from now on.
    pub fn befalls(&self, trouble: Option<Trouble>) {
        let mut state = self.lock();
        if state.trouble != trouble {
            self.0.trace.event(&format_args!("trouble {trouble:?}"));
            state.trouble = trouble;
            state.was_troubled |= trouble.is_some();
        }
    }

    /// Returns whether the disk was in trouble while the present process used it.
    #[must_use]
    pub fn was_troubled(&self) -> bool {
        self.lock().was_troubled
    }

    /// Ends the use of the disk by the present process.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.lock();
        // Later operations of the ended process have no effect.
        state.life += 1;
        state.dies_at = None;
        state.is_dead = false;
        state.was_troubled = state.trouble.is_some();
        self.0.trace.event(&format_args!(
            "crash {crash:?} at operation {}",
            state.operations
        ));
        if crash == Crash::Power {
            let failure = Failure::draw(&self.0.rng);
            state.tree.fail(failure, &self.0.rng);
        }
        drop(state);
        let mounted = self.0.mount.iter().map(|(_, other)| other);
        for disk in mounted.chain([self]) {
            let own = self.number();
            disk.lock().locks.retain(|_, owner| *owner != own);
        }
    }

    /// Deletes everything on the disk, between two processes.
    pub(crate) fn wipe(&self) {
        self.lock().tree = Tree::new();
        self.0.trace.event(&format_args!("wiped"));
    }

    /// A number that no other disk has.
    fn number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The number of operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The number of syncs that had something to do, by class.
    #[must_use]
    pub fn syncs(&self) -> BTreeMap<SyncClass, u64> {
        self.lock().syncs.clone()
    }

    /// The number of syncs that were answered without being done.
    #[must_use]
    pub fn lies(&self) -> u64 {
        self.lock().lies
    }

    /// Changes one byte of a file.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `UnexpectedEof` past its end.
    pub fn rot(&self, path: &Path, offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.tree.open(path)?;
        state.tree.rot(id, offset)
    }

    fn event(&self, what: &fmt::Arguments<'_>) {
        self.0.trace.event(what);
    }
}

/// The disk as one process sees it.
#[derive(Debug, Clone)]
pub struct SimDevice {
    disk: Disk,
    life: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Name,
    Write,
    Sync,
}

/// The interval at which a stalled operation checks whether it may go on.
const STALLED: Duration = Duration::from_millis(5);

/// The turn of one operation, during which no other operation runs.
struct Turn<'a> {
    /// The state of the disk that holds the path.
    state: MutexGuard<'a, State>,
    /// The trouble of the disk that the process uses.
    trouble: Option<Trouble>,
}

impl Turn<'_> {
    fn is_full(&self, path: &Path) -> bool {
        self.trouble.is_some_and(|trouble| trouble.is_full(path))
    }

    /// Returns an error if there is no room for a file of this length.
    fn room(&mut self, id: InodeId, bytes: u64) -> io::Result<()> {
        let path = self.state.tree.path(id);
        match self.is_full(&path) && bytes > self.state.tree.len(id)? {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl SimDevice {
    /// Waits as long as a device would, and for ever once the process hangs.
    async fn turn(&self, kind: Kind, path: &Path) -> Turn<'_> {
        let wait = {
            let mut state = self.disk.lock();
            state.operations += 1;
            if state.dies_at == Some(state.operations) {
                state.is_dead = true;
            }
            let trouble = state
                .trouble
                .filter(|_| matches!(kind, Kind::Write | Kind::Sync));
            (!self.is_over(&state)).then(|| {
                let late = trouble.map_or(0, |it| it.lateness_ms(path, &self.disk.0.rng));
                self.latency(kind) + Duration::from_millis(late)
            })
        };
        match wait {
            None => pending().await,
            Some(Duration::ZERO) => {}
            Some(wait) => tokio::time::sleep(wait).await,
        }
        loop {
            let stalls = {
                let state = self.disk.lock();
                let trouble = state.trouble.filter(|_| !self.is_over(&state));
                trouble.is_some_and(|trouble| trouble.stalls(path, kind != Kind::Read))
            };
            if !stalls {
                break;
            }
            tokio::time::sleep(STALLED).await;
        }
        let (is_over, trouble) = {
            let state = self.disk.lock();
            (self.is_over(&state), state.trouble)
        };
        if is_over {
            pending::<()>().await;
        }
        Turn {
            state: self.disk.holder(path).lock(),
            trouble,
        }
    }

    fn is_over(&self, state: &State) -> bool {
        state.is_dead || state.life != self.life
    }

    fn latency(&self, kind: Kind) -> Duration {
        let rng = &self.disk.0.rng;
        let ms = match kind {
            Kind::Read | Kind::Name => 0,
            Kind::Write => u64::from(rng.below(16) == 0),
            Kind::Sync => match rng.below(16) {
                0 => rng.below(40),
                1..=4 => 0,
                _ => rng.below(3),
            },
        };
        Duration::from_millis(ms)
    }

    /// Returns whether a sync of this class must be done.
    fn is_honest(state: &mut State, class: Option<SyncClass>) -> bool {
        let Some(class) = class else { return true };
        *state.syncs.entry(class).or_default() += 1;
        let lies = state.lie == Some(class);
        state.lies += u64::from(lies);
        !lies
    }

    fn done<T>(&self, what: &str, path: &Path, result: io::Result<T>) -> io::Result<T> {
        let outcome = result.as_ref().err().map(io::Error::kind);
        self.disk
            .event(&format_args!("{what} {} {outcome:?}", path.display()));
        result
    }
}

fn sync_dir(state: &mut State, path: &Path, life: u64) -> io::Result<()> {
    let class = state.tree.class_of_dir(path, life)?;
    if SimDevice::is_honest(state, class) {
        state.tree.sync_dir(path)?;
    }
    Ok(())
}

#[async_trait]
impl Device for SimDevice {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let opened = {
            let kind = match mode {
                OpenMode::Existing => Kind::Read,
                OpenMode::CreateNew => Kind::Name,
            };
            let mut state = self.turn(kind, path).await.state;
            match mode {
                OpenMode::Existing => state.tree.open(path),
                OpenMode::CreateNew => state.tree.create(path, self.life),
            }
        };
        let id = self.done("open", path, opened)?;
        Ok(Arc::new(SimFile {
            device: self.clone(),
            holder: self.disk.holder(path).clone(),
            id,
        }))
    }

    async fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let mut turn = self.turn(Kind::Name, path).await;
        let made = match turn.is_full(path) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => turn.state.tree.make_dir(path, self.life),
        };
        drop(turn);
        self.done("create_dir", path, made)
    }

    async fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.turn(Kind::Name, to).await.state;
        let linked = state.tree.link(from, to, self.life);
        drop(state);
        self.done("link", to, linked)
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.turn(Kind::Name, path).await.state;
        let removed = state.tree.remove(path, self.life);
        drop(state);
        self.done("remove", path, removed)
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.turn(Kind::Name, path).await.state;
        let removed = state.tree.remove_dir(path, self.life);
        drop(state);
        self.done("remove_dir", path, removed)
    }

    async fn dir_id(&self, path: &Path) -> io::Result<DirId> {
        let found = self.turn(Kind::Read, path).await.state.tree.dir_id(path);
        self.done("dir_id", path, found)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.turn(Kind::Name, to).await.state;
        let renamed = state.tree.rename(from, to, self.life);
        drop(state);
        self.done("rename", to, renamed)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut turn = self.turn(Kind::Sync, path).await;
        let synced = sync_dir(&mut turn.state, path, self.life);
        drop(turn);
        self.done("sync_dir", path, synced)
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let listed = self.turn(Kind::Read, path).await.state.tree.list(path);
        self.done("list_dir", path, listed)
    }

    async fn lock_dir(&self, path: &Path) -> io::Result<DirLock> {
        let mut turn = self.turn(Kind::Name, path).await;
        let is_free = !turn.state.locks.contains_key(path);
        if is_free {
            let owner = self.disk.number();
            turn.state.locks.insert(path.to_owned(), owner);
        }
        drop(turn);
        let lock = || Lock {
            device: self.clone(),
            path: path.to_owned(),
        };
        let locked = match is_free {
            true => Ok(DirLock(Box::new(lock()))),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        self.done("lock_dir", path, locked)
    }

    async fn bytes_free(&self, path: &Path) -> io::Result<u64> {
        let trouble = self.disk.lock().trouble;
        let is_full = trouble.is_some_and(|trouble| trouble.is_full(path));
        Ok(if is_full { 0 } else { 1 << 40 })
    }

    async fn machine_id(&self) -> io::Result<String> {
        Ok("simulated".to_owned())
    }

    async fn boot_id(&self) -> io::Result<String> {
        Ok("simulated".to_owned())
    }
}

struct Lock {
    device: SimDevice,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let disk = &self.device.disk;
        if disk.lock().life == self.device.life {
            disk.holder(&self.path).lock().locks.remove(&self.path);
        }
    }
}

struct SimFile {
    device: SimDevice,
    /// The disk that holds the path.
    holder: Disk,
    id: InodeId,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.id)
    }
}

impl SimFile {
    fn path(&self) -> PathBuf {
        self.holder.lock().tree.path(self.id)
    }

    async fn turn(&self, kind: Kind) -> Turn<'_> {
        self.device.turn(kind, &self.path()).await
    }

    fn done<T>(&self, what: &fmt::Arguments<'_>, result: io::Result<T>) -> io::Result<T> {
        let path = self.path();
        self.device.done(&what.to_string(), &path, result)
    }
}

#[async_trait]
impl File for SimFile {
    async fn len(&self) -> io::Result<u64> {
        let len = self.turn(Kind::Read).await.state.tree.len(self.id);
        self.done(&format_args!("len"), len)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut turn = self.turn(Kind::Read).await;
        let read = turn.state.tree.read(self.id, offset, len);
        drop(turn);
        self.done(&format_args!("read {offset}+{len}"), read)
    }

    async fn write_at(&self, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        let bytes = match parts {
            [one] => one.clone(),
            many => {
                let mut joined = BytesMut::new();
                many.iter().for_each(|part| joined.extend_from_slice(part));
                joined.freeze()
            }
        };
        let crc = crc32fast::hash(&bytes);
        let len = bytes.len();
        let life = self.device.life;
        let mut turn = self.turn(Kind::Write).await;
        let room = turn.room(self.id, offset + len as u64);
        let written = room.and_then(|()| turn.state.tree.write(self.id, offset, bytes, life));
        drop(turn);
        self.done(&format_args!("write {offset}+{len} {crc:08x}"), written)
    }

    async fn sync_data(&self) -> io::Result<()> {
        let mut state = self.turn(Kind::Sync).await.state;
        let life = self.device.life;
        let class = state.tree.class_of_file(self.id, life);
        let synced = match SimDevice::is_honest(&mut state, class) {
            true => state.tree.sync_file(self.id),
            false => Ok(()),
        };
        drop(state);
        self.done(&format_args!("sync"), synced)
    }

    async fn set_len(&self, bytes: u64) -> io::Result<()> {
        let life = self.device.life;
        let mut turn = self.turn(Kind::Write).await;
        let room = turn.room(self.id, bytes);
        let set = room.and_then(|()| turn.state.tree.set_len(self.id, bytes, life));
        drop(turn);
        self.done(&format_args!("set_len {bytes}"), set)
    }
}
