//! An object store that outlives the processes and fails by seed, as an S3-compatible store does on its bad days.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use highwater_object_storage::{Failure, Hooked, ObjectStorage, Operation, Plan, Request};
use highwater_runtime::SeededRng;

use crate::Trace;
use crate::wire::{Shore, Wire};

/// The object store of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// A directory on the node's disk; in a cluster, a store that is late and has no other fault.
    #[default]
    Directory,
    /// A store that answers late, never, or with errors, and keeps what it has accepted.
    Failing,
    /// The same, but at times it accepts a put and does not keep it: the checker must find that.
    Forgetting,
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "directory" => Ok(Self::Directory),
            "failing" => Ok(Self::Failing),
            "forgetting" => Ok(Self::Forgetting),
            _ => Err("not a store; there are directory, failing, forgetting".to_owned()),
        }
    }
}

/// The longest burst of refusals.
const BURST_MAX: u64 = 20;
const LATENCY_MAX_MS: u64 = 60;
const SLOW_MAX_MS: u64 = 4000;
/// An outage begins within this time of the run, and is no longer than the second time.
const OUTAGE_FROM_MAX_MS: u64 = 20_000;
const OUTAGE_MAX_MS: u64 = 8_000;

/// A store in memory with faults. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct SimStore {
    pub(crate) storage: Arc<dyn ObjectStorage>,
    shore: Arc<Shore>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    rng: SeededRng,
    trace: Trace,
    forgets: bool,
    outage: (Duration, Duration),
    is_sound: AtomicBool,
    /// The number of requests that are still refused in the present burst.
    burst: AtomicU64,
    count: AtomicU64,
}

impl SimStore {
    pub(crate) fn new(kind: StoreKind, rng: SeededRng, trace: Trace) -> Self {
        let ms = |most| Duration::from_millis(rng.below(most));
        let begin = ms(OUTAGE_FROM_MAX_MS);
        let outage = (begin, begin + ms(OUTAGE_MAX_MS));
        let shore = Arc::new(Shore::new(trace.clone()));
        let faults = Arc::new(Faults {
            rng,
            trace,
            forgets: kind == StoreKind::Forgetting,
            outage,
            is_sound: AtomicBool::new(kind == StoreKind::Directory),
            burst: AtomicU64::new(0),
            count: AtomicU64::new(0),
        });
        let chooses = Arc::clone(&faults);
        let hook = move |request: &Request<'_>| chooses.plan(request);
        Self {
            storage: Arc::new(Hooked::new(Arc::clone(&shore) as _, hook)),
            shore,
            faults,
        }
    }

    /// Makes a store, and returns the URL by which a node finds it.
    pub(crate) fn with_url(
        kind: StoreKind,
        rng: SeededRng,
        trace: &Trace,
    ) -> (String, Option<Self>) {
        let store = Self::new(kind, rng, trace.clone());
        ("memory:".to_owned(), Some(store))
    }

    /// The store as one host reaches it, and the way to it.
    pub(crate) fn over_a_wire(&self, rng: SeededRng) -> (Self, Wire) {
        let wire = Wire::new(&self.shore, &self.storage, rng);
        let reached = Self {
            storage: Arc::new(wire.clone()),
            ..self.clone()
        };
        (reached, wire)
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.faults.is_sound.store(true, Ordering::Relaxed);
    }

    /// The number of requests that have met a fault.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.count.load(Ordering::Relaxed)
    }
}

impl Faults {
    fn plan(&self, request: &Request<'_>) -> Plan {
        let plan = match self.is_sound.load(Ordering::Relaxed) {
            true => None,
            false => self.fault(request),
        };
        match plan {
            None => Plan::pass().delayed(self.ms(LATENCY_MAX_MS)),
            Some((name, plan)) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                self.trace.event(&format_args!("{name} {}", request.key));
                plan
            }
        }
    }

    fn ms(&self, most: u64) -> Duration {
        Duration::from_millis(self.rng.below(most))
    }

    /// The fault that a request meets, if any.
    fn fault(&self, request: &Request<'_>) -> Option<(&'static str, Plan)> {
        let is_put = matches!(request.operation, Operation::Put { .. });
        let is_change = is_put || matches!(request.operation, Operation::Delete(_));
        // a store that is overloaded may have carried a change out, and has not here
        let refused = Plan::fail(match is_change {
            true => Failure::Unknown,
            false => Failure::Failed("the store answered 503"),
        });
        let now = self.trace.now();
        if self.outage.0 <= now && now < self.outage.1 {
            return Some(("outage", Plan::fail(Failure::Failed("no connection"))));
        }
        let burst = self.burst.load(Ordering::Relaxed);
        if burst > 0 {
            self.burst.store(burst - 1, Ordering::Relaxed);
            return Some(("burst", refused));
        }
        let late = || Plan::pass().delayed(self.ms(LATENCY_MAX_MS));
        match self.rng.below(100) {
            0 => Some(("hangs", Plan::hang())),
            1 => {
                self.burst
                    .store(self.rng.below(BURST_MAX), Ordering::Relaxed);
                Some(("503", refused))
            }
            // also what an error in the body of an answer 200 comes to
            2..=4 => Some(("503", refused)),
            5..=7 if is_change => Some(("answer lost", late().answered(Failure::Unknown))),
            8 if is_put => Some(("409", Plan::fail(Failure::Failed("409")))),
            9 if is_put => Some(("412", Plan::fail(Failure::Precondition))),
            // what a truncated body comes to
            5..=9 if !is_change => Some(("truncated", late().answered(Failure::Failed("half")))),
            10 => Some(("slow", late().answer_delayed(self.ms(SLOW_MAX_MS)))),
            11..=30 if is_throttled(request) => Some(("throttled", refused)),
            31..=40 if self.forgets && is_put => Some(("forgotten", Plan::pretend())),
            _ => None,
        }
    }
}

/// Whether the key is below one of the prefixes that the store throttles.
fn is_throttled(request: &Request<'_>) -> bool {
    let hash = request.key.as_str().strip_prefix("data/");
    hash.is_some_and(|hash| hash.starts_with(|digit: char| ('0'..='3').contains(&digit)))
}
