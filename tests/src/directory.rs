//! Copies of directories.

use std::path::Path;

/// Copies a directory and all that is in it; what a killed process would leave, where it is a data directory.
///
/// # Errors
/// The machine's.
pub fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
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
