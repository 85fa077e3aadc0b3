//! The way from a host to its object store: it can be cut, and a put that a process has sent may land after the process.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use highwater_object_storage::{
    IoClass, MemoryStorage, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode,
    StorageError,
};
use highwater_runtime::SeededRng;

use crate::Trace;

/// The latest time at which a put lands whose process does not wait for it any more.
const LATE_MAX_MS: u64 = 5000;

/// A put that creates an object, as it is on its way.
#[derive(Debug, Clone)]
struct Sent {
    key: ObjectKey,
    body: Vec<Bytes>,
    class: IoClass,
    /// How long it takes to land if its process doesn't wait for it any more; `None` if it was not sent whole.
    late: Option<Duration>,
}

/// The objects, and the puts that are to land by themselves.
#[derive(Debug)]
pub(crate) struct Shore {
    objects: MemoryStorage,
    trace: Trace,
    puts: Mutex<Puts>,
}

#[derive(Debug, Default)]
struct Puts {
    /// How many were sent.
    count: u64,
    /// Those whose process does not wait for them any more, by their numbers. They have no time of their own, because
    /// there is no clock while a host ends.
    left: BTreeMap<u64, Sent>,
    /// Those that land at a time.
    late: BTreeMap<(Duration, u64), Sent>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shore {
    pub(crate) fn new(trace: Trace) -> Self {
        Self {
            objects: MemoryStorage::default(),
            trace,
            puts: Mutex::default(),
        }
    }

    /// Lets all puts land whose time has come. Nobody sees the objects between two requests, so that this is soon enough
    /// before each of them.
    fn land(&self) {
        let now = self.trace.now();
        let mut puts = lock(&self.puts);
        for (number, sent) in std::mem::take(&mut puts.left) {
            let after = sent.late.unwrap_or_default();
            puts.late.insert((now + after, number), sent);
        }
        while let Some(first) = puts.late.first_entry()
            && first.key().0 <= now
        {
            let Sent {
                key, body, class, ..
            } = first.remove();
            let put = self.objects.put(&key, body, PutMode::IfAbsent, class);
            let is_new = put.now_or_never().is_some_and(|put| put.is_ok());
            self.trace.event(&format_args!("lands late {key} {is_new}"));
        }
    }
}

#[async_trait]
impl ObjectStorage for Shore {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        self.land();
        self.objects.put(key, body, mode, class).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        self.land();
        self.objects.get(key, range, class).await
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        self.land();
        self.objects.get_suffix(key, bytes, class).await
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        self.land();
        self.objects.list(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.land();
        self.objects.delete(keys).await
    }
}

/// The way of one host. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Inner>);

struct Inner {
    shore: Arc<Shore>,
    /// The store with its faults, in front of the shore.
    store: Arc<dyn ObjectStorage>,
    rng: SeededRng,
    is_cut: AtomicBool,
    /// When the first request was made since the way was cut last.
    refused: Mutex<Option<Duration>>,
    /// The puts that the process waits for.
    waited: Mutex<BTreeMap<u64, Sent>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(crate) fn new(shore: &Arc<Shore>, store: &Arc<dyn ObjectStorage>, rng: SeededRng) -> Self {
        Self(Arc::new(Inner {
            shore: Arc::clone(shore),
            store: Arc::clone(store),
            rng,
            is_cut: AtomicBool::new(false),
            refused: Mutex::default(),
            waited: Mutex::default(),
        }))
    }

    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.0.is_cut.store(is_cut, Ordering::Relaxed);
        if is_cut {
            *lock(&self.0.refused) = None;
        }
    }

    /// When the first request was made since the way was cut last, if any.
    pub(crate) fn refused(&self) -> Option<Duration> {
        *lock(&self.0.refused)
    }

    /// Lets the puts that were sent whole land although the process stands still.
    pub(crate) fn stands_still(&self) {
        let mut left = lock(&self.0.shore.puts);
        for (number, sent) in lock(&self.0.waited).iter_mut() {
            if sent.late.is_some() {
                left.left.insert(*number, sent.clone());
                sent.late = None;
            }
        }
    }

    /// The store, unless the way is cut.
    fn store(&self, key: Option<&ObjectKey>) -> Result<&Arc<dyn ObjectStorage>, StorageError> {
        match self.0.is_cut.load(Ordering::Relaxed) {
            false => Ok(&self.0.store),
            true => {
                lock(&self.0.refused).get_or_insert(self.0.shore.trace.now());
                Err(StorageError::Failed {
                    key: key.map(ToString::to_string).unwrap_or_default(),
                    source: "no connection".into(),
                })
            }
        }
    }

    /// Notes that the process waits for a put.
    fn waits(&self, key: &ObjectKey, body: &[Bytes], class: IoClass) -> Waited<'_> {
        let late = Duration::from_millis(1 + self.0.rng.below(LATE_MAX_MS));
        let sent = Sent {
            key: key.clone(),
            body: body.to_vec(),
            class,
            late: (self.0.rng.below(2) == 0).then_some(late),
        };
        let number = {
            let mut puts = lock(&self.0.shore.puts);
            puts.count += 1;
            puts.count
        };
        lock(&self.0.waited).insert(number, sent);
        Waited { wire: self, number }
    }
}

/// A put that the process waits for. It is left to itself if it is dropped before its answer.
struct Waited<'a> {
    wire: &'a Wire,
    number: u64,
}

impl Waited<'_> {
    fn answered(self) {
        lock(&self.wire.0.waited).remove(&self.number);
    }
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        let sent = lock(&self.wire.0.waited).remove(&self.number);
        if let Some(sent) = sent.filter(|sent| sent.late.is_some()) {
            lock(&self.wire.0.shore.puts).left.insert(self.number, sent);
        }
    }
}

#[async_trait]
impl ObjectStorage for Wire {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let store = self.store(Some(key))?;
        // the program has no other puts of data
        if mode != PutMode::IfAbsent {
            return store.put(key, body, mode, class).await;
        }
        let waited = self.waits(key, &body, class);
        let put = store.put(key, body, mode, class).await;
        // a put whose outcome is unknown may be carried out later
        if !matches!(put, Err(StorageError::Unknown { .. })) {
            waited.answered();
        }
        put
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        self.store(Some(key))?.get(key, range, class).await
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        self.store(Some(key))?.get_suffix(key, bytes, class).await
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        match self.store(Some(prefix)) {
            Ok(store) => store.list(prefix, after),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.store(keys.first())?.delete(keys).await
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use highwater_object_storage::{Hooked, Plan};
    use tokio::time::{sleep, timeout};

    use super::*;

    async fn put(to: &Wire, number: u64) -> Result<(), StorageError> {
        let (key, body) = (key(number), vec![Bytes::from_static(b"body")]);
        let put = to.put(&key, body, PutMode::IfAbsent, IoClass::Wal);
        put.await.map(drop)
    }

    fn key(number: u64) -> ObjectKey {
        ObjectKey::new(format!("wal/{number}"))
    }

    /// How many of a hundred objects are in the store.
    async fn landed(shore: &Shore) -> usize {
        shore.land();
        shore.list(&ObjectKey::new("wal"), None).count().await
    }

    /// A store that never answers, and the way to it.
    fn silent() -> (Arc<Shore>, Wire) {
        let shore = Arc::new(Shore::new(Trace::default()));
        let hangs = Hooked::new(Arc::clone(&shore) as _, |_| Plan::hang());
        let store = Arc::new(hangs) as Arc<dyn ObjectStorage>;
        let wire = Wire::new(&shore, &store, SeededRng::from_seed(1));
        (shore, wire)
    }

    fn in_virtual_time(test: impl Future<Output = ()> + 'static) {
        let mut sim = turmoil::Builder::new()
            .simulation_duration(Duration::from_secs(60))
            .build();
        sim.client("test", async move {
            test.await;
            Ok(())
        });
        sim.run().expect("it ends");
    }

    #[test]
    fn half_of_the_puts_land_whose_process_waits_no_more_or_stands_still() {
        in_virtual_time(async {
            for stands_still in [false, true] {
                let (shore, wire) = silent();
                let all = join_all((0..100).map(|number| put(&wire, number)));
                let mut waiting = Box::pin(timeout(Duration::from_secs(30), all));
                let still = timeout(Duration::from_secs(9), &mut waiting).await;
                assert!(still.is_err() && landed(&shore).await == 0);
                match stands_still {
                    true => wire.stands_still(),
                    false => drop(waiting),
                }
                landed(&shore).await;
                sleep(Duration::from_millis(LATE_MAX_MS / 2)).await;
                let some = landed(&shore).await;
                sleep(Duration::from_millis(LATE_MAX_MS)).await;
                let most = landed(&shore).await;
                assert!(0 < some && some < most, "{some} of {most}");
                assert!((30..70).contains(&most), "{most}");
            }
        });
    }

    #[test]
    fn a_way_that_is_cut_takes_nothing_and_a_put_that_is_answered_does_not_land_again() {
        in_virtual_time(async {
            let shore = Arc::new(Shore::new(Trace::default()));
            let store = Arc::clone(&shore) as Arc<dyn ObjectStorage>;
            let wire = Wire::new(&shore, &store, SeededRng::from_seed(1));
            wire.set_cut(true);
            put(&wire, 0).await.expect_err("is cut");
            wire.set_cut(false);
            for number in 0..20 {
                put(&wire, number).await.expect("is put");
                wire.delete(&[key(number)]).await.expect("is deleted");
            }
            sleep(Duration::from_millis(2 * LATE_MAX_MS)).await;
            assert_eq!(landed(&shore).await, 0);
        });
    }
}
