//! Directories and files in their present state, and in the state after a power failure.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_io::{DirEntry, DirId};
use highwater_runtime::SeededRng;

use super::content::Content;
use super::sync_class::{self, Names, SyncClass};

pub(super) type InodeId = u64;

#[derive(Debug)]
enum Inode {
    Dir(Dir),
    File(FileNode),
}

/// A file. Pending changes may be lost, sector by sector.
#[derive(Debug, Default)]
struct FileNode {
    path: PathBuf,
    now: Content,
    durable: Content,
    pending: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    life: u64,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Bytes(u64, Bytes),
    Len(u64),
}

/// A directory. Each pending change of names may be lost, independently of the changes before it.
#[derive(Debug, Default)]
struct Dir {
    now: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
    pending: Vec<Naming>,
}

#[derive(Debug)]
struct Naming {
    life: u64,
    is_dir: bool,
    change: NameChange,
}

#[derive(Debug)]
enum NameChange {
    Put(String, InodeId),
    Remove(String),
    Rename(String, String, InodeId),
}

/// A file system.
#[derive(Debug)]
pub(super) struct Tree {
    inodes: BTreeMap<InodeId, Inode>,
    next: InodeId,
}

const ROOT: InodeId = 0;

/// How a power failure treats data that was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    /// The number of sectors out of a thousand that are kept.
    pub(super) sectors_kept: u64,
    /// The number of changes of names out of a thousand that are kept.
    pub(super) names_kept: u64,
    /// The number of bytes that are written whole or not at all.
    pub(super) sector_bytes: usize,
}

impl Failure {
    pub(super) fn draw(rng: &SeededRng) -> Self {
        let kept = || match rng.below(8) {
            0..=2 => 0,
            3 => 1000,
            4 => 900,
            5 => 100,
            _ => 500,
        };
        Self {
            sectors_kept: kept(),
            names_kept: kept(),
            sector_bytes: if rng.below(2) == 0 { 512 } else { 4096 },
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

fn name_of(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| not_found(path))
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            inodes: BTreeMap::from([(ROOT, Inode::Dir(Dir::default()))]),
            next: ROOT + 1,
        }
    }

    fn find(&self, path: &Path) -> io::Result<InodeId> {
        let mut at = ROOT;
        for part in path.components().skip(1) {
            let Some(Inode::Dir(dir)) = self.inodes.get(&at) else {
                return Err(not_found(path));
            };
            let name = part.as_os_str().to_str().unwrap_or_default();
            at = *dir.now.get(name).ok_or_else(|| not_found(path))?;
        }
        Ok(at)
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        let id = self.find(path)?;
        match self.inodes.get_mut(&id) {
            Some(Inode::Dir(dir)) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn parent(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dir(path.parent().ok_or_else(|| not_found(path))?)
    }

    fn file(&mut self, id: InodeId) -> io::Result<&mut FileNode> {
        match self.inodes.get_mut(&id) {
            Some(Inode::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<InodeId> {
        let id = self.find(path)?;
        self.file(id).map(|_| id)
    }

    fn add(&mut self, path: &Path, inode: Inode, life: u64) -> io::Result<InodeId> {
        let name = name_of(path)?;
        let id = self.next;
        let is_dir = matches!(inode, Inode::Dir(_));
        let parent = self.parent(path)?;
        if parent.now.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        parent.now.insert(name.clone(), id);
        parent.pending.push(Naming {
            life,
            is_dir,
            change: NameChange::Put(name, id),
        });
        self.inodes.insert(id, inode);
        self.next += 1;
        Ok(id)
    }

    pub(super) fn create(&mut self, path: &Path, life: u64) -> io::Result<InodeId> {
        let file = FileNode {
            path: path.to_owned(),
            ..FileNode::default()
        };
        self.add(path, Inode::File(file), life)
    }

    /// Creates one directory; returns false if it exists.
    pub(super) fn make_dir(&mut self, path: &Path, life: u64) -> io::Result<bool> {
        match self.add(path, Inode::Dir(Dir::default()), life) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|_| true),
        }
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path, life: u64) -> io::Result<()> {
        let id = self.open(from)?;
        let name = name_of(to)?;
        let parent = self.parent(to)?;
        if parent.now.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        parent.now.insert(name.clone(), id);
        parent.pending.push(Naming {
            life,
            is_dir: false,
            change: NameChange::Put(name, id),
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, life: u64) -> io::Result<()> {
        self.open(path)?;
        let name = name_of(path)?;
        let parent = self.parent(path)?;
        parent.now.remove(&name);
        parent.pending.push(Naming {
            life,
            is_dir: false,
            change: NameChange::Remove(name),
        });
        Ok(())
    }

    /// Removes a directory; returns false if it is not empty.
    pub(super) fn remove_dir(&mut self, path: &Path, life: u64) -> io::Result<bool> {
        if !self.dir(path)?.now.is_empty() {
            return Ok(false);
        }
        let name = name_of(path)?;
        let parent = self.parent(path)?;
        parent.now.remove(&name);
        parent.pending.push(Naming {
            life,
            is_dir: false,
            change: NameChange::Remove(name),
        });
        Ok(true)
    }

    pub(super) fn dir_id(&mut self, path: &Path) -> io::Result<DirId> {
        self.dir(path)?;
        let number = (0, self.find(path)?);
        Ok(DirId { number, kept: None })
    }

    /// Renames a file within its directory. Both names change together or not at all.
    pub(super) fn rename(&mut self, from: &Path, to: &Path, life: u64) -> io::Result<()> {
        let id = self.open(from)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let (old, new) = (name_of(from)?, name_of(to)?);
        let parent = self.parent(from)?;
        parent.now.remove(&old);
        parent.now.insert(new.clone(), id);
        parent.pending.push(Naming {
            life,
            is_dir: false,
            change: NameChange::Rename(old, new, id),
        });
        to.clone_into(&mut self.file(id)?.path);
        Ok(())
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.dir(path)?.now.clone();
        let entry = |(name, id): (String, InodeId)| {
            let bytes = match self.inodes.get(&id) {
                Some(Inode::File(file)) => Some(file.now.len()),
                _ => None,
            };
            DirEntry {
                path: path.join(name),
                is_dir: bytes.is_none(),
                bytes: bytes.unwrap_or(0),
            }
        };
        Ok(names.into_iter().map(entry).collect())
    }

    pub(super) fn len(&mut self, id: InodeId) -> io::Result<u64> {
        Ok(self.file(id)?.now.len())
    }

    pub(super) fn read(&mut self, id: InodeId, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = self.file(id)?.now.read(offset, len);
        read.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(super) fn write(
        &mut self,
        id: InodeId,
        offset: u64,
        bytes: Bytes,
        life: u64,
    ) -> io::Result<()> {
        let file = self.file(id)?;
        file.now.write(offset, &bytes);
        let change = Change::Bytes(offset, bytes);
        file.pending.push(Write { life, change });
        Ok(())
    }

    pub(super) fn set_len(&mut self, id: InodeId, bytes: u64, life: u64) -> io::Result<()> {
        let file = self.file(id)?;
        file.now.set_len(bytes);
        let change = Change::Len(bytes);
        file.pending.push(Write { life, change });
        Ok(())
    }

    pub(super) fn path(&mut self, id: InodeId) -> PathBuf {
        let file = self.file(id);
        file.map(|file| file.path.clone()).unwrap_or_default()
    }

    /// The class of a sync of this file now, or `None` if there is nothing to sync.
    pub(super) fn class_of_file(&mut self, id: InodeId, life: u64) -> Option<SyncClass> {
        let file = self.file(id).ok()?;
        if file.pending.is_empty() {
            return None;
        }
        Some(SyncClass {
            of: sync_class::file_target(&file.path),
            inherited: file.pending.iter().all(|write| write.life < life),
        })
    }

    pub(super) fn sync_file(&mut self, id: InodeId) -> io::Result<()> {
        let file = self.file(id)?;
        let FileNode { now, durable, .. } = file;
        for write in file.pending.drain(..) {
            match write.change {
                Change::Bytes(offset, bytes) => durable.adopt(now, offset, bytes.len()),
                Change::Len(_) => *durable = now.clone(),
            }
        }
        Ok(())
    }

    /// Does the same as [`Tree::class_of_file`] for a directory.
    pub(super) fn class_of_dir(&mut self, path: &Path, life: u64) -> io::Result<Option<SyncClass>> {
        let dir = self.dir(path)?;
        if dir.pending.is_empty() {
            return Ok(None);
        }
        let mut names = Names::default();
        for naming in &dir.pending {
            names.directories |= naming.is_dir;
            names.files |= !matches!(naming.change, NameChange::Remove(_)) && !naming.is_dir;
        }
        Ok(Some(SyncClass {
            of: sync_class::directory_target(path, names),
            inherited: dir.pending.iter().all(|naming| naming.life < life),
        }))
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        dir.durable = dir.now.clone();
        dir.pending.clear();
        Ok(())
    }

    /// Changes a byte of a file in place, as a disk with bit rot would.
    pub(super) fn rot(&mut self, id: InodeId, offset: u64) -> io::Result<()> {
        let byte = self.read(id, offset, 1)?;
        let file = self.file(id)?;
        for content in [&mut file.now, &mut file.durable] {
            content.write(offset, &[byte[0] ^ 0x40]);
        }
        Ok(())
    }

    /// Applies a power failure: of the data that was not synced, only a random part remains.
    pub(super) fn fail(&mut self, failure: Failure, rng: &SeededRng) {
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => file.fail(failure, rng),
                Inode::Dir(dir) => dir.fail(failure, rng),
            }
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut left = vec![ROOT];
        while let Some(id) = left.pop() {
            if let Some(Inode::Dir(dir)) = self.inodes.get(&id) {
                left.extend(dir.now.values().filter(|id| reached.insert(**id)));
            }
        }
        self.inodes.retain(|id, _| reached.contains(id));
    }
}

impl FileNode {
    fn fail(&mut self, failure: Failure, rng: &SeededRng) {
        let is_kept = || rng.below(1000) < failure.sectors_kept;
        for write in self.pending.drain(..) {
            match write.change {
                Change::Len(bytes) if is_kept() => self.durable.set_len(bytes),
                Change::Len(_) => {}
                // There is nothing to choose, and drawing random numbers would cost more than everything else.
                Change::Bytes(..) if failure.sectors_kept == 0 => {}
                Change::Bytes(offset, bytes) => {
                    let sector = failure.sector_bytes as u64;
                    let mut at = 0;
                    while at < bytes.len() {
                        let place = offset + at as u64;
                        let room = usize::try_from(sector - place % sector).unwrap_or(1);
                        let end = (at + room).min(bytes.len());
                        if is_kept() {
                            self.durable.write(place, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        self.now = self.durable.clone();
    }
}

impl Dir {
    fn fail(&mut self, failure: Failure, rng: &SeededRng) {
        for naming in self.pending.drain(..) {
            if rng.below(1000) >= failure.names_kept {
                continue;
            }
            match naming.change {
                NameChange::Put(name, id) => drop(self.durable.insert(name, id)),
                NameChange::Remove(name) => drop(self.durable.remove(&name)),
                NameChange::Rename(old, new, id) => {
                    if self.durable.get(&old) == Some(&id) {
                        self.durable.remove(&old);
                    }
                    self.durable.insert(new, id);
                }
            }
        }
        self.now = self.durable.clone();
    }
}
