//! The kind of write-ahead log that the processes of a node write.

use std::str::FromStr;

use highwater_runtime::SeededRng;

/// The write-ahead log of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WalOfRun {
    /// Every process writes a ring of files on the node's disk.
    #[default]
    Disk,
    /// Every process puts its group commits in the object store.
    Object,
    /// Each process draws its kind, so that a start recovers what another kind holds (D4).
    Changing,
}

impl WalOfRun {
    /// The value of `highwater.wal` for the next process.
    pub(crate) fn draw(self, rng: &SeededRng) -> &'static str {
        match self {
            Self::Changing if rng.below(2) == 0 => "disk",
            Self::Disk => "disk",
            Self::Object | Self::Changing => "object",
        }
    }
}

impl FromStr for WalOfRun {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "object" => Ok(Self::Object),
            "changing" => Ok(Self::Changing),
            _ => Err("not a write-ahead log; there are disk, object, changing".to_owned()),
        }
    }
}
