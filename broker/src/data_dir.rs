//! The data directory: one process has it, and it remembers where its objects are.
//!
//! What it remembers stands in `meta.properties` from the cluster's claim on the store on. A start that names another store
//! would serve a log without its older records and write on at the wrong place, so it is refused.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use highwater_io::{Device, DirLock, OpenMode};
use highwater_object_storage::Claim;

use crate::config::{Config, properties};
use crate::node_error::NodeError;

const FILE: &str = "meta.properties";
const STORE: &str = "highwater.object.storage";
/// Stands for the directory itself in what it remembers: it may be moved, or be named in another way.
const HERE: &str = "file://<highwater.data.dir>/";

/// A data directory that this process has.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    device: Arc<dyn Device>,
    /// The store, as the file has it.
    store: String,
    remembers: bool,
    lock: DirLock,
}

impl DataDir {
    /// Takes the directory, making it if it is not there.
    ///
    /// # Errors
    /// [`NodeError`]: another process has it, or it keeps its objects in another store.
    pub(crate) async fn open(config: &Config, device: Arc<dyn Device>) -> Result<Self, NodeError> {
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
        if let Some(other) = remembered.as_ref().filter(|other| **other != store) {
            return Err(NodeError::OtherStore {
                dir: path.display().to_string(),
                remembered: other.replace(HERE, &format!("file://{}/", path.display())),
                given: config.object_storage.url.clone(),
            });
        }
        Ok(Self {
            path,
            device,
            store,
            remembers: remembered.is_some(),
            lock,
        })
    }

    /// What is known of the cluster's claim on its store.
    pub(crate) fn claim(&self) -> Claim {
        match self.remembers {
            true => Claim::Expect,
            false => Claim::Make,
        }
    }

    /// Remembers the store, durably, where it does not yet: the cluster's claim stands there. Answers the lock.
    ///
    /// # Errors
    /// The machine's.
    pub(crate) async fn remember(self) -> Result<DirLock, NodeError> {
        if !self.remembers {
            let path = self.path.join(FILE);
            let written = self.write(&path).await;
            written.map_err(|source| io_error(&path, source))?;
        }
        Ok(self.lock)
    }

    async fn write(&self, path: &Path) -> io::Result<()> {
        let text = format!(
            "# Written by Highwater: where the objects of this data directory are. A start that names another store is\n\
             # refused. Change it only after every object was copied, with the node stopped.\n\
             {STORE}={}\n",
            self.store.replace('\\', "\\\\")
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

/// The store that a file remembers; `None` where there is no file.
async fn remembered(device: &dyn Device, path: &Path) -> io::Result<Option<String>> {
    let file = match device.open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let bytes = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    let text = file.read_at(0, bytes).await?;
    let text = String::from_utf8_lossy(&text);
    let found = properties::parse(&text).unwrap_or_default().into_iter();
    let found = found.rev().find(|property| property.key == STORE);
    // Kafka has a file of this name too
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("it has no {STORE}"));
    Ok(Some(found.ok_or_else(missing)?.value))
}

/// One name for a store, however it is written.
fn name_of_store(url: &str, data_dir: &Path) -> String {
    let Some(path) = url.strip_prefix("file://") else {
        return url.trim_end_matches('/').to_owned();
    };
    // without doubled and trailing slashes
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
