//! The memory limit, and how it is divided into budgets (I11).

use std::collections::BTreeMap;

/// The least limit.
const LIMIT_MIN: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// The default limit of a process that may have this many bytes: four fifths of them, because a process takes up to
/// 1.15 times its limit.
pub(super) fn machine(bytes: Option<u64>) -> BTreeMap<&'static str, String> {
    let limit = bytes.map(|bytes| (bytes / 5 * 4).max(LIMIT_MIN) / MIB);
    let limit = limit.map(|mib| ("highwater.memory.limit", format!("{mib}MiB")));
    limit.into_iter().collect()
}

/// The bytes of a kind's budget that are for small requests or answers alone (M2): a quarter, up to a useful maximum.
#[must_use]
pub(crate) fn for_small(bytes: u64) -> u64 {
    (bytes / 4).min(16 * MIB)
}

/// The budgets that one `highwater.memory.limit` gives, bytes.
///
/// They are separate so that a stalled store stops produce and nothing else (M2). The rest of the limit is for stacks,
/// indexes, metadata and the allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    /// The limit itself.
    pub limit: u64,
    /// Frames of produce requests: an eighth.
    pub produce: u64,
    /// Answers to fetches from the log cache: a sixteenth.
    pub fetch: u64,
    /// Answers to fetches that need objects: a sixteenth.
    pub fetch_cold: u64,
    /// Answers to fetches of connections that do not take them promptly: a thirty-second.
    pub fetch_slow: u64,
    /// Answers to every other request (M3): a thirty-second.
    pub answers: u64,
    /// Frames of every other request: a sixteenth.
    pub other: u64,
    /// Consumers' fetch sessions: a sixty-fourth.
    pub fetch_sessions: u64,
    /// State that requests keep while they wait for others: a sixty-fourth.
    pub waits: u64,
    /// Buffers for decompressing and recompressing batches: a thirty-second.
    pub decompression: u64,
    /// Read buffers that are kept for the next read: a sixty-fourth.
    pub read_buffers: u64,
    /// The log cache, which is also the write-ahead log's buffers: three eighths.
    pub log_cache: u64,
    /// Producer state, which finds duplicate batches: a thirty-second.
    pub producers: u64,
    /// The part of the log cache that is for coordinators' appends alone: a sixteenth of it.
    pub coordinators: u64,
    /// Blocks read back from objects: an eighth.
    pub block_cache: u64,
}

impl MemoryPlan {
    /// The largest produce frame for which there is memory (M1); small frames have memory for themselves.
    #[must_use]
    pub fn large_frames(&self) -> u64 {
        self.produce - for_small(self.produce)
    }

    /// Divides `limit` bytes into budgets.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            produce: limit / 8,
            fetch: limit / 16,
            fetch_cold: limit / 16,
            fetch_slow: limit / 32,
            answers: limit / 32,
            other: limit / 16,
            fetch_sessions: limit / 64,
            waits: limit / 64,
            decompression: limit / 32,
            read_buffers: limit / 64,
            log_cache: limit / 8 * 3,
            producers: limit / 32,
            coordinators: limit / 8 * 3 / 16,
            block_cache: limit / 8,
        }
    }
}
