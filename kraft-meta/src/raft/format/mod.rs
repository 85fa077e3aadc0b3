//! The number of the format of the log and the snapshot, in a file of its own beside them. A start reads it first, so
//! that the data directory of another release is refused before anything in it is misread.

use std::io;
use std::path::Path;

use bytes::Bytes;
use highwater_io::{Device, OpenMode, is_full};
use highwater_types::{ClusterId, NodeId, Uuid};

use crate::OpenError;

const FILE: &str = "format";

/// The version grows with every change of a command, an image or a log record that an older release would misread. The
/// golden fixtures fail at such a change.
const VERSION: &str = "5";
/// The format before it had no such file.
const WITHOUT_FILE: &str = "1";

/// Writes the number to an empty directory; refuses any other number.
pub(super) async fn check(device: &dyn Device, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(FILE);
    let failed = |source| OpenError::Io {
        path: path.display().to_string(),
        source,
    };
    let found = match read(device, &path).await.map_err(failed)? {
        Some(found) => found,
        None if is_empty(device, dir).await.map_err(failed)? => {
            return write(device, dir).await.map_err(failed);
        }
        None => WITHOUT_FILE.to_owned(),
    };
    if found == VERSION {
        return Ok(());
    }
    Err(OpenError::OtherFormat {
        path: dir.display().to_string(),
        found,
        expected: VERSION,
    })
}

async fn read(device: &dyn Device, path: &Path) -> io::Result<Option<String>> {
    let file = match device.open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let bytes = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    let text = file.read_at(0, bytes).await?;
    Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()))
}

async fn is_empty(device: &dyn Device, dir: &Path) -> io::Result<bool> {
    let entries = match device.list_dir(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    // a crash of the first start may have left this file
    let new = dir.join(FILE).with_extension("new");
    Ok(entries.iter().all(|entry| entry.path == new))
}

async fn write(device: &dyn Device, dir: &Path) -> io::Result<()> {
    device.create_dir_all(dir).await?;
    replace(device, dir, FILE, format!("{VERSION}\n")).await
}

/// Replaces a file durably: a crash leaves either the former one or this one.
async fn replace(device: &dyn Device, dir: &Path, name: &str, text: String) -> io::Result<()> {
    let path = dir.join(name);
    let new = path.with_extension("new");
    match device.remove_file(&new).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = device.open(&new, OpenMode::CreateNew).await?;
    file.write_at(0, &[Bytes::from(text)]).await?;
    file.sync_data().await?;
    device.rename(&new, &path).await?;
    device.sync_dir(dir).await
}

/// Kafka's file beside the log, which names the replica: `kafka-metadata-quorum add-controller` reads it, with
/// `metadata.log.dir` as the directory of the metadata. The log has the same, and this is written anew from it.
const PROPERTIES: &str = "meta.properties";

/// Writes the file of Kafka's tools, unless it says the same already.
pub(super) async fn tell(
    device: &dyn Device,
    dir: &Path,
    (cluster, node, directory): (ClusterId, NodeId, Uuid),
) -> Result<(), OpenError> {
    let path = dir.join(PROPERTIES);
    let failed = |source| OpenError::Io {
        path: path.display().to_string(),
        source,
    };
    let text = format!(
        "# Written by Highwater for the tools of Apache Kafka, and anew at each start.\n\
         version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id={directory}\n"
    );
    if read(device, &path).await.map_err(failed)?.as_deref() == Some(text.trim()) {
        return Ok(());
    }
    match replace(device, dir, PROPERTIES, text).await {
        Err(error) if is_full(&error) => {
            tracing::warn!(%error, "no room for meta.properties, which Kafka's tools read");
            Ok(())
        }
        written => written.map_err(failed),
    }
}

#[cfg(test)]
mod tests;
