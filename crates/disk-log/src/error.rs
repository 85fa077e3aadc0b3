//! Errors of a log.

use std::path::Path;

/// Why a log can't be opened or written. Fatal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// A block that was synced is bad (D1): the disk lost or changed it.
    #[error(
        "log is damaged: a synced block cannot be read file={file} offset={offset} position={position}"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The block's place in the file.
        offset: u64,
        /// The block's position.
        position: u64,
    },
    /// A newer program wrote it.
    #[error("log is of a newer format file={file} version={version}")]
    Newer {
        /// The file.
        file: String,
        /// The format's version.
        version: char,
    },
    /// A defect of this program, while it wrote or handed over what it had written.
    #[error("log's writer panicked directory={directory} reason={reason}")]
    Panicked {
        /// The log's directory.
        directory: String,
        /// What the panic said.
        reason: String,
    },
    /// No room for another file. An open log waits for it, and ends with it only where it is closed before what was
    /// appended is written.
    #[error("log has no room for another file directory={directory} error={error}")]
    Full {
        /// The log's directory.
        directory: String,
        /// The machine's answer.
        error: String,
    },
    /// The machine's answer.
    #[error("log cannot be read or written file={file} error={error}")]
    Io {
        /// The file or directory.
        file: String,
        /// The machine's answer.
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
