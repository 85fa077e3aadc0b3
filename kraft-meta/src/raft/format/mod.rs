//! The number of the format of the log and the snapshot, in a file of its own beside them. A start reads it first, so
//! that the data directory of another release is refused before anything in it is misread.

use std::io;
use std::path::Path;

use bytes::Bytes;
use highwater_io::{Device, OpenMode};

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
    let path = dir.join(FILE);
    let new = path.with_extension("new");
    match device.remove_file(&new).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = device.open(&new, OpenMode::CreateNew).await?;
    let text = Bytes::from(format!("{VERSION}\n"));
    file.write_at(0, &[text]).await?;
    file.sync_data().await?;
    device.rename(&new, &path).await?;
    device.sync_dir(dir).await
}

#[cfg(test)]
mod tests;
