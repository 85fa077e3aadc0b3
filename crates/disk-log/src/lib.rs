//! An append-only log in zero-filled files: what the disk WAL and the Raft log are made of.
//!
//! Positions count bytes since the log began and only grow; the file and the place in it follow from the position.
//! Appended entries gather in a buffer while the writer syncs the one before: no timer, the sync is the batch. A buffer
//! (a *group*) is written as blocks of at most 1 MiB, each with a header that names the log's opening number, its own
//! position (its sequence, for D1), the position known synced, and a CRC-32. Blocks begin at multiples of 4 KiB, so a
//! torn write never touches what was synced before. A group counts only whole.
//!
//! Recovery (D1): positions follow one another and the opening number never falls; anything else is the end. A bad block
//! below a later block's synced mark refuses to start; above it, it is the torn tail.

mod block;
mod error;
mod files;
mod group;
mod log;
mod recovery;

pub use error::LogError;
pub use group::{Group, GroupSink};
pub use log::{Appended, DiskLog, State};
pub use recovery::{RecoveredGroup, Recovery};

/// The shape of a log. `Default:` 16 MiB files, 1 GiB in all.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of each file; a multiple of 1 MiB.
    pub file_bytes: u64,
    /// Bytes of all files together.
    pub bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            bytes_max: 1 << 30,
        }
    }
}
