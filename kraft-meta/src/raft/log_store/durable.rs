//! What of a log is durable: its last entry, and the position below which nothing is needed any more.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_disk_log::{Group, GroupReceiver};
use openraft::storage::IOFlushed;
use tokio::sync::watch;

use super::super::types::{LogId, Types};

/// The action to take when a record is durable.
pub(super) enum Meta {
    Nothing,
    /// Reports entries, of which this is the last one.
    Tell(IOFlushed<Types>, Option<LogId>),
    /// The log was cut, and this is its last entry.
    Cut(Option<LogId>),
    /// Allows the files before this record's group to be deleted.
    TrimBefore,
}

pub(super) struct DurableGroups {
    /// The position at which the last durable group ended.
    end: AtomicU64,
    /// The position below which the log may be trimmed.
    floor: AtomicU64,
    /// The last entry that is durable, also if it was purged since.
    last: watch::Sender<Option<LogId>>,
}

impl DurableGroups {
    /// What is durable in a log that was read up to a position, and whose last entry is this one.
    pub(super) fn new(end: u64, last: Option<LogId>) -> Self {
        Self {
            end: AtomicU64::new(end),
            floor: AtomicU64::new(0),
            last: watch::Sender::new(last),
        }
    }

    /// The position below which the log may be trimmed.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Waits until an entry is durable or purged. Cancellation safe.
    pub(super) async fn until(&self, last: Option<LogId>) {
        let mut durable = self.last.subscribe();
        let is_durable = durable.wait_for(|durable| *durable >= last);
        // the sender lives as long as this
        drop(is_durable.await);
    }

    /// Notes that the log was cut, and what its last entry is now: what was cut off may have had a later term than what takes
    /// its place.
    fn ends_at(&self, last: Option<LogId>) {
        self.last.send_replace(last);
    }

    /// Notes that the entries up to this one are durable, or purged.
    pub(super) fn has(&self, last: Option<LogId>) {
        self.last.send_if_modified(|known| {
            let is_later = last > *known;
            if is_later {
                *known = last;
            }
            is_later
        });
    }
}

impl Debug for DurableGroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableGroups")
    }
}

impl GroupReceiver<Meta> for DurableGroups {
    fn durable(&self, groups: Vec<Group<Meta>>) {
        for group in groups {
            let start = self.end.swap(group.end, Ordering::AcqRel);
            for (_, meta) in group.entries {
                match meta {
                    Meta::Nothing => {}
                    Meta::Tell(flushed, last) => {
                        self.has(last);
                        flushed.io_completed(Ok(()));
                    }
                    Meta::Cut(last) => self.ends_at(last),
                    Meta::TrimBefore => self.floor.store(start, Ordering::Release),
                }
            }
        }
    }

    fn ended(&self) {}
}
