//! What a run is asked for and what it finds, and what is the same in every run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{StoreKind, SyncClass, Trace, WalOfRun};

/// The port on which every node listens, under its own name.
pub(crate) const PORT: u16 = 9092;
/// The number of partitions of `__consumer_offsets`.
pub(crate) const OFFSETS_PARTITIONS: i32 = 2;
/// The wall-clock time at which a run begins: 2026-01-01.
pub(crate) const BEGIN: Duration = Duration::from_secs(1_767_225_600);
/// An upper bound for the lives of all nodes together.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(600);
/// The time in which every client must finish once nothing fails any more. A client that needs longer is stuck.
pub(crate) const CALM_MAX: Duration = Duration::from_secs(40);

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The seed that chooses everything that is not fixed.
    pub seed: u64,
    /// The class of syncs that the disk answers without doing them.
    pub lie: Option<SyncClass>,
    /// The object store.
    pub store: StoreKind,
    /// The write-ahead log.
    pub wal: WalOfRun,
    /// Whether three brokers and their controllers run in place of one node.
    pub cluster: bool,
    /// The trace that receives the events.
    pub trace: Trace,
}

/// The result of a run that found no violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of the trace, which is equal for equal seeds.
    pub hash: u64,
    /// The number of events in the trace.
    pub events: u64,
    /// The number of device operations.
    pub operations: u64,
    /// The number of records that were acknowledged or read; each was checked wherever a client saw it.
    pub records: usize,
    /// How often a node was started.
    pub starts: usize,
    /// The virtual time that the run took.
    pub elapsed: Duration,
    /// The number of syncs that had something to do, by class.
    pub syncs: BTreeMap<SyncClass, u64>,
    /// The number of syncs that were answered without being done.
    pub lies: u64,
    /// The number of requests to the object store that met a fault.
    pub store_faults: u64,
    /// The number of changes of the voters that an operator asked for and the controllers have made.
    pub voter_changes: u64,
    /// How often a broker was fenced because it alone did not reach the store (E8).
    pub store_fences: u64,
}

/// A violation that a run found.
#[derive(Debug, thiserror::Error)]
#[error(
    "seed {seed}: {what}\n  replay: cargo run --release -p highwater-sim -- --seed {seed}{options}"
)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// The description of the violation.
    pub what: String,
    /// The other options of the run, as the command line has them.
    options: String,
}

impl Failed {
    pub(crate) fn new(options: &Options, what: String) -> Self {
        let lie = options.lie.map(|lie| format!(" --lie {lie}"));
        let store = match options.store {
            StoreKind::Directory => "",
            StoreKind::Failing => " --store failing",
            StoreKind::Forgetting => " --store forgetting",
        };
        let wal = match options.wal {
            WalOfRun::Disk => "",
            WalOfRun::Object => " --wal object",
            WalOfRun::Changing => " --wal changing",
        };
        let cluster = if options.cluster { " --cluster" } else { "" };
        Self {
            seed: options.seed,
            what,
            options: lie.unwrap_or_default() + store + wal + cluster,
        }
    }
}

/// The wall-clock time of a node, in milliseconds.
pub(crate) fn wall_clock_ms(trace: &Trace) -> i64 {
    let now = BEGIN + trace.now();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
