//! How a log ends.

use crate::WalError;

/// The reason why a log has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The log was shut down, and all of it is durable.
    ShutDown,
    /// Its node epoch was fenced.
    Fenced { reason: String },
    /// The time of its shutdown was over before all of it was durable.
    Late { is_writing: bool },
    /// Its writer was stopped.
    Stopped,
}

impl End {
    pub(crate) fn error(self) -> Option<WalError> {
        match self {
            Self::ShutDown => None,
            Self::Fenced { reason } => Some(WalError::Fenced { reason }),
            Self::Late { is_writing } => Some(WalError::Late { is_writing }),
            Self::Stopped => Some(WalError::Ended),
        }
    }
}
