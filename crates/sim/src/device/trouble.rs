//! What a device may do for a time without losing anything: not answer, or have no room.

use std::path::Path;

use highwater_runtime::SeededRng;

/// What is wrong with the device; objects lie below `/objects`, all else below `/data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing that would make or remove an object is done.
    PutsStall,
    /// No object is read.
    GetsStall,
    /// Neither.
    StoreStalls,
    /// No file below `/objects` grows, and none is made.
    StoreFull,
    /// No other file grows.
    DataFull,
    /// No file grows.
    Full,
}

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

    /// Whether an operation waits until it is over.
    pub(super) fn stalls(self, path: &Path, writes: bool) -> bool {
        let stalls = match self {
            Self::PutsStall => writes,
            Self::GetsStall => !writes,
            Self::StoreStalls => true,
            Self::StoreFull | Self::DataFull | Self::Full => false,
        };
        stalls && path.starts_with("/objects")
    }

    /// Whether there is no room for more than there is.
    pub(super) fn is_full(self, path: &Path) -> bool {
        let of_objects = path.starts_with("/objects");
        match self {
            Self::StoreFull => of_objects,
            Self::DataFull => !of_objects,
            Self::Full => true,
            Self::PutsStall | Self::GetsStall | Self::StoreStalls => false,
        }
    }
}
