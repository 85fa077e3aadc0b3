//! The troubles of a device, which last for a time and lose nothing: it does not answer, or it is full.

use std::path::Path;

use highwater_runtime::SeededRng;

/// The trouble of the device. Objects are below `/objects`, everything else is below `/data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Operations that create or remove an object hang.
    PutsStall,
    /// Reads of objects hang.
    GetsStall,
    /// Operations that create, remove or read an object hang.
    StoreStalls,
    /// No file below `/objects` grows, and none is created.
    StoreFull,
    /// No other file grows.
    DataFull,
    /// No file grows.
    Full,
    /// Writes and syncs of other files are late.
    DataSlow,
    /// Writes and syncs of logs (`*.log`) are late, and those of other files are not.
    LogsSlow,
}

/// By how much an operation is late at most.
const SLOW_MAX_MS: u64 = 400;
const SLOW_LOG_MAX_MS: u64 = 1000;

impl Trouble {
    pub(crate) fn draw(rng: &SeededRng) -> Self {
        match rng.below(7) {
            0 => Self::PutsStall,
            1 => Self::GetsStall,
            2 | 3 => Self::StoreStalls,
            4 => Self::StoreFull,
            5 => Self::DataFull,
            _ => Self::Full,
        }
    }

    /// Returns whether an operation waits until the trouble is over.
    pub(super) fn stalls(self, path: &Path, writes: bool) -> bool {
        let stalls = match self {
            Self::PutsStall => writes,
            Self::GetsStall => !writes,
            Self::StoreStalls => true,
            Self::StoreFull | Self::DataFull | Self::Full | Self::DataSlow | Self::LogsSlow => {
                false
            }
        };
        stalls && path.starts_with("/objects")
    }

    /// Returns whether there is no room for more data.
    pub(super) fn is_full(self, path: &Path) -> bool {
        let of_objects = path.starts_with("/objects");
        match self {
            Self::StoreFull => of_objects,
            Self::DataFull => !of_objects,
            Self::Full => true,
            Self::PutsStall
            | Self::GetsStall
            | Self::StoreStalls
            | Self::DataSlow
            | Self::LogsSlow => false,
        }
    }

    /// By how many milliseconds a write or a sync is late.
    pub(super) fn lateness_ms(self, path: &Path, rng: &SeededRng) -> u64 {
        match self {
            Self::DataSlow if path.starts_with("/objects") => 0,
            Self::LogsSlow if path.extension().is_none_or(|it| it != "log") => 0,
            Self::DataSlow => rng.below(SLOW_MAX_MS),
            Self::LogsSlow => rng.below(SLOW_LOG_MAX_MS),
            _ => 0,
        }
    }
}
