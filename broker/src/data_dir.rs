//! The data directory: one process at a time uses it, and it remembers its object store.
//!
//! It remembers the store in `meta.properties`, once the cluster has claimed the store. A start with another store
//! would serve a log without its older records and append at a wrong offset, so it is refused.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use highwater_io::{Device, DirLock, OpenMode};
use highwater_types::Uuid;

use crate::config::{Config, properties};
use crate::machine::Machine;
use crate::node_error::NodeError;

const FILE: &str = "meta.properties";
const STORE: &str = "highwater.object.storage";
/// The id of the directory, as in Kafka. Without it the directory is taken for a new one.
const DIRECTORY: &str = "directory.id";
/// The name of the directory itself in the file, because the directory may be moved, or be named in another way.
const HERE: &str = "file://<highwater.data.dir>/";

/// What tells a data directory from others (E2).
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    /// Its id, as in Kafka: another directory of the same node has another one.
    pub(crate) id: Uuid,
    /// Where it is: the running kernel, the file system, and its number there. A copy has the same id at another place. A
    /// reboot or another mount changes the place too. Empty if the system does not tell it.
    pub(crate) place: String,
    /// Its file system, and its number there, which nothing changes while this process has it locked; `None` if the system
    /// does not tell it.
    number: Option<(u64, u64)>,
}

impl Directory {
    /// Finds out what a directory with this id is.
    pub(crate) async fn of(device: &dyn Device, path: &Path, id: Uuid) -> Self {
        let number = device.dir_id(path).await.ok().map(|id| id.number);
        let boot = device.boot_id().await.ok();
        let place = boot
            .zip(number)
            .map(|(boot, (file_system, number))| format!("{boot}/{file_system}/{number}"));
        Self {
            id,
            place: place.unwrap_or_default(),
            number,
        }
    }

    /// Checks that the configured path still leads to this directory, which the process has locked, before a start within
    /// the process opens files there (E2).
    ///
    /// # Errors
    /// [`NodeError::Replaced`], or an error of the machine.
    pub(crate) async fn check(&self, config: &Config, machine: &Machine) -> Result<(), NodeError> {
        let Some(number) = self.number else {
            return Ok(());
        };
        match machine.device.dir_id(&config.data_dir).await {
            Ok(found) if found.number == number => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&config.data_dir, error))
            }
            _ => Err(NodeError::Replaced {
                dir: config.data_dir.display().to_string(),
            }),
        }
    }
}

/// A data directory that this process has locked.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    device: Arc<dyn Device>,
    /// The store, in the form that the file has.
    store: String,
    directory: Directory,
    remembers: bool,
    lock: DirLock,
}

impl DataDir {
    /// Locks the directory if a node has used it. Creates nothing otherwise.
    ///
    /// # Errors
    /// [`NodeError::NotUsed`], and those of [`DataDir::open`].
    pub(crate) async fn open_used(config: &Config, machine: &Machine) -> Result<Self, NodeError> {
        let file = config.data_dir.join(FILE);
        let found = machine.device.open(&file, OpenMode::Existing).await;
        match found.map(drop) {
            Ok(()) => Self::open(config, machine).await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(NodeError::NotUsed(config.data_dir.display().to_string()))
            }
            Err(error) => Err(io_error(&file, error)),
        }
    }

    /// Locks the directory, and creates it if it is missing.
    ///
    /// # Errors
    /// [`NodeError`]: another process uses it, or it belongs to another store.
    pub(crate) async fn open(config: &Config, machine: &Machine) -> Result<Self, NodeError> {
        let device = Arc::clone(&machine.device);
        let path = config.data_dir.clone();
        let error = |source| io_error(&path, source);
        device.create_dir_all(&path).await.map_err(error)?;
        let lock = match device.lock_dir(&path).await {
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => {
                return Err(NodeError::InUse(path.display().to_string()));
            }
            other => other.map_err(error)?,
        };
        let store = name_of_store(&config.object_storage.url, &path);
        let remembered = remembered(&*device, &path.join(FILE)).await;
        let remembered = remembered.map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => NodeError::Foreign(path.display().to_string()),
            _ => io_error(&path.join(FILE), source),
        })?;
        let other = remembered.as_ref().map(|(other, _)| other);
        if let Some(other) = other.filter(|other| **other != store) {
            return Err(NodeError::OtherStore {
                dir: path.display().to_string(),
                remembered: other.replace(HERE, &format!("file://{}/", path.display())),
                given: config.object_storage.url.clone(),
            });
        }
        let id = remembered.as_ref().and_then(|(_, id)| *id);
        let id = id.unwrap_or_else(|| Uuid(machine.rng.next_id()));
        let directory = Directory::of(&*device, &path, id).await;
        Ok(Self {
            path,
            device,
            store,
            remembers: remembered.is_some(),
            directory,
            lock,
        })
    }

    /// Whether it remembers the store: the cluster has claimed it, then.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Whether the store is a directory in this one, so that the lock covers it too.
    pub(crate) fn has_store(&self) -> bool {
        self.store.starts_with(HERE)
    }

    /// What tells it from others.
    pub(crate) fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Writes the store to the file durably, unless it is there already; the cluster's claim must exist by then.
    /// Returns the lock.
    ///
    /// # Errors
    /// The error of the machine.
    pub(crate) async fn remember(&self) -> Result<(), NodeError> {
        if !self.remembers {
            let path = self.path.join(FILE);
            let written = self.write(&path).await;
            written.map_err(|source| io_error(&path, source))?;
        }
        Ok(())
    }

    /// Its lock, which outlives the start.
    pub(crate) fn into_lock(self) -> DirLock {
        self.lock
    }

    async fn write(&self, path: &Path) -> io::Result<()> {
        let text = format!(
            "# Written by Highwater: the object store of this data directory. A start with another store is refused. Change\n\
             # it only while the node is stopped, and after every object was copied.\n\
             {STORE}={}\n{DIRECTORY}={}\n",
            self.store.replace('\\', "\\\\"),
            self.directory.id
        );
        let temporary = path.with_extension("new");
        match self.device.remove_file(&temporary).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.device.open(&temporary, OpenMode::CreateNew).await?;
        file.write_at(0, &[Bytes::from(text)]).await?;
        file.sync_data().await?;
        self.device.rename(&temporary, path).await?;
        self.device.sync_dir(&self.path).await
    }
}

fn io_error(path: &Path, source: io::Error) -> NodeError {
    NodeError::Io {
        path: path.display().to_string(),
        source,
    }
}

/// The store and the id of the directory that a file remembers; `None` if there is no file.
async fn remembered(
    device: &dyn Device,
    path: &Path,
) -> io::Result<Option<(String, Option<Uuid>)>> {
    let file = match device.open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let bytes = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    let text = file.read_at(0, bytes).await?;
    let text = String::from_utf8_lossy(&text);
    let properties = properties::parse(&text).unwrap_or_default();
    // Kafka has a file of this name too.
    let value = |key: &str| {
        let found = properties.iter().rev().find(|property| property.key == key);
        let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("it has no {key}"));
        found.map(|found| found.value.clone()).ok_or_else(missing)
    };
    let id = value(DIRECTORY).ok().and_then(|id| id.parse().ok());
    Ok(Some((value(STORE)?, id)))
}

/// The one name of a store, whichever way it is written.
fn name_of_store(url: &str, data_dir: &Path) -> String {
    let Some(path) = url.strip_prefix("file://") else {
        return url.trim_end_matches('/').to_owned();
    };
    // This removes doubled and trailing slashes.
    let path: PathBuf = Path::new(path).components().collect();
    match path.strip_prefix(data_dir) {
        Ok(below) => format!("{HERE}{}", below.display()),
        Err(_) => format!("file://{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_one_name_however_it_is_written() {
        let name = |url: &str| name_of_store(url, Path::new("/var/data"));
        assert_eq!(name("s3://bucket/prefix/"), "s3://bucket/prefix");
        assert_eq!(name("file:///var/data/objects"), format!("{HERE}objects"));
        assert_eq!(name("file:///var//data/objects/"), format!("{HERE}objects"));
        assert_eq!(name("file:///var/objects/"), "file:///var/objects");
    }
}
