//! An append-only log in zero-filled files. The disk WAL and the Raft log are made of it.
//!
//! **Appending.** A position counts the bytes since the log began; it determines the file and the offset in the file.
//! Entries that are appended while the writer syncs gather in *groups*, which the next sync makes durable; there is
//! no timer. An entry is copied once, into aligned memory. A group is at most 1 MiB, or one larger entry, so that
//! recovery holds no more memory than that. It is written from its memory as one or several blocks of at most 1 MiB,
//! past the page cache if the device can do so.
//!
//! **Blocks.** A block begins at a multiple of 4 KiB, so that a torn write never touches a block that was synced
//! before. Its header has the opening number of the log, the block's own position (rule D1's sequence), the position
//! up to which the log was known to be synced, and a CRC-32. A log has a *seed*, random bytes in a file of its own:
//! half of it is in each header, and each checksum covers all of it. So when a file is reused, records that look like
//! a block are never taken for one.
//!
//! **Recovery** (D1). Blocks follow one another by position, and opening numbers never decrease; the log ends at the
//! first block that doesn't fit. If a later block says that the position of a bad block was synced, the log is
//! damaged, and recovery refuses it; otherwise the bad block is a torn tail. A group counts only if all its blocks
//! are there. What was read back is synced before it is used, because the process may have died between a write and
//! its sync, and the machine may lose power next.
//!
//! **A full disk** (D3). Files are made before they are needed, step by step, and are reused after a trim; none is
//! removed. [`State::room`] is what fits into the present files. A caller that needs more requests it
//! ([`DiskLog::request_room`]) and sees [`State::full`] if the disk has no room. The log ends if a file can't be made for any
//! other reason.

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
pub use group::{Group, GroupReceiver};
pub use log::{Appended, DiskLog};
pub use recovery::{RecoveredGroup, Recovery};
pub use seed::Seed;
pub use state::{Ended, State};

/// The layout of a log. It never changes once the log exists, because positions are translated by it. The default is
/// files of 16 MiB.
#[derive(Debug, Clone)]
pub struct Config {
    /// The size of each file in bytes; a multiple of 1 MiB.
    pub file_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
        }
    }
}
