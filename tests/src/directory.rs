//! The content of directories.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Copies a directory with its content. A copy of a data directory is what a killed process would leave.
///
/// # Errors
/// An I/O error.
pub fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let into = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_directory(&entry.path(), &into)?,
            false => std::fs::copy(entry.path(), into).map(|_| ())?,
        }
    }
    Ok(())
}

/// Lists every file below a directory. A node may work in it: files and directories that vanish meanwhile are left out.
///
/// # Errors
/// An I/O error.
pub fn files_below(dir: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in unless_gone(std::fs::read_dir(dir))?.into_iter().flatten() {
        let Some(entry) = unless_gone(entry)? else {
            continue;
        };
        match unless_gone(entry.file_type())? {
            Some(kind) if kind.is_dir() => found.extend(files_below(&entry.path())?),
            Some(_) => drop(found.insert(entry.path())),
            None => {}
        }
    }
    Ok(found)
}

fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
