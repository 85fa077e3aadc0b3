//! What no history may hold. Where Jepsen's tests of Kafka have a name for it, it is theirs.

use std::fmt;

/// The kind of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anomaly {
    /// A record that was acknowledged or read is not in the log any more, or a log does not hold all that was sent (I1).
    LostWrite,
    /// A record is at two offsets (I6).
    Duplicate,
    /// Two records were seen at one offset (I5).
    InconsistentOffsets,
    /// The records of one assignment do not come in the order of their offsets.
    NonMonotonicPoll,
    /// A poll passes over an offset, and the next record has a later one.
    SkippedPoll,
    /// The records of one producer are in the log in another order than they were sent.
    NonMonotonicSend,
    /// A log start, a high watermark, a committed offset or the end of a leader epoch went back.
    OffsetWentBack,
    /// A client reads what is not durable yet, or what nobody has sent (I2).
    DirtyRead,
    /// Anything else that no client may be told.
    WrongAnswer,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LostWrite => "lost write",
            Self::Duplicate => "duplicate",
            Self::InconsistentOffsets => "inconsistent offsets",
            Self::NonMonotonicPoll => "non-monotonic poll",
            Self::SkippedPoll => "skipped poll",
            Self::NonMonotonicSend => "non-monotonic send",
            Self::OffsetWentBack => "offset that goes back",
            Self::DirtyRead => "dirty read",
            Self::WrongAnswer => "wrong answer",
        })
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) anomaly: Anomaly,
    pub(crate) what: String,
}

impl Violation {
    /// The same, with what it is about in front.
    pub(crate) fn of(self, about: impl fmt::Display) -> Self {
        Self {
            what: format!("{about}: {}", self.what),
            ..self
        }
    }
}

impl Anomaly {
    /// A violation of this kind.
    pub(crate) fn found<T>(self, what: String) -> Result<T, Violation> {
        Err(Violation {
            anomaly: self,
            what,
        })
    }
}

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Self {
            anomaly: Anomaly::WrongAnswer,
            what,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.anomaly, self.what)
    }
}
