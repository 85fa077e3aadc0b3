//! An append-only log in zero-filled files: what the disk WAL and the Raft log are made of.
//!
//! Positions count bytes since the log began and only grow; the file and the place in it follow from the position.
//! Appended entries gather while the writer syncs those before: no timer, the sync is the batch. They are copied once,
//! into aligned memory; what lies together there (a *group*: at most 1 MiB, or one entry that is larger, so that
//! recovery needs no more memory than that) is written from there, by the page cache where the device can, as blocks of
//! at most 1 MiB, each with a header that names the log's opening number, its own position (its sequence, for D1), the
//! position known synced, and a CRC-32. Half of the log's seed, random bytes in a file beside its own, stands in each
//! header and all of it is summed with each block: records that look like blocks are none when the file is used again.
//! Blocks begin at multiples of 4 KiB, so a torn write never touches what was synced
//! before. A group counts only whole.
//!
//! Recovery (D1): positions follow one another and the opening number never falls; anything else is the end. A bad block
//! below any later block's synced mark refuses to start; above it, it is the torn tail. What was read back is synced
//! before it counts: the process may have died between a write and its sync, and the machine may die next.
//!
//! A full disk (D3): files are made ahead of use, in steps, and used again when trimmed; none is removed.
//! [`State::room`] is what fits into those that are there; who needs more asks for it ([`DiskLog::want`]) and sees
//! [`State::full`] when there is none. A file that can't be made for any other reason ends the log.

mod block;
mod error;
mod files;
mod filling;
mod group;
mod log;
pub mod metrics;
mod recovery;
mod rest;
mod seed;
mod state;
mod writer;

pub use error::LogError;
pub use filling::Part;
pub use group::{Group, GroupSink};
pub use log::{Appended, DiskLog};
pub use recovery::{RecoveredGroup, Recovery};
pub use seed::Seed;
pub use state::{Ended, State};

/// The shape of a log: never changed once it is there, for places follow from it. `Default:` 16 MiB files.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of each file; a multiple of 1 MiB.
    pub file_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
        }
    }
}
