//! The machine that a local directory belongs to: one object beside the claim, created only if absent, with the machine's
//! identity (rule L1).

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_io::{Device, OpenMode};
use sha2::{Digest, Sha256};

use crate::{IoClass, LocalStorage, ObjectStorage, PutMode, StorageError, layout};

const BYTES_MAX: u64 = 256;
/// Enough of a digest to tell machines apart.
const DIGEST_BYTES: usize = 8;

/// The identity of this machine as its directories have it. It is a digest, because the identity itself must not leave
/// the machine (see `machine-id(5)`).
///
/// # Errors
/// The machine has no identity.
pub(crate) async fn own(device: &dyn Device) -> io::Result<String> {
    let mut digest = Sha256::new();
    digest.update("highwater local directory ");
    digest.update(device.machine_id().await?);
    let digest = digest.finalize();
    let digits = digest.iter().take(DIGEST_BYTES);
    Ok(digits.map(|byte| format!("{byte:02x}")).collect())
}

/// The marker of a directory.
pub(crate) fn marker(root: &Path) -> PathBuf {
    root.join(layout::machine().as_str())
}

/// Reads the machine that a directory belongs to, and changes nothing; `None` if the directory has no marker.
///
/// # Errors
/// The operating system's error.
pub(crate) async fn read(device: &dyn Device, root: &Path) -> io::Result<Option<String>> {
    let file = match device.open(&marker(root), OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let bytes = usize::try_from(file.len().await?.min(BYTES_MAX)).unwrap_or_default();
    let text = file.read_at(0, bytes).await?;
    Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()))
}

/// Makes the marker unless there is one, and returns the machine that it names.
///
/// # Errors
/// [`StorageError`].
pub(crate) async fn mark(root: &LocalStorage, own: &str) -> Result<String, StorageError> {
    let key = layout::machine();
    let body = vec![Bytes::from(format!("{own}\n"))];
    match root
        .put(&key, body, PutMode::IfAbsent, IoClass::Start)
        .await
    {
        Ok(_) | Err(StorageError::Precondition { .. }) => {}
        Err(error) => return Err(error),
    }
    let found = root.get(&key, 0..BYTES_MAX, IoClass::Start).await?;
    Ok(String::from_utf8_lossy(&found).trim().to_owned())
}
