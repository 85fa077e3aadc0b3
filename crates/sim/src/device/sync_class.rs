//! The classes of the program's syncs. The class follows from the path and from the data that the sync would make
//! durable.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The kind of data or names that a sync makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Synced {
    /// Blocks of the write-ahead log.
    WalFile,
    /// Zeroes of a new file of the write-ahead log.
    WalFill,
    /// Names of files of the write-ahead log.
    WalDir,
    /// Blocks of the Raft log: votes, entries, truncations.
    RaftFile,
    /// Zeroes of a new file of the Raft log.
    RaftFill,
    /// Names of files of the Raft log.
    RaftDir,
    /// The metadata's snapshot before it gets its name.
    SnapshotFile,
    /// The name of the metadata's snapshot.
    SnapshotDir,
    /// An object before it gets its name.
    ObjectFile,
    /// The name of an object.
    ObjectDir,
    /// The removal of an object's name.
    ObjectRemoval,
    /// Names of directories of objects.
    ObjectParents,
    /// Names of directories in the data directory, and its own name.
    DataParents,
}

/// One class of syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SyncClass {
    /// The kind of data or names.
    pub of: Synced,
    /// Whether all of it was written by an earlier process, which ended before its own sync.
    pub inherited: bool,
}

const NAMES: &[(Synced, &str)] = &[
    (Synced::WalFile, "wal-file"),
    (Synced::WalFill, "wal-fill"),
    (Synced::WalDir, "wal-dir"),
    (Synced::RaftFile, "raft-file"),
    (Synced::RaftFill, "raft-fill"),
    (Synced::RaftDir, "raft-dir"),
    (Synced::SnapshotFile, "snapshot-file"),
    (Synced::SnapshotDir, "snapshot-dir"),
    (Synced::ObjectFile, "object-file"),
    (Synced::ObjectDir, "object-dir"),
    (Synced::ObjectRemoval, "object-removal"),
    (Synced::ObjectParents, "object-parents"),
    (Synced::DataParents, "data-parents"),
];

const INHERITED: &str = "inherited-";

impl SyncClass {
    /// Every class.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = |of| [false, true].map(|inherited| Self { of, inherited });
        NAMES.iter().flat_map(move |(of, _)| both(*of))
    }
}

impl fmt::Display for SyncClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(of, _)| *of == self.of);
        let inherited = if self.inherited { INHERITED } else { "" };
        write!(f, "{inherited}{}", name.map_or("", |(_, name)| name))
    }
}

impl FromStr for SyncClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::all().find(|class| class.to_string() == text);
        found.ok_or_else(|| {
            let all: Vec<String> = Self::all().map(|class| class.to_string()).collect();
            format!("not a class of syncs; there are {}", all.join(", "))
        })
    }
}

/// The kinds of names that a sync of a directory would make durable.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Names {
    pub(super) directories: bool,
    pub(super) files: bool,
}

/// The target of a file's sync.
pub(super) fn file_target(path: &Path) -> Synced {
    let is_new = path.extension().is_some_and(|extension| extension == "new");
    if path.starts_with("/objects") {
        return Synced::ObjectFile;
    }
    match (path.starts_with("/data/wal"), is_new) {
        (true, true) => Synced::WalFill,
        (true, false) => Synced::WalFile,
        (false, _) if path.parent() == Some(Path::new("/data/metadata")) => Synced::SnapshotFile,
        (false, true) => Synced::RaftFill,
        (false, false) => Synced::RaftFile,
    }
}

/// The target of a directory's sync.
pub(super) fn directory_target(path: &Path, names: Names) -> Synced {
    if path.starts_with("/objects") {
        return match names {
            Names { files: true, .. } => Synced::ObjectDir,
            Names {
                directories: true, ..
            } => Synced::ObjectParents,
            Names { .. } => Synced::ObjectRemoval,
        };
    }
    if names.directories {
        return Synced::DataParents;
    }
    if path.starts_with("/data/wal") {
        Synced::WalDir
    } else if path.starts_with("/data/metadata/log") {
        Synced::RaftDir
    } else {
        Synced::SnapshotDir
    }
}
