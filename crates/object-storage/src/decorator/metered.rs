//! Counts requests: what a store costs.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use tokio::time::Instant;

use crate::metrics::{BYTES, REQUEST_SECONDS, REQUESTS};
use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// What a request does; the label `op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// A put.
    Put,
    /// A read of a range or of an object's end.
    Get,
    /// A listing; one for each call, whatever its pages.
    List,
    /// A deletion; one for each call, whatever its keys.
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
    }
}

const OK: &str = "ok";
const FAILED: &str = "failed";
const KINDS: [RequestKind; 4] = [
    RequestKind::Put,
    RequestKind::Get,
    RequestKind::List,
    RequestKind::Delete,
];
const CLASSES: [IoClass; 4] = [
    IoClass::Wal,
    IoClass::Upload,
    IoClass::ColdRead,
    IoClass::Compaction,
];

/// The requests of one kind and class since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// What they did.
    pub kind: RequestKind,
    /// Why. Listings and deletions count as [`IoClass::Compaction`].
    pub class: IoClass,
    /// How many, failed ones too: a store charges for them.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Bytes sent or received by those that did not.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

/// Counters by kind and class.
#[derive(Debug, Default)]
pub struct RequestCounts([[Cell; CLASSES.len()]; KINDS.len()]);

impl RequestCounts {
    /// The counts now, of every kind and class.
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
        KINDS.into_iter().zip(&self.0).flat_map(of).collect()
    }

    fn add(&self, kind: RequestKind, class: IoClass, bytes: Option<u64>) {
        let (op, reason) = (kind.label(), label(class));
        let outcome = if bytes.is_some() { OK } else { FAILED };
        metrics::counter!(REQUESTS, "op" => op, "class" => reason, "outcome" => outcome)
            .increment(1);
        metrics::counter!(BYTES, "op" => op, "class" => reason).increment(bytes.unwrap_or(0));
        let row = KINDS.iter().position(|of| *of == kind).unwrap_or_default();
        let column = CLASSES
            .iter()
            .position(|of| *of == class)
            .unwrap_or_default();
        let cell = &self.0[row][column];
        cell.requests.fetch_add(1, Ordering::Relaxed);
        match bytes {
            Some(bytes) => cell.bytes.fetch_add(bytes, Ordering::Relaxed),
            None => cell.failures.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// Shows what has not happened yet as zero: a gap could mean anything.
fn show_zeros() {
    for kind in KINDS {
        let classes = match kind {
            RequestKind::Put | RequestKind::Get => &CLASSES[..],
            RequestKind::List | RequestKind::Delete => &[IoClass::Compaction],
        };
        for (op, class) in classes.iter().map(|class| (kind.label(), label(*class))) {
            for outcome in [OK, FAILED] {
                metrics::counter!(REQUESTS, "op" => op, "class" => class, "outcome" => outcome)
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

/// A store whose requests are counted. A request that is dropped before its answer is not.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStorage>,
    counts: Arc<RequestCounts>,
}

impl Metered {
    /// Counts the requests to `inner`, in `counts` and as metrics, which are there from now on, at zero.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>, counts: Arc<RequestCounts>) -> Self {
        show_zeros();
        Self { inner, counts }
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
        let bytes = body.iter().map(|part| part.len() as u64).sum();
        let put = self.inner.put(key, body, mode, class).await;
        self.counts
            .add(RequestKind::Put, class, put.is_ok().then_some(bytes));
        put
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let _timer = Timer::start(RequestKind::Get);
        let got = self.inner.get(key, range, class).await;
        self.counts.add(
            RequestKind::Get,
            class,
            got.as_ref().ok().map(|got| got.len() as u64),
        );
        got
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let _timer = Timer::start(RequestKind::Get);
        let got = self.inner.get_suffix(key, bytes, class).await;
        let bytes = got.as_ref().ok().map(|(got, _)| got.len() as u64);
        self.counts.add(RequestKind::Get, class, bytes);
        got
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        self.counts
            .add(RequestKind::List, IoClass::Compaction, Some(0));
        self.inner.list(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let _timer = Timer::start(RequestKind::Delete);
        let deleted = self.inner.delete(keys).await;
        self.counts.add(
            RequestKind::Delete,
            IoClass::Compaction,
            deleted.is_ok().then_some(0),
        );
        deleted
    }
}
