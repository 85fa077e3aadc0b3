//! Counts the requests to a store, which cost money.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use tokio::time::Instant;

use super::reach::{Reach, Reached};
use crate::metrics::{BYTES, PUT_OLDEST, REQUEST_SECONDS, REQUESTS};
use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// The kind of a request, the label `op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// A put.
    Put,
    /// A read of a range or of an object's end.
    Get,
    /// A listing, counted once for all its pages.
    List,
    /// A deletion, counted once for all its keys.
    Delete,
}

impl RequestKind {
    fn label(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

fn label(class: IoClass) -> &'static str {
    match class {
        IoClass::Wal => "wal",
        IoClass::Upload => "upload",
        IoClass::ColdRead => "cold_read",
        IoClass::Compaction => "compaction",
        IoClass::Start => "start",
    }
}

const OK: &str = "ok";
/// The outcome of a conditional put that was refused: an object is there already, or another version of it.
const REFUSED: &str = "refused";
/// The outcome of a start's request for an object that does not exist.
const ABSENT: &str = "absent";
const FAILED: &str = "failed";
const KINDS: [RequestKind; 4] = [
    RequestKind::Put,
    RequestKind::Get,
    RequestKind::List,
    RequestKind::Delete,
];
const CLASSES: [IoClass; 5] = [
    IoClass::Wal,
    IoClass::Upload,
    IoClass::ColdRead,
    IoClass::Compaction,
    IoClass::Start,
];

/// The requests of one kind and class since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// The kind of request.
    pub kind: RequestKind,
    /// The purpose. Listings and deletions count as [`IoClass::Compaction`], the requests of a start as
    /// [`IoClass::Start`].
    pub class: IoClass,
    /// The number of requests, including failed ones: a store charges for them too.
    pub requests: u64,
    /// The number of failed requests. The refusal of a conditional put is no failure, nor is a start's request for an
    /// object that does not exist.
    pub failures: u64,
    /// The bytes that successful requests sent or received.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

/// Counters by kind and class, the puts that are under way, and whether the store answers.
#[derive(Debug, Default)]
pub struct RequestCounts {
    cells: [[Cell; CLASSES.len()]; KINDS.len()],
    /// When each put began, by its number; the number of puts under way is bounded below this decorator's callers.
    puts: Mutex<BTreeMap<u64, (IoClass, Instant)>>,
    next_put: AtomicU64,
    reach: Reach,
}

/// A put under way, until it is dropped.
struct Put<'a>(&'a RequestCounts, u64);

impl Drop for Put<'_> {
    fn drop(&mut self) {
        self.0.puts().remove(&self.1);
    }
}

impl RequestCounts {
    /// The counts so far, of every kind and class.
    #[must_use]
    pub fn snapshot(&self) -> Vec<RequestCount> {
        let of = |(kind, row): (RequestKind, &[Cell; CLASSES.len()])| -> Vec<RequestCount> {
            let count = |(class, cell): (IoClass, &Cell)| RequestCount {
                kind,
                class,
                requests: cell.requests.load(Ordering::Relaxed),
                failures: cell.failures.load(Ordering::Relaxed),
                bytes: cell.bytes.load(Ordering::Relaxed),
            };
            CLASSES.into_iter().zip(row).map(count).collect()
        };
        KINDS.into_iter().zip(&self.cells).flat_map(of).collect()
    }

    fn puts(&self) -> MutexGuard<'_, BTreeMap<u64, (IoClass, Instant)>> {
        self.puts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_put(&self, class: IoClass) -> Put<'_> {
        let number = self.next_put.fetch_add(1, Ordering::Relaxed);
        self.puts().insert(number, (class, Instant::now()));
        Put(self, number)
    }

    /// How long the oldest put of a class that has no answer has been under way; `None` if there is none.
    #[must_use]
    pub fn oldest_put(&self, class: IoClass) -> Option<Duration> {
        let puts = self.puts();
        let begun = puts.values().find(|(of, _)| *of == class);
        begun.map(|(_, at)| at.elapsed())
    }

    /// How the store was last reached. Listings don't count.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.reach.reached()
    }

    /// Sets the gauges to their present values.
    pub fn sample(&self) {
        for class in [IoClass::Wal, IoClass::Upload] {
            let oldest = self.oldest_put(class).unwrap_or_default();
            metrics::gauge!(PUT_OLDEST, "class" => label(class)).set(oldest.as_secs_f64());
        }
    }

    fn add(&self, kind: RequestKind, class: IoClass, ended: Result<u64, &StorageError>) {
        let (op, reason) = (kind.label(), label(class));
        let outcome = match ended {
            Ok(_) => OK,
            Err(StorageError::Precondition { .. }) => REFUSED,
            Err(StorageError::NotFound { .. }) if class == IoClass::Start => ABSENT,
            Err(_) => FAILED,
        };
        let bytes = ended.unwrap_or(0);
        metrics::counter!(REQUESTS, "op" => op, "class" => reason, "outcome" => outcome)
            .increment(1);
        metrics::counter!(BYTES, "op" => op, "class" => reason).increment(bytes);
        let row = KINDS.iter().position(|of| *of == kind).unwrap_or_default();
        let column = CLASSES
            .iter()
            .position(|of| *of == class)
            .unwrap_or_default();
        let cell = &self.cells[row][column];
        cell.requests.fetch_add(1, Ordering::Relaxed);
        cell.bytes.fetch_add(bytes, Ordering::Relaxed);
        cell.failures
            .fetch_add(u64::from(outcome == FAILED), Ordering::Relaxed);
    }
}

/// Registers every series at zero, since a missing series could have any reason.
fn show_zeros() {
    for kind in KINDS {
        let classes = match kind {
            RequestKind::Put | RequestKind::Get => &CLASSES[..],
            RequestKind::List | RequestKind::Delete => &[IoClass::Compaction, IoClass::Start],
        };
        for class in classes {
            let outcomes = match (kind, class) {
                (RequestKind::Put, _) => &[OK, REFUSED, FAILED][..],
                (RequestKind::Get, IoClass::Start) => &[OK, ABSENT, FAILED],
                _ => &[OK, FAILED],
            };
            let (op, class) = (kind.label(), label(*class));
            for outcome in outcomes {
                metrics::counter!(REQUESTS, "op" => op, "class" => class, "outcome" => *outcome)
                    .increment(0);
            }
            metrics::counter!(BYTES, "op" => op, "class" => class).increment(0);
        }
    }
}

/// Records, when dropped, how long a request took.
struct Timer(RequestKind, Instant);

impl Timer {
    fn start(kind: RequestKind) -> Self {
        Self(kind, Instant::now())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let elapsed = self.1.elapsed().as_secs_f64();
        metrics::histogram!(REQUEST_SECONDS, "op" => self.0.label()).record(elapsed);
    }
}

/// A store whose requests are counted. A request that is dropped before its answer is not counted.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStorage>,
    counts: Arc<RequestCounts>,
    /// The class of requests that name none.
    otherwise: IoClass,
}

impl Metered {
    /// Counts the requests to `inner` in `counts` and as metrics, all of which are registered at zero.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>, counts: Arc<RequestCounts>) -> Self {
        show_zeros();
        Self {
            inner,
            counts,
            otherwise: IoClass::Compaction,
        }
    }

    /// Counts the requests that a start makes; otherwise like [`Metered::new`].
    #[must_use]
    pub fn at_start(inner: Arc<dyn ObjectStorage>, counts: Arc<RequestCounts>) -> Self {
        Self {
            otherwise: IoClass::Start,
            ..Self::new(inner, counts)
        }
    }
}

#[async_trait]
impl ObjectStorage for Metered {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let _timer = Timer::start(RequestKind::Put);
        let _put = self.counts.begin_put(class);
        let bytes = body.iter().map(|part| part.len() as u64).sum();
        let asked = self.counts.reach.ask();
        let put = self.inner.put(key, body, mode, class).await;
        asked.ended(&put);
        let ended = put.as_ref().map(|_| bytes);
        self.counts.add(RequestKind::Put, class, ended);
        put
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let _timer = Timer::start(RequestKind::Get);
        let asked = self.counts.reach.ask();
        let got = self.inner.get(key, range, class).await;
        asked.ended(&got);
        let ended = got.as_ref().map(|got| got.len() as u64);
        self.counts.add(RequestKind::Get, class, ended);
        got
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let _timer = Timer::start(RequestKind::Get);
        let asked = self.counts.reach.ask();
        let got = self.inner.get_suffix(key, bytes, class).await;
        asked.ended(&got);
        let ended = got.as_ref().map(|(got, _)| got.len() as u64);
        self.counts.add(RequestKind::Get, class, ended);
        got
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        self.counts.add(RequestKind::List, self.otherwise, Ok(0));
        self.inner.list(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let _timer = Timer::start(RequestKind::Delete);
        let asked = self.counts.reach.ask();
        let deleted = self.inner.delete(keys).await;
        asked.ended(&deleted);
        let ended = deleted.as_ref().map(|()| 0);
        self.counts.add(RequestKind::Delete, self.otherwise, ended);
        deleted
    }
}

#[cfg(test)]
mod tests {
    use highwater_runtime::SeededRng;
    use highwater_types::NodeId;

    use super::*;
    use crate::{Gate, Hooked, MemoryStorage, Plan, probe};

    #[tokio::test]
    async fn a_sound_start_has_requests_of_its_own_and_none_that_failed() {
        let counts = Arc::new(RequestCounts::default());
        let store = Metered::at_start(Arc::new(MemoryStorage::default()), Arc::clone(&counts));
        let probed = probe::run(&store, NodeId(1), &SeededRng::from_seed(1)).await;
        assert!(probed.is_ok(), "{probed:?}");
        let asked = |kind, class| {
            let found = counts.snapshot().into_iter().find(|count| {
                let of = (count.kind, count.class);
                of == (kind, class)
            });
            found.map_or((0, 0), |count| (count.requests, count.failures))
        };
        assert_eq!(asked(RequestKind::Put, IoClass::Start), (30, 0));
        // four of these find nothing, because the probe has deleted the objects
        assert_eq!(asked(RequestKind::Get, IoClass::Start), (12, 0));
        for kind in [RequestKind::List, RequestKind::Delete] {
            assert_eq!(asked(kind, IoClass::Start), (1, 0), "{kind:?}");
        }
        for kind in KINDS {
            assert_eq!(asked(kind, IoClass::Compaction), (0, 0), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_put_that_is_late_is_told_by_its_class_until_it_has_its_answer() {
        let gate = Gate::default();
        let at = gate.clone();
        let held = Hooked::new(
            Arc::<MemoryStorage>::default(),
            move |request| match request.key.as_str() {
                "late" => Plan::pass().held(&at),
                _ => Plan::pass(),
            },
        );
        let counts = Arc::new(RequestCounts::default());
        let store = Metered::new(Arc::new(held), Arc::clone(&counts));
        let put = async |key: &str| {
            let key = ObjectKey::new(key);
            let put = store.put(&key, Vec::new(), PutMode::IfAbsent, IoClass::Wal);
            put.await.map(drop)
        };
        let late = async {
            gate.reached(1).await;
            tokio::time::sleep(Duration::from_secs(7)).await;
            put("fast").await.expect("is put");
            let told = [IoClass::Wal, IoClass::Upload].map(|class| counts.oldest_put(class));
            assert_eq!(told, [Some(Duration::from_secs(7)), None]);
            gate.open();
        };
        let (late_put, ()) = tokio::join!(put("late"), late);
        late_put.expect("is put");
        assert_eq!(counts.oldest_put(IoClass::Wal), None);
        // a put that is given up is no longer late
        let hung = Hooked::new(Arc::<MemoryStorage>::default(), |_| Plan::hang());
        let store = Metered::new(Arc::new(hung), Arc::clone(&counts));
        let key = ObjectKey::new("x");
        let put = store.put(&key, Vec::new(), PutMode::IfAbsent, IoClass::Wal);
        let given_up = tokio::time::timeout(Duration::from_secs(1), put).await;
        assert!(given_up.is_err());
        assert_eq!(counts.oldest_put(IoClass::Wal), None);
    }
}
