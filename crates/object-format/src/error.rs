//! Errors of the format.

/// Why bytes are not what they should be (I9). Fatal for the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end too early, or a length lies.
    #[error("{part} ends too early")]
    Truncated {
        /// Which part.
        part: &'static str,
    },
    /// Another magic.
    #[error("this is no {part}")]
    Magic {
        /// Which part was expected.
        part: &'static str,
    },
    /// A version of the future, or of another format.
    #[error("{part} has a version that is not known version={version}")]
    Version {
        /// Which part.
        part: &'static str,
        /// Its version.
        version: u16,
    },
    /// A checksum is wrong.
    #[error("checksum of {part} is wrong")]
    Checksum {
        /// Which part.
        part: &'static str,
    },
    /// It belongs to something else.
    #[error("{part} belongs to another stream or offset")]
    Mismatch {
        /// Which part.
        part: &'static str,
    },
}
