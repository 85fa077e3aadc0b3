//! The errors of a log.

use std::path::Path;

/// Why a log can't be opened or written. Fatal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// A block that was synced can't be read (D1): the device lost or changed it.
    #[error(
        "log is damaged: a synced block cannot be read file={file} offset={offset} position={position}"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The block's offset in the file.
        offset: u64,
        /// The block's position in the log.
        position: u64,
    },
    /// The log was written by a newer version of this program.
    #[error("log has a newer format than this program knows file={file} version={version}")]
    Newer {
        /// The file.
        file: String,
        /// The format's version.
        version: char,
    },
    /// The writer panicked, which is a defect of this program.
    #[error("log's writer panicked directory={directory} reason={reason}")]
    Panicked {
        /// The log's directory.
        directory: String,
        /// The panic's message.
        reason: String,
    },
    /// The disk has no room for another file. An open log waits until there is room. It ends with this error only if
    /// it is closed while entries wait to be written.
    #[error("log has no room for another file directory={directory} error={error}")]
    Full {
        /// The log's directory.
        directory: String,
        /// The operating system's error.
        error: String,
    },
    /// The operating system refused an operation.
    #[error("log cannot be read or written file={file} error={error}")]
    Io {
        /// The file or directory.
        file: String,
        /// The operating system's error.
        error: String,
    },
}

impl PartialEq for LogError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for LogError {}

impl LogError {
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            file: path.display().to_string(),
            error: error.to_string(),
        }
    }
}
