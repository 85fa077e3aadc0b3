//! The errors of the format.

/// Why bytes can't be decoded (I9). Final for the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end too early, or a length in them is wrong.
    #[error("{part} ends too early")]
    Truncated {
        /// The damaged part.
        part: &'static str,
    },
    /// They don't begin with the magic of that part.
    #[error("bytes are not a {part}")]
    Magic {
        /// The expected part.
        part: &'static str,
    },
    /// They have a version that this program doesn't know.
    #[error("{part} has an unknown version version={version}")]
    Version {
        /// The part.
        part: &'static str,
        /// Its version.
        version: u16,
    },
    /// Their checksum is wrong.
    #[error("checksum of {part} is wrong")]
    Checksum {
        /// The damaged part.
        part: &'static str,
    },
    /// They are intact and belong to something else.
    #[error("{part} belongs to another stream or offset")]
    Mismatch {
        /// The part.
        part: &'static str,
    },
}
